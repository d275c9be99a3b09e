//! Compares every input with every output.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::figure::Figure;
use crate::sink::Receipt;

/// A wanted delivery: the number of an endpoint and the number of an event.
pub(crate) type Wanted = (u32, u64);

/// The result of comparing wanted deliveries with the webhooks that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) wanted: usize,
    /// Deliveries that their endpoint never accepted.
    pub(crate) lost: usize,
    /// Acceptances of deliveries that were accepted before.
    pub(crate) duplicates: usize,
    /// Requests that were answered with another status than 200, or not at all.
    pub(crate) refused: usize,
    /// When each webhook was accepted, in order, in nanoseconds since 1970.
    times: Vec<u64>,
    /// When the last request arrived, whatever its answer.
    pub(crate) last_arrival: u64,
    /// The longest time between two acceptances.
    pub(crate) silence: Duration,
    pub(crate) latency: Latency,
}

/// The time from publication to the first acceptance, over all deliveries.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Latency {
    pub(crate) min_ms: f64,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Tally {
    /// Compares. Returns an error if an event arrived that is not whole, or that its endpoint is not to get.
    pub(crate) fn of(wanted: &[Wanted], receipts: &[Receipt]) -> Result<Self> {
        let mut open: HashMap<Wanted, u32> = wanted.iter().map(|wanted| (*wanted, 0)).collect();
        ensure!(open.len() == wanted.len(), "a delivery is wanted twice");
        let mut accepted: Vec<&Receipt> = Vec::with_capacity(receipts.len());
        let mut refused = 0;
        for receipt in receipts {
            ensure!(receipt.whole, "an event arrived at endpoint {} that is not whole", receipt.endpoint);
            let known = open.get_mut(&(receipt.endpoint, receipt.number));
            let Some(count) = known else {
                anyhow::bail!(
                    "event {} arrived at endpoint {}, which is not to get it",
                    receipt.number,
                    receipt.endpoint
                )
            };
            if receipt.accepted {
                *count += 1;
                accepted.push(receipt);
            } else {
                refused += 1;
            }
        }
        accepted.sort_unstable_by_key(|receipt| receipt.at);
        let mut seen = HashSet::with_capacity(accepted.len());
        let first_time = |receipt: &&Receipt| seen.insert((receipt.endpoint, receipt.number));
        let latencies: Vec<u64> =
            accepted.iter().copied().filter(first_time).map(|r| r.at.saturating_sub(r.published)).collect();
        let times: Vec<u64> = accepted.iter().map(|receipt| receipt.at).collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        Ok(Self {
            wanted: wanted.len(),
            lost: open.values().filter(|count| **count == 0).count(),
            duplicates: open.values().map(|count| count.saturating_sub(1) as usize).sum(),
            refused,
            silence: Duration::from_nanos(gaps.max().unwrap_or_default()),
            times,
            last_arrival: receipts.iter().map(|receipt| receipt.at).max().unwrap_or_default(),
            latency: Latency::of(latencies),
        })
    }

    /// When the first webhook was accepted.
    pub(crate) fn first(&self) -> u64 {
        self.times.first().copied().unwrap_or_default()
    }

    /// When the last webhook was accepted.
    pub(crate) fn last(&self) -> u64 {
        self.times.last().copied().unwrap_or_default()
    }

    /// How many webhooks were accepted from this moment on.
    pub(crate) fn accepted_since(&self, moment: u64) -> usize {
        self.times.len() - self.times.partition_point(|time| *time < moment)
    }

    /// The time from the first to the last acceptance.
    pub(crate) fn took(&self) -> Duration {
        Duration::from_nanos(self.last() - self.first())
    }

    /// The deliveries a second between the first and the last acceptance.
    pub(crate) fn rate(&self) -> f64 {
        self.wanted.saturating_sub(1) as f64 / self.took().as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Returns an error if a delivery was accepted.
    pub(crate) fn unaccepted(self) -> Result<Self> {
        ensure!(self.lost == self.wanted, "{} of {} deliveries were accepted", self.wanted - self.lost, self.wanted);
        Ok(self)
    }

    /// Returns an error if a delivery was lost.
    pub(crate) fn complete(self) -> Result<Self> {
        ensure!(self.lost == 0, "{} of {} deliveries were lost", self.lost, self.wanted);
        Ok(self)
    }

    /// Returns an error if a delivery was lost or accepted twice.
    pub(crate) fn exact(self) -> Result<Self> {
        ensure!(self.duplicates == 0, "{} of {} deliveries arrived again", self.duplicates, self.wanted);
        self.complete()
    }
}

impl Latency {
    /// All latencies as figures, with `of` before each name.
    pub(crate) fn figures(&self, of: &str) -> [Figure; 5] {
        let figure = |name, value| Figure::new(format!("{of}{name}"), value, "ms");
        [
            figure("min", self.min_ms),
            figure("mean", self.mean_ms),
            figure("p50", self.p50_ms),
            figure("p99", self.p99_ms),
            figure("max", self.max_ms),
        ]
    }

    /// The median of each latency.
    pub(crate) fn median(of: &[Self]) -> Self {
        let middle = |field: fn(&Self) -> f64| median(of.iter().map(field).collect());
        Self {
            min_ms: middle(|one| one.min_ms),
            mean_ms: middle(|one| one.mean_ms),
            p50_ms: middle(|one| one.p50_ms),
            p99_ms: middle(|one| one.p99_ms),
            max_ms: middle(|one| one.max_ms),
        }
    }

    fn of(mut nanos: Vec<u64>) -> Self {
        if nanos.is_empty() {
            return Self::default();
        }
        nanos.sort_unstable();
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let rank = |share: f64| ms(nanos[((nanos.len() as f64 * share).ceil() as usize).clamp(1, nanos.len()) - 1]);
        let mean = nanos.iter().map(|nanos| ms(*nanos)).sum::<f64>() / nanos.len() as f64;
        Self { min_ms: rank(0.0), mean_ms: mean, p50_ms: rank(0.5), p99_ms: rank(0.99), max_ms: rank(1.0) }
    }
}

/// The median; of an even number of values, the lower of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(endpoint: u32, number: u64, at: u64) -> Receipt {
        Receipt { endpoint, number, published: 0, at, accepted: true, whole: true }
    }

    #[test]
    fn what_is_lost_repeated_and_refused_is_seen() {
        let ms = 1_000_000;
        let wanted = [(1, 1), (1, 2), (2, 1), (2, 2)];
        let mut refused = receipt(2, 1, 2 * ms);
        refused.accepted = false;
        let receipts =
            [receipt(1, 1, ms), refused, receipt(1, 2, 4 * ms), receipt(1, 1, 9 * ms), receipt(2, 1, 10 * ms)];
        let tally = Tally::of(&wanted, &receipts).unwrap();
        assert_eq!((tally.lost, tally.duplicates, tally.refused), (1, 1, 1));
        assert_eq!((tally.took(), tally.silence), (Duration::from_millis(9), Duration::from_millis(5)));
        assert_eq!((tally.accepted_since(0), tally.accepted_since(4 * ms), tally.accepted_since(11 * ms)), (4, 3, 0));
        assert_eq!((tally.latency.min_ms, tally.latency.p50_ms, tally.latency.max_ms), (1.0, 4.0, 10.0));
        assert!(tally.clone().complete().is_err() && tally.exact().is_err());
        assert!(Tally::of(&wanted, &[receipt(3, 1, ms)]).is_err(), "never sent there");
        assert!(Tally::of(&wanted, &[Receipt { whole: false, ..receipt(1, 1, ms) }]).is_err());
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.0);
    }
}
