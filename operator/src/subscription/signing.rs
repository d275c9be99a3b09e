//! The generated signing keys: which sign, and how one takes the place of another.
//!
//! A new value of the annotation `hookwright.dev/rotate-signing-key` asks for a new key, in a Secret of its own. The
//! former key signs beside it for a while, so that a receiver can learn the new one, and then its Secret is removed. The
//! status says how far this has come. It is written last: an operator that dies before finds the same Secret again.

use std::time::Duration;

use hookwright_core::delivery::test_delivery::shown;
use hookwright_crds::{DEFAULT_SIGNING_KEY, ROTATE_SIGNING_KEY, SecretKeyRef, SigningStatus, Subscription};
use hookwright_crds::{RotationStatus, SigningKey, SigningKeyStatus, signing_secret_name};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

/// How many generated keys sign at most, the new one included, however often it is asked for one.
const MOST: usize = 3;

/// How many keys the status shows at most.
const SHOWN: usize = 8;

/// A generated key that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Former {
    /// The name of its Secret.
    pub(crate) secret: String,
    /// Until when it signs.
    pub(crate) until: Timestamp,
}

/// The generated keys of a Subscription whose spec names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GeneratedKeys {
    /// The name of the Secret with the key that signs until further notice.
    pub(crate) current: String,
    /// The keys that sign beside it, the last one first.
    pub(crate) former: Vec<Former>,
    /// The Secrets whose keys no longer sign. They are to be removed.
    pub(crate) expired: Vec<Former>,
    rotation: Option<RotationStatus>,
}

/// Returns which generated keys sign `now`, if the spec names none. A key that is replaced signs for `overlap` more.
pub(crate) fn generated(subscription: &Subscription, now: Timestamp, overlap: Duration) -> Option<GeneratedKeys> {
    if subscription.spec.signing.is_some() {
        return None;
    }
    let base = signing_secret_name(&subscription.name_any());
    let asked = subscription.annotations().get(ROTATE_SIGNING_KEY).filter(|value| !value.is_empty());
    let asked = asked.map(|value| shown(value));
    let status = subscription.status.as_ref();
    let signing = status.and_then(|status| status.signing.as_ref());
    let known = signing.and_then(|signing| signing.rotation.clone());
    // Before the first reconcile there is no key that could be replaced.
    let is_new = status.and_then(|status| status.observed_generation).is_none_or(|seen| seen < 0);
    let number = known.as_ref().map_or(0, |known| known.number);
    let is_asked =
        !is_new && asked.as_ref().is_some_and(|asked| known.as_ref().is_none_or(|known| known.requested != *asked));
    let mut former = former(signing);
    let current = secret_name(&base, number);
    let (current, rotation) = if is_asked {
        let until = now.checked_add(overlap).unwrap_or(Timestamp::MAX);
        former.insert(0, Former { secret: current, until });
        let number = number.saturating_add(1);
        let requested = asked.unwrap_or_default();
        (secret_name(&base, number), Some(RotationStatus { requested, number }))
    } else if is_new {
        (current, asked.map(|requested| RotationStatus { requested, number }))
    } else {
        (current, known)
    };
    let mut signs = 1;
    let (former, expired) = former.into_iter().partition(|former| {
        signs += 1;
        former.until > now && signs <= MOST
    });
    Some(GeneratedKeys { current, former, expired, rotation })
}

/// Returns the former keys that the status knows of.
fn former(signing: Option<&SigningStatus>) -> Vec<Former> {
    let keys = signing.into_iter().flat_map(|signing| &signing.keys);
    let former = keys
        .filter_map(|key| Some(Former { secret: key.secret_key_ref.name.clone(), until: key.signs_until.as_ref()?.0 }));
    former.collect()
}

fn secret_name(base: &str, number: i64) -> String {
    if number == 0 { base.to_owned() } else { format!("{base}-{number}") }
}

impl GeneratedKeys {
    /// Returns the names of the Secrets whose keys sign, the current one first.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.current.as_str()).chain(self.former.iter().map(|former| former.secret.as_str()))
    }

    /// Returns how long after `now` the next key expires.
    pub(crate) fn next_in(&self, now: Timestamp) -> Option<Duration> {
        let next = self.former.iter().map(|former| former.until).min()?;
        Some(Duration::try_from(next - now).unwrap_or_default())
    }

    /// Returns a Subscription's first key.
    #[cfg(test)]
    pub(crate) fn first(name: &str) -> Self {
        Self { current: signing_secret_name(name), former: Vec::new(), expired: Vec::new(), rotation: None }
    }

    /// Returns the keys for the status. What has expired stays there until its Secret is removed.
    fn status(&self) -> SigningStatus {
        let key = |secret: &str, until: Option<Timestamp>| SigningKeyStatus {
            secret_key_ref: SecretKeyRef { name: secret.to_owned(), key: DEFAULT_SIGNING_KEY.to_owned() },
            signs_until: until.map(Time),
        };
        let former = self.former.iter().chain(&self.expired).map(|former| key(&former.secret, Some(former.until)));
        let keys = std::iter::once(key(&self.current, None)).chain(former).take(SHOWN).collect();
        SigningStatus { keys, rotation: self.rotation.clone() }
    }
}

