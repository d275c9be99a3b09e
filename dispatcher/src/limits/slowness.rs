//! How slow this dispatcher itself is because it lacks CPU. Its own slowness is not held against an endpoint.
//!
//! A regular task starts late when the processors are busy. An attempt consists of several such tasks, so an endpoint
//! that answers at once seems to take a multiple of that lateness. If an endpoint takes no longer than that, the
//! dispatcher is what is slow. Then deliveries to it go on waiting instead of being parked, because a park costs more
//! CPU than waiting, and the dispatcher reads less ahead.

use std::time::Duration;

/// A delivery that has not started this long after it was received is parked.
pub(crate) const START_WITHIN: Duration = Duration::from_secs(5);
/// A delivery that has not started after this long is parked even if the dispatcher itself is slow.
pub(crate) const START_WITHIN_WHEN_SLOW: Duration = Duration::from_secs(60);
/// How many times the lateness of a regular task an attempt may be delayed.
const TURNS: u32 = 20;
/// A smaller allowance counts as none: the dispatcher then hardly delays anything.
const SLOW: Duration = Duration::from_millis(100);
/// The largest allowance: a pause of the whole machine says nothing about the time after it.
const MOST: Duration = Duration::from_secs(2);
/// Each measurement reduces the remembered lateness by one part in this many, so it halves in about two seconds.
const FORGET: u32 = 64;

/// How late regular tasks have started lately.
#[derive(Debug, Default)]
pub(crate) struct Slowness(Duration);

/// How long attempts may take because this dispatcher is slow; `None` if it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Allowance(Option<Duration>);

impl Slowness {
    /// Takes a measurement of how late a regular task started.
    pub(crate) fn measured(&mut self, late: Duration) -> Allowance {
        self.0 = late.min(MOST / TURNS).max(self.0 - self.0 / FORGET);
        Allowance(Some(self.0 * TURNS).filter(|allowance| *allowance >= SLOW))
    }
}

impl Allowance {
    /// Whether the dispatcher is slow.
    pub(crate) fn is_slow(self) -> bool {
        self.0.is_some()
    }

    /// Whether the dispatcher's slowness explains that attempts take this long.
    pub(crate) fn explains(self, took: Duration) -> bool {
        self.0.is_some_and(|allowance| took <= allowance)
    }

    /// The allowance; zero if the dispatcher is not slow.
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
        // Forty measurements take two seconds.
        let later = (0..40).map(|_| slowness.measured(Duration::ZERO)).last().unwrap();
        assert!((millis(450)..millis(600)).contains(&later.duration()), "{later:?}");
        assert_eq!(slowness.measured(Duration::from_secs(30)).duration(), MOST, "a pause of the machine");
        let later = (0..400).map(|_| slowness.measured(Duration::ZERO)).last().unwrap();
        assert_eq!(later, Allowance::default());
    }
}
