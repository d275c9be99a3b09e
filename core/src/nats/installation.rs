//! The names of one of several installations in a NATS account. [`names`](crate::nats::names) has those of an installation
//! without a prefix. A prefix stands in them behind what all installations have in common, so all are reserved alike:
//! `HOOKWRIGHT_CONFIG` is `HOOKWRIGHT_EU_CONFIG` with the prefix `eu`, and `hookwright.dead.>` is `hookwright.eu.dead.>`.

use std::borrow::Cow;

use serde::Deserialize;

use crate::nats::ids::SubscriptionUid;
use crate::nats::names::{PARKED_AT_PREFIX, STREAM_PREFIX, SUBJECT_PREFIX};

/// The tokens behind [`SUBJECT_PREFIX`] in subjects without a prefix.
const TAKEN: [&str; 2] = ["parked", "dead"];

/// A text that can't be a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "installation.prefix {0:?} is not 1 to 16 of a-z and 0-9, beginning with a letter, or it is `parked` or `dead`"
)]
pub struct InvalidPrefix(String);

/// Makes the names of one installation of those without a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Option<String>")]
pub struct Names {
    prefix: Option<String>,
}

impl TryFrom<Option<String>> for Names {
    type Error = InvalidPrefix;

    fn try_from(prefix: Option<String>) -> Result<Self, InvalidPrefix> {
        let is_letter = |b: u8| b.is_ascii_lowercase();
        let is_prefix = |text: &str| {
            (1..=16).contains(&text.len())
                && text.bytes().all(|b| is_letter(b) || b.is_ascii_digit())
                && text.bytes().next().is_some_and(is_letter)
                && !TAKEN.contains(&text)
        };
        match prefix {
            Some(text) if !is_prefix(&text) => Err(InvalidPrefix(text.chars().take(80).collect())),
            prefix => Ok(Self { prefix }),
        }
    }
}

impl Names {
    /// The name of a stream or bucket, of the one without a prefix.
    #[must_use]
    pub fn stream<'a>(&self, plain: &'a str) -> Cow<'a, str> {
        match (&self.prefix, plain.strip_prefix(STREAM_PREFIX)) {
            (Some(prefix), Some(rest)) => format!("{STREAM_PREFIX}{}_{rest}", prefix.to_ascii_uppercase()).into(),
            _ => plain.into(),
        }
    }

    /// A subject or filter, of the one without a prefix.
    #[must_use]
    pub fn subject<'a>(&self, plain: &'a str) -> Cow<'a, str> {
        match (&self.prefix, plain.strip_prefix(SUBJECT_PREFIX)) {
            (Some(prefix), Some(rest)) => format!("{SUBJECT_PREFIX}{prefix}.{rest}").into(),
            _ => plain.into(),
        }
    }

    /// The Subscription of a subject that [`parked_at`](crate::nats::names::parked_at) makes, with the prefix; `None` for
    /// any other subject.
    #[must_use]
    pub fn parse_parked_at(&self, subject: &str) -> Option<SubscriptionUid> {
        let (uid, _) = subject.strip_prefix(&*self.subject(PARKED_AT_PREFIX))?.split_once('.')?;
        SubscriptionUid::parse(uid).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::names::{CONFIG_BUCKET, DEAD_LETTER_STREAM, DEAD_LETTER_SUBJECTS, PARKED_SUBJECTS};

    fn names(prefix: &str) -> Result<Names, InvalidPrefix> {
        Names::try_from(Some(prefix.to_owned()))
    }

    #[test]
    fn a_prefix_moves_all_names() {
        let (plain, eu) = (Names::default(), names("eu1").unwrap());
        assert_eq!(Names::try_from(None), Ok(plain.clone()));
        for (name, moved) in
            [(CONFIG_BUCKET, "HOOKWRIGHT_EU1_CONFIG"), (DEAD_LETTER_STREAM, "HOOKWRIGHT_EU1_DEAD_LETTERS")]
        {
            assert_eq!((&*plain.stream(name), &*eu.stream(name)), (name, moved));
        }
        for (subject, moved) in
            [(PARKED_SUBJECTS, "hookwright.eu1.parked.>"), (DEAD_LETTER_SUBJECTS, "hookwright.eu1.dead.>")]
        {
            assert_eq!((&*plain.subject(subject), &*eu.subject(subject)), (subject, moved));
        }
        let uid = SubscriptionUid::parse("s-1").unwrap();
        for (names, other) in [(&plain, &eu), (&eu, &plain)] {
            let subject = names.subject("hookwright.parked.at.s-1.x").into_owned();
            assert_eq!((names.parse_parked_at(&subject), other.parse_parked_at(&subject)), (Some(uid.clone()), None));
        }
    }

    #[test]
    fn what_can_not_be_a_prefix() {
        for bad in ["", "EU", "1eu", "eu-1", "eu.1", "a*", "parked", "dead", &"a".repeat(17)] {
            assert!(names(bad).is_err(), "{bad}");
        }
    }
}
