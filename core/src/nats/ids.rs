//! Kubernetes uids as parts of NATS subjects, KV keys and delivery ids.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that is not a Kubernetes uid, or can't stand in a NATS subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a uid: 1 to 64 of a-z, 0-9 and '-'")]
pub struct InvalidUid(String);

fn check(text: &str) -> Result<(), InvalidUid> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(InvalidUid(text.chars().take(80).collect()))
    }
}

macro_rules! uid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads the uid of a Kubernetes object.
            ///
            /// # Errors
            /// If the text has other characters than a-z, 0-9 and `-`, or is not 1 to 64 characters long.
            pub fn parse(text: &str) -> Result<Self, InvalidUid> {
                check(text).map(|()| Self(text.to_owned()))
            }

            /// The uid as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidUid;
            fn try_from(text: String) -> Result<Self, InvalidUid> {
                check(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(uid: $name) -> String {
                uid.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

uid! {
    /// The Kubernetes uid of a `Subscription`.
    SubscriptionUid
}
uid! {
    /// The Kubernetes uid of a `Producer`.
    ProducerUid
}
uid! {
    /// The Kubernetes uid of an `EventSchema`.
    EventSchemaUid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_a_subject_token() {
        assert!(SubscriptionUid::parse("0e9a4a6e-6f0f-4a3e-9d6c-1f2e3d4c5b6a").is_ok());
        for bad in ["", "a.b", "a*", "A", "a b", ">", &"a".repeat(65)] {
            assert!(SubscriptionUid::parse(bad).is_err(), "{bad}");
        }
    }
}
