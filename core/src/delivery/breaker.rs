//! The breaker of an endpoint: after many failures in a row nothing but probes are attempted.

use std::time::Duration;

use crate::delivery::backoff::Jitter;
use crate::nats::delivery_id::DeliveryId;

/// How many different deliveries have to fail in a row before the breaker opens. Attempts at the same delivery count
/// once: one event that the receiver can't take says nothing about the others.
pub const FAILURES: usize = 10;
/// The wait before the first probe, and the longest one. It doubles with each probe that fails.
const PROBE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Counts the failures in a row of different deliveries.
#[derive(Debug, Default)]
pub struct Failures {
    failed: Vec<DeliveryId>,
}

impl Failures {
    /// Counts a failed attempt. Returns whether so many deliveries have failed in a row that the breaker opens.
    pub fn failed(&mut self, id: &DeliveryId) -> bool {
        if self.failed.len() < FAILURES && !self.failed.contains(id) {
            self.failed.push(id.clone());
        }
        self.failed.len() >= FAILURES
    }

    /// Counts a success.
    pub fn succeeded(&mut self) {
        self.failed = Vec::new();
    }
}

/// The wait before the next probe, after this many probes in a row have failed, varied by 20 % both ways.
#[must_use]
pub fn probe_after(failed: u32, jitter: Jitter) -> Duration {
    jitter.vary((PROBE.0 * (1 << failed.min(16))).min(PROBE.1), 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> DeliveryId {
        crate::nats::delivery_id::DeliveryKey {
            subscription: &crate::nats::ids::SubscriptionUid::parse("s").unwrap(),
            stream: "S",
            stream_created: jiff::Timestamp::UNIX_EPOCH,
            sequence: n as u64,
            stored: jiff::Timestamp::UNIX_EPOCH,
        }
        .id()
    }

    #[test]
    fn different_deliveries_in_a_row_open_the_breaker() {
        let mut failures = Failures::default();
        assert!((0..50).all(|_| !failures.failed(&id(1))), "the same delivery, again and again");
        assert!((2..FAILURES).all(|n| !failures.failed(&id(n))));
        failures.succeeded();
        assert!((1..FAILURES).all(|n| !failures.failed(&id(n))));
        assert!(failures.failed(&id(0)) && failures.failed(&id(0)));
    }

    #[test]
    fn probes_become_rare() {
        let waits = [0, 1, 2, 5, 6, u32::MAX].map(|failed| probe_after(failed, Jitter::new(0.5)).as_secs());
        assert_eq!(waits, [5, 10, 20, 160, 300, 300]);
    }
}
