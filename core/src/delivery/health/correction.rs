//! The correction of the count of waiting deliveries. The counts of a dispatcher that died may lack the deliveries that
//! it parked or took up last. The stream of parked deliveries holds the deliveries that really wait.

use super::Waiting;

/// One look at a Subscription: at the stream of parked deliveries first, and then at the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The number of waiting deliveries in the stream.
    pub waiting: i64,
    /// The waiting deliveries by the counts. Negative if a dispatcher died before it had written what it parked.
    pub counted: Waiting,
    /// A number that changes with each change of the counts.
    pub changes: u64,
}

/// Two looks at a Subscription. They lie further apart than dispatchers take to write their counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// The earlier look.
    pub first: Look,
    /// The later look.
    pub second: Look,
}

/// How many pairs of looks in a row have to find a drift in the same direction before the counts are corrected under
/// traffic.
const AGREEING_PAIRS: u32 = 3;

/// The drift that pairs of looks under traffic have found so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Suspicion {
    drift: i64,
    pairs: u32,
}

impl Suspicion {
    /// By how much the count of waiting deliveries has to change; nothing if it is right.
    ///
    /// If nothing changed between two looks, the counts are complete and the difference is exact. Under traffic, the
    /// counts lag behind the stream. Then the correction is the smallest drift that three pairs of looks in a row saw,
    /// if all of them saw one in the same direction.
    pub fn correction(&mut self, looks: Looks) -> Waiting {
        let drift = |look: Look| look.waiting - look.counted.deliveries;
        let (first, second) = (drift(looks.first), drift(looks.second));
        if looks.first == looks.second {
            *self = Self::default();
            return estimated(second, looks.second.counted);
        }
        let least = least(first, second);
        let seen = if self.pairs == 0 { least } else { self::least(self.drift, least) };
        if seen == 0 {
            *self = Self::default();
            return Waiting::default();
        }
        *self = Self { drift: seen, pairs: self.pairs + 1 };
        if self.pairs < AGREEING_PAIRS {
            return Waiting::default();
        }
        *self = Self::default();
        estimated(seen, looks.second.counted)
    }
}

/// The drift with an estimate of the rest. The stream tells how many deliveries wait, but neither how large they are nor
/// how many had an attempt. So the deliveries to add or remove are assumed to be as large as the others on average. If
/// none remain, no bytes remain; and not more have had no attempt than wait.
fn estimated(drift: i64, counted: Waiting) -> Waiting {
    let left = counted.deliveries + drift;
    let bytes = if left <= 0 || counted.bytes < 0 {
        counted.bytes.saturating_neg()
    } else if counted.deliveries > 0 {
        drift.saturating_mul(counted.bytes / counted.deliveries)
    } else {
        0
    };
    let unattempted = counted.unattempted.clamp(0, left.max(0)).saturating_sub(counted.unattempted);
    Waiting { deliveries: drift, bytes, unattempted }
}

/// The number that is nearer to 0, if both have the same sign; else 0.
fn least(a: i64, b: i64) -> i64 {
    if a.signum() != b.signum() {
        0
    } else if a.abs() < b.abs() {
        a
    } else {
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(first: (i64, i64, u64), second: (i64, i64, u64)) -> Looks {
        let look = |(waiting, deliveries, changes)| Look {
            waiting,
            counted: Waiting { deliveries, bytes: deliveries * 10, unattempted: 0 },
            changes,
        };
        Looks { first: look(first), second: look(second) }
    }

    #[test]
    fn correction_table() {
        for (rows, want) in [
            (vec![looks((5, 5, 1), (5, 5, 1))], 0),
            (vec![looks((5, 3, 1), (5, 3, 1))], 2),
            (vec![looks((0, 7, 1), (0, 7, 1))], -7),
            (vec![looks((0, -2, 1), (0, -2, 1))], 2),
            // Something moved: counts that are not written yet look like a drift.
            (vec![looks((5, 3, 1), (5, 5, 2))], 0),
            (vec![looks((5, 3, 1), (5, 3, 2))], 0),
            (vec![looks((5, 3, 1), (6, 3, 1))], 0),
            // Under traffic, the counts stay off in the same direction.
            (vec![looks((9, 3, 1), (9, 4, 2)), looks((9, 5, 3), (8, 3, 4)), looks((7, 3, 5), (9, 3, 6))], 4),
            (vec![looks((9, 3, 1), (9, 4, 2)), looks((3, 5, 3), (8, 3, 4)), looks((7, 3, 5), (9, 3, 6))], 0),
            (vec![looks((9, 3, 1), (9, 4, 2)), looks((0, 1, 3), (0, 1, 4)), looks((7, 3, 5), (9, 3, 6))], 0),
        ] {
            let mut suspicion = Suspicion::default();
            let corrected: Vec<i64> = rows.iter().map(|looks| suspicion.correction(*looks).deliveries).collect();
            assert_eq!(corrected.iter().sum::<i64>(), want, "{rows:?}: {corrected:?}");
        }
    }

    #[test]
    fn bytes_follow_the_deliveries() {
        for ((deliveries, bytes), waiting, want) in [
            ((5, 500), 5, (0, 0)),
            ((5, 500), 3, (-2, -200)),
            ((5, 500), 7, (2, 200)),
            ((5, 500), 0, (-5, -500)),
            // The deliveries have gone, and had other sizes than were counted.
            ((0, 70), 0, (0, -70)),
            ((0, -70), 0, (0, 70)),
            // The sizes are unknown.
            ((0, 0), 4, (4, 0)),
            ((-2, -200), 4, (6, 200)),
            ((3, -10), 3, (0, 10)),
        ] {
            let look = Look { waiting, counted: Waiting { deliveries, bytes, unattempted: 0 }, changes: 1 };
            let got = Suspicion::default().correction(Looks { first: look, second: look });
            assert_eq!((got.deliveries, got.bytes), want, "{deliveries} with {bytes} bytes for {waiting}");
        }
    }

    #[test]
    fn not_more_had_no_attempt_than_wait() {
        for (deliveries, unattempted, waiting, want) in [(5, 3, 5, 0), (5, 3, 2, -1), (5, 3, 0, -3), (5, -2, 5, 2)] {
            let look = Look { waiting, counted: Waiting { deliveries, bytes: 0, unattempted }, changes: 1 };
            let got = Suspicion::default().correction(Looks { first: look, second: look });
            assert_eq!(got.unattempted, want, "{unattempted} of {deliveries}, {waiting} wait");
        }
    }
}
