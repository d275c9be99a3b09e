//! The record of a disabled Subscription.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The record of a Subscription that is disabled: the value of `disabled.<subscription>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disabled {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The generation of the Subscription that is disabled. An edit makes a new generation, which is served again.
    pub generation: i64,
    /// The mark of the request to resume that the disabled spec has, see [`Flow::resume`](crate::position::Flow).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<u64>,
    /// Why it is disabled.
    #[serde(default)]
    pub why: DisabledFor,
    /// Since when.
    pub since: Timestamp,
    /// When the operator found that another spec has taken its place. It disables nothing any more, and failures before that
    /// count no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

/// Why a Subscription is disabled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisabledFor {
    /// The endpoint answered 410 Gone.
    #[default]
    EndpointGone,
    /// Deliveries have failed for as long as `disableAfter` allows.
    Failing,
}

impl Disabled {
    /// Whether the mark is about this spec: an edit, and a new request to resume, make another one.
    #[must_use]
    pub fn is_of(&self, generation: i64, resume: Option<u64>) -> bool {
        self.generation == generation && self.resume == resume
    }

    /// Whether it is this spec that is disabled. A mark that has ended disables nothing, also if the request to resume is
    /// taken back.
    #[must_use]
    pub fn disables(&self, generation: i64, resume: Option<u64>) -> bool {
        self.ended.is_none() && self.is_of(generation, resume)
    }

    /// Whether the mark takes the place of another one: it is about a newer spec, or says something newer about the same.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        let changed = self.ended.is_some() != other.ended.is_some();
        let is_newer = changed && self.ended.unwrap_or(self.since) >= other.ended.unwrap_or(other.since);
        self.generation > other.generation
            || self.generation == other.generation && (self.resume != other.resume || is_newer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_disables_its_spec_until_it_has_ended() {
        let t = |second| Timestamp::from_second(second).unwrap();
        let mark = |generation, resume, since, ended: Option<i64>| Disabled {
            version: 1,
            generation,
            resume,
            why: DisabledFor::default(),
            since: t(since),
            ended: ended.map(t),
        };
        let disabled = mark(2, None, 10, None);
        assert!(disabled.disables(2, None) && !disabled.disables(3, None) && !disabled.disables(2, Some(7)));
        let ended = mark(2, None, 10, Some(20));
        assert!(!ended.disables(2, None), "the request to resume was taken back");
        for (new, old, replaces) in [
            (&disabled, &disabled, false),
            (&ended, &disabled, true),
            // It comes late.
            (&disabled, &ended, false),
            (&mark(2, None, 30, None), &ended, true),
            // Two dispatchers had the same answer.
            (&mark(2, None, 11, None), &disabled, false),
            (&ended, &mark(2, None, 11, None), true),
            (&mark(2, Some(7), 10, None), &ended, true),
            (&mark(3, None, 5, None), &ended, true),
            (&mark(1, None, 99, None), &ended, false),
        ] {
            assert_eq!(new.replaces(old), replaces, "{new:?} {old:?}");
        }
    }
}
