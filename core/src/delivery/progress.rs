//! The progress of a delivery.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::delivery::outcome::AttemptRecord;

/// How many of its last attempts a delivery remembers.
pub const HISTORY: usize = 16;

/// The progress of a delivery: its failed attempts and its parks so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Progress {
    /// The number of failed attempts.
    pub attempts: u32,
    /// The number of parks in a row because the delivery got no attempt, for example from a full lane. A park is not an
    /// attempt.
    pub parks: u32,
    /// How often the dispatcher's work on the delivery has panicked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub panics: u32,
    /// The number of parks in a row for which neither the endpoint nor the Subscription is to blame.
    #[serde(default)]
    pub waits: u32,
    /// Whether the delivery is a probe: it is attempted although the endpoint's breaker is open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probe: bool,
    /// When the first attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_attempt: Option<Timestamp>,
    /// No attempt follows one that ends at or after this time; `None` if there is no such limit, or none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The last [`HISTORY`] failed attempts, oldest first.
    pub history: Vec<AttemptRecord>,
}

fn is_zero(panics: &u32) -> bool {
    *panics == 0
}

impl Progress {
    /// Counts and remembers a failed attempt.
    pub fn failed(&mut self, attempt: AttemptRecord) {
        self.attempts = self.attempts.saturating_add(1);
        self.parks = 0;
        self.waits = 0;
        self.first_attempt.get_or_insert(attempt.time);
        if self.history.len() >= HISTORY {
            self.history.remove(0);
        }
        self.history.push(attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::outcome::OutcomeKind;

    #[test]
    fn remembers_the_last_attempts() {
        let mut progress = Progress { parks: 3, ..Default::default() };
        let t = |s| Timestamp::from_second(s).unwrap();
        for second in 0..20 {
            progress.failed(AttemptRecord { time: t(second), outcome: OutcomeKind::TimedOut, http_status: None });
        }
        assert_eq!((progress.attempts, progress.parks, progress.history.len()), (20, 0, HISTORY));
        assert_eq!((progress.first_attempt, progress.history[0].time), (Some(t(0)), t(4)));
    }
}
