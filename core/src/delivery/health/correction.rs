//! How far the count of what waits is off: the counts of a dispatcher that died may lack what it parked or took up
//! last, and what really waits is in the stream of parked deliveries.

use super::Waiting;

/// One look at a subscription: the stream, and then the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// What waits, by the stream.
    pub waiting: i64,
    /// What waits, by the counts; negative when a dispatcher died that parked.
    pub counted: Waiting,
    /// Moves with each change of the counts.
    pub changes: u64,
}

/// Two looks, further apart than dispatchers take to write what they have counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// The first.
    pub first: Look,
    /// The second.
    pub second: Look,
}

/// After this many pairs of looks that agree on the direction, traffic or not, the counts are off.
const PATIENCE: u32 = 3;

/// What was found in busy times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Suspicion {
    drift: i64,
    pairs: u32,
}

impl Suspicion {
    /// By how much the count of what waits has to change; by nothing if it is right.
    ///
    /// If nothing changed between two looks, the counts are complete and the difference is exact. Under traffic, counts
    /// lag behind the stream; then only what several pairs of looks agree on is corrected: the least that any of them saw.
    pub fn correction(&mut self, looks: Looks) -> Waiting {
        let drift = |look: Look| look.waiting - look.counted.deliveries;
        let (first, second) = (drift(looks.first), drift(looks.second));
        if looks.first == looks.second {
            *self = Self::default();
            return with_bytes(second, looks.second.counted);
        }
        let least = least(first, second);
        let seen = if self.pairs == 0 { least } else { self::least(self.drift, least) };
        if seen == 0 {
            *self = Self::default();
            return Waiting::default();
        }
        *self = Self { drift: seen, pairs: self.pairs + 1 };
        if self.pairs < PATIENCE {
            return Waiting::default();
        }
        *self = Self::default();
        with_bytes(seen, looks.second.counted)
    }
}

/// The stream tells how many wait, not how large they are. So those that are too many or missing are taken to be as
/// large as the others are on average; nothing has no bytes.
const fn with_bytes(drift: i64, counted: Waiting) -> Waiting {
    let bytes = if counted.deliveries + drift <= 0 || counted.bytes < 0 {
        counted.bytes.saturating_neg()
    } else if counted.deliveries > 0 {
        drift.saturating_mul(counted.bytes / counted.deliveries)
    } else {
        0
    };
    Waiting { deliveries: drift, bytes }
}

/// The one nearer to 0, if both are on the same side of it.
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
            counted: Waiting { deliveries, bytes: deliveries * 10 },
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
            // Something moved: what is not written yet looks like a drift.
            (vec![looks((5, 3, 1), (5, 5, 2))], 0),
            (vec![looks((5, 3, 1), (5, 3, 2))], 0),
            (vec![looks((5, 3, 1), (6, 3, 1))], 0),
            // It keeps moving, and it keeps being off on the same side.
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
            // What waited has gone, and was of other sizes than what was counted.
            ((0, 70), 0, (0, -70)),
            ((0, -70), 0, (0, 70)),
            // Of unknown sizes.
            ((0, 0), 4, (4, 0)),
            ((-2, -200), 4, (6, 200)),
            ((3, -10), 3, (0, 10)),
        ] {
            let look = Look { waiting, counted: Waiting { deliveries, bytes }, changes: 1 };
            let got = Suspicion::default().correction(Looks { first: look, second: look });
            assert_eq!((got.deliveries, got.bytes), want, "{deliveries} with {bytes} bytes for {waiting}");
        }
    }
}
