//! How slow this dispatcher itself is, short of CPU: what waits because of that is not held against an endpoint.
//!
//! A task that is due regularly comes late when the processors are busy. An attempt is a few such tasks, so an endpoint that
//! answers at once seems to take a multiple of that lateness. Where an endpoint takes no longer, the dispatcher is what is
//! slow: its deliveries go on waiting instead of being parked, as a park costs more CPU than waiting, and less is read ahead.

use std::time::Duration;

/// A delivery that has not started this long after it was received is parked.
pub(crate) const START_WITHIN: Duration = Duration::from_secs(5);
/// A delivery that has not started after this long is parked, also if the dispatcher is what is slow.
pub(crate) const MOST_PATIENT: Duration = Duration::from_secs(60);
/// How many times an attempt is put off by what a regular task is late.
const TURNS: u32 = 20;
/// Below this, what waits is hardly put off by the dispatcher.
const SLOW: Duration = Duration::from_millis(100);
/// The lateness that is remembered becomes less by this part at each measurement: by half in about two seconds.
const FORGET: u32 = 64;

/// The lateness of late.
#[derive(Debug, Default)]
pub(crate) struct Slowness(Duration);

/// How long attempts may take because of this dispatcher; none if it is not slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Allowance(Option<Duration>);

impl Slowness {
    /// Takes a measurement: how late a regular task was.
    pub(crate) fn measured(&mut self, late: Duration) -> Allowance {
        self.0 = late.max(self.0 - self.0 / FORGET);
        Allowance(Some(self.0 * TURNS).filter(|allowance| *allowance >= SLOW))
    }
}

impl Allowance {
    /// Whether the dispatcher is slow.
    pub(crate) fn is_slow(self) -> bool {
        self.0.is_some()
    }

    /// Whether the slowness of the dispatcher explains that attempts take this long.
    pub(crate) fn explains(self, took: Duration) -> bool {
        self.0.is_some_and(|allowance| took <= allowance)
    }

    /// How long; zero if the dispatcher is not slow.
    pub(crate) fn duration(self) -> Duration {
        self.0.unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn of(duration: Duration) -> Self {
        Self(Some(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_counts_for_a_few_seconds() {
        let millis = Duration::from_millis;
        let mut slowness = Slowness::default();
        assert!(!slowness.measured(millis(4)).is_slow());
        let allowance = slowness.measured(millis(50));
        assert!(allowance.explains(millis(1000)) && !allowance.explains(millis(1001)));
        // Forty measurements are two seconds.
        let later = (0..40).map(|_| slowness.measured(Duration::ZERO)).last().unwrap();
        assert!((millis(450)..millis(600)).contains(&later.duration()), "{later:?}");
        let later = (0..400).map(|_| slowness.measured(Duration::ZERO)).last().unwrap();
        assert_eq!(later, Allowance::default());
    }
}
