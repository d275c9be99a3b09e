//! How long an object waits after its reconcile failed. The wait doubles from 2 s to 60 s for each object.

use std::collections::HashMap;
use std::time::Duration;

use crate::cache::shared::Shared;

const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);

/// The number of failures in a row, by the object's uid.
#[derive(Default)]
pub(crate) struct Failures(Shared<HashMap<String, u32>>);

impl Failures {
    /// Counts a failure, and returns how long to wait.
    pub(crate) fn failed(&self, uid: &str) -> Duration {
        let mut failures = self.0.lock();
        let count = failures.entry(uid.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        wait(*count)
    }

    pub(crate) fn succeeded(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

fn wait(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST)
}

/// Returns a time between half of `time` and all of it, so that objects that were made together aren't looked at
/// together.
pub(crate) fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_a_minute() {
        let waits: Vec<u64> = [1, 2, 3, 5, 6, u32::MAX].map(|n| wait(n).as_secs()).to_vec();
        assert_eq!(waits, [2, 4, 8, 32, 60, 60]);
        let failures = Failures::default();
        failures.failed("a");
        assert_eq!(failures.failed("a").as_secs(), 4);
        failures.succeeded("a");
        assert_eq!(failures.failed("a").as_secs(), 2);
    }
}
