//! What status says about the filters of a Subscription.

use hookwright_core::delivery::health::FilterCounts;
use hookwright_crds::{FiltersStatus, Reason};
use jiff::{SignedDuration, Timestamp};

use crate::refusal::Refusal;
use crate::status::conditions::{Judgement, seconds};

/// How long a failure is told.
const TOLD_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Returns the counts of the filters.
pub(super) fn status(counts: &FilterCounts) -> FiltersStatus {
    let count = |n: &u64| i64::try_from(*n).unwrap_or(i64::MAX);
    FiltersStatus {
        since: seconds(counts.since),
        matched: count(&counts.matched),
        filtered_out: counts.filtered_out.iter().map(count).collect(),
        failed: count(&counts.failed),
    }
}

/// Judges whether the filters are healthy. Returns when that changes even if nothing happens until then.
pub(super) fn judge(counts: &FilterCounts, now: Timestamp) -> (Judgement, Option<Timestamp>) {
    let healthy = || Judgement::holds(Reason::FiltersHealthy, "The evaluations of the filters succeed.");
    let Some(last) = &counts.last_failure else { return (healthy(), None) };
    let until = last.time.checked_add(TOLD_FOR).unwrap_or(Timestamp::MAX);
    if until <= now {
        return (healthy(), None);
    }
    let message = format!(
        "Evaluations of filters fail, which is no match: {} events since the last edit. The last one: filters[{}], {}, at \
         the event with id {:?}.",
        counts.failed, last.entry, last.error, last.event
    );
    (Judgement::fails(&Refusal::new(Reason::FilterFailed, message)), Some(until))
}

#[cfg(test)]
mod tests {
    use hookwright_core::delivery::health::FilterFailure;

    use super::*;

    #[test]
    fn a_failure_is_told_for_an_hour() {
        let t = |second| Timestamp::from_second(second).unwrap();
        let failure = FilterFailure { time: t(10), entry: 1, error: "NoSuchKey".into(), event: "e-7".into() };
        let mut counts = FilterCounts { matched: 3, filtered_out: vec![0, 2], failed: 2, ..FilterCounts::default() };
        assert_eq!(judge(&counts, t(20)).0.reason, Reason::FiltersHealthy);
        counts.last_failure = Some(failure);
        let (judgement, again) = judge(&counts, t(20));
        assert_eq!((judgement.reason, again), (Reason::FilterFailed, Some(t(3610))));
        let want = "2 events since the last edit. The last one: filters[1], NoSuchKey, at the event with id \"e-7\".";
        assert!(judgement.message.ends_with(want), "{}", judgement.message);
        assert_eq!(judge(&counts, t(3610)).0.reason, Reason::FiltersHealthy);
        assert_eq!(status(&counts).filtered_out, [0, 2]);
    }
}