/// Returns the keys for the status: the generated ones, or those that the spec names.
pub(crate) fn status(subscription: &Subscription, generated: Option<&GeneratedKeys>) -> SigningStatus {
    if let Some(generated) = generated {
        return generated.status();
    }
    let given = subscription.spec.signing.iter().flat_map(|signing| &signing.keys);
    let key = |key: &SigningKey| SigningKeyStatus { secret_key_ref: key.secret_key_ref.clone(), signs_until: None };
    let before = subscription.status.as_ref().and_then(|status| status.signing.as_ref());
    SigningStatus { keys: given.map(key).collect(), rotation: before.and_then(|before| before.rotation.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookwright_crds::SubscriptionStatus;
    use serde_json::json;

    const HOUR: Duration = Duration::from_secs(3600);

    fn subscription(asked: Option<&str>, status: Option<SigningStatus>) -> Subscription {
        let annotations = asked.map(|asked| json!({ ROTATE_SIGNING_KEY: asked }));
        let mut object: Subscription = serde_json::from_value(json!({
            "metadata": { "name": "billing", "annotations": annotations },
            "spec": { "producerRef": { "name": "orders" }, "endpoint": { "url": "https://example.com/" },
                      "eventTypes": [{ "type": ">" }] },
        }))
        .unwrap();
        object.status = status.map(|signing| SubscriptionStatus {
            observed_generation: Some(1),
            signing: Some(signing),
            ..SubscriptionStatus::default()
        });
        object
    }

    /// Looks at the hours one after another, with the annotation's value at each. Returns the Secrets that sign and those
    /// to be removed, which are removed at once.
    fn follow(hours: &[(u64, Option<&str>)]) -> Vec<(String, String)> {
        let mut status = None;
        let mut seen = Vec::new();
        for (hour, asked) in hours {
            let now = Timestamp::UNIX_EPOCH + HOUR * u32::try_from(*hour).unwrap();
            let mut keys = generated(&subscription(*asked, status.take()), now, HOUR * 24).unwrap();
            let again = subscription(*asked, Some(keys.status()));
            let repeated = generated(&again, now, HOUR * 24).unwrap();
            assert_eq!((&repeated.current, &repeated.former), (&keys.current, &keys.former), "it is done once");
            assert_eq!(repeated.expired, keys.expired, "until it is done, it is known what to remove");
            let expired: Vec<_> = keys.expired.iter().map(|former| former.secret.as_str()).collect();
            seen.push((keys.secrets().collect::<Vec<_>>().join(" "), expired.join(" ")));
            keys.expired.clear();
            status = Some(keys.status());
        }
        seen
    }

    #[test]
    fn a_new_value_brings_a_new_key_and_the_former_signs_for_a_day() {
        let hours = [
            (0, None),
            (1, Some("a")),
            (2, Some("a")),
            (24, None),
            (25, None),
            (26, Some("a")),
            (27, Some("b")),
            (51, Some("b")),
        ];
        let want = [
            ("billing-signing", ""),
            ("billing-signing-1 billing-signing", ""),
            ("billing-signing-1 billing-signing", ""),
            ("billing-signing-1 billing-signing", ""),
            ("billing-signing-1", "billing-signing"),
            ("billing-signing-1", ""),
            ("billing-signing-2 billing-signing-1", ""),
            ("billing-signing-2", "billing-signing-1"),
        ];
        assert_eq!(follow(&hours), want.map(|(signs, expired)| (signs.to_owned(), expired.to_owned())));
    }

    #[test]
    fn the_value_that_a_subscription_is_created_with_asks_for_nothing_and_no_more_than_three_keys_sign() {
        let hours = [(0, Some("a")), (1, Some("a")), (2, Some("b")), (3, Some("c")), (4, Some("d"))];
        let want = [
            ("billing-signing", ""),
            ("billing-signing", ""),
            ("billing-signing-1 billing-signing", ""),
            ("billing-signing-2 billing-signing-1 billing-signing", ""),
            ("billing-signing-3 billing-signing-2 billing-signing-1", "billing-signing"),
        ];
        assert_eq!(follow(&hours), want.map(|(signs, expired)| (signs.to_owned(), expired.to_owned())));
    }
}
