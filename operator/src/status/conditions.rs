//! The conditions in which status shows what a reconcile found.
//!
//! `Ready` sums up: it is False for a real failure, and Unknown while work is under way. `Stalled` says that only an
//! edit, or a change outside, helps; it is present for a refused spec only. `Reconciling` is present while `Ready` is
//! Unknown. As kstatus asks, these two are absent rather than False; the others are always present.

use hookwright_crds::{ConditionStatus, ConditionType, Reason, condition, set_condition};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::cache::leases::Rollout;
use crate::refusal::Refusal;

/// The conditions that report something bad, and are present only while they are True.
pub(crate) const INCIDENTS: [ConditionType; 5] = [
    ConditionType::SubjectsUnknown,
    ConditionType::EventsLost,
    ConditionType::StreamReplaced,
    ConditionType::EventsMissed,
    ConditionType::PayloadWithheld,
];

/// The conditions of a Subscription that the health writer owns.
pub(crate) const OF_HEALTH: [ConditionType; 5] = [
    ConditionType::EndpointHealthy,
    ConditionType::Delivering,
    ConditionType::FiltersHealthy,
    ConditionType::EventsMissed,
    ConditionType::PayloadWithheld,
];

/// A condition without its time and generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) status: ConditionStatus,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Judgement {
    pub(crate) fn holds(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::True, reason, message: message.into() }
    }

    pub(crate) fn fails(refusal: &Refusal) -> Self {
        Self { status: ConditionStatus::False, reason: refusal.reason, message: refusal.message.clone() }
    }

    pub(crate) fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::Unknown, reason, message: message.into() }
    }

    /// Returns `Accepted` for a spec that is valid or refused.
    pub(crate) fn accepted(result: Result<(), &Refusal>) -> Self {
        match result {
            Ok(()) => Self::holds(Reason::Accepted, "The spec is valid."),
            Err(refusal) => Self::fails(refusal),
        }
    }

    /// Returns `Programmed` for the state of the rollout.
    pub(crate) fn programmed(rollout: Rollout) -> Self {
        match rollout {
            Rollout::Loaded => Self::holds(Reason::Programmed, "All live dispatchers have loaded this generation."),
            Rollout::NoDispatchers => Self::unknown(Reason::NoDispatchers, "No dispatcher is alive."),
            Rollout::Unserved { live } => Self::fails(&Refusal::new(
                Reason::Unserved,
                format!(
                    "None of the {live} live dispatchers serves the Producer, as each can't use one of its records: \
                     it was written by a newer release, or sealed with another key, or has a schema beyond their \
                     bounds. Their logs name it. Upgrade the dispatchers, or give them the operator's sealing key."
                ),
            )),
            Rollout::Unheard => Self::unknown(Reason::Pending, "Waiting for the dispatchers' leases."),
            Rollout::Waiting { behind, live } => Self::unknown(
                Reason::Pending,
                format!("Waiting for {behind} of {live} live dispatchers to load this generation."),
            ),
            Rollout::Unread { feature, lacking, live } => Self::unknown(
                Reason::WaitingForDispatchers,
                format!(
                    "Waiting for {lacking} of {live} live dispatchers to be upgraded, as they can't read the feature {}. \
                     What was in force before stays so.",
                    feature.name()
                ),
            ),
        }
    }

    /// Returns `Programmed` while dispatchers load the position to start with, which comes before the record.
    pub(crate) fn prepared(rollout: Rollout) -> Self {
        match rollout {
            Rollout::Waiting { behind, live } => Self::unknown(
                Reason::Pending,
                format!("Waiting for {behind} of {live} live dispatchers to load where delivery starts."),
            ),
            // The record is still to be loaded.
            Rollout::Loaded => Self::programmed(Rollout::Unheard),
            rollout => Self::programmed(rollout),
        }
    }

    /// Returns the judgement of a condition that can't be known while NATS is away.
    pub(crate) fn unavailable() -> Self {
        Self::unknown(Reason::NatsUnavailable, "NATS doesn't answer the operator.")
    }

    /// Keeps `Programmed` True for a generation for which it has been True. Only a real failure makes it False: NATS
    /// refuses, or no dispatcher serves the Producer.
    pub(crate) fn latched(self, before: Option<&Condition>, generation: i64) -> Self {
        match before {
            Some(old)
                if self.status == ConditionStatus::Unknown
                    && old.status == "True"
                    && old.observed_generation == Some(generation) =>
            {
                Self::holds(Reason::Programmed, "All live dispatchers have loaded this generation.")
            }
            _ => self,
        }
    }
}

/// Adds the conditions that follow from the parts. `Accepted` is the first part, and an earlier part counts before a
/// later one.
pub(crate) fn summarize(parts: Vec<(ConditionType, Judgement)>) -> Vec<(ConditionType, Judgement)> {
    let first = |status| parts.iter().find(|(_, judgement)| judgement.status == status).cloned();
    let failed = first(ConditionStatus::False);
    let mut extra = Vec::new();
    if let Some((ConditionType::Accepted, refused)) = &failed {
        extra.push((ConditionType::Stalled, Judgement::holds(refused.reason, refused.message.clone())));
    }
    let ready = match (failed, first(ConditionStatus::Unknown)) {
        (Some((_, failed)), _) => failed,
        (None, Some((_, unknown))) => {
            let reconciling = Judgement::holds(unknown.reason, unknown.message.clone());
            extra.push((ConditionType::Reconciling, reconciling));
            unknown
        }
        (None, None) => Judgement::holds(Reason::Ready, "Events published now are delivered."),
    };
    let mut all = parts;
    all.push((ConditionType::Ready, ready));
    all.extend(extra);
    all
}

/// Dates the conditions for status. A condition keeps its transition time if its status is the same as before.
pub(crate) fn dated(
    judgements: Vec<(ConditionType, Judgement)>,
    before: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let date = |(kind, judgement): (ConditionType, Judgement)| {
        let mut list: Vec<Condition> = before.iter().filter(|old| old.type_ == kind.as_str()).cloned().collect();
        let new = condition(kind, judgement.status, judgement.reason, judgement.message, Some(generation), now);
        set_condition(&mut list, new);
        list.pop()
    };
    judgements.into_iter().filter_map(date).collect()
}

/// Returns the condition of this type.
pub(crate) fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// Returns whether this condition is True for this generation already.
pub(crate) fn holds_for(conditions: &[Condition], kind: ConditionType, generation: i64) -> bool {
    find(conditions, kind).is_some_and(|old| old.status == "True" && old.observed_generation == Some(generation))
}

/// Returns whether the spec of this generation was refused. NATS being away changes nothing about a refusal.
pub(crate) fn is_refused(conditions: &[Condition], generation: i64) -> bool {
    find(conditions, ConditionType::Accepted)
        .is_some_and(|old| old.status == "False" && old.observed_generation == Some(generation))
}

/// Returns the current time in whole seconds, which is what status can hold.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

/// Returns the time in whole seconds, which is what status can hold.
pub(crate) fn seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(parts: &[(ConditionType, Judgement)]) -> String {
        let text = |(kind, judgement): &(ConditionType, Judgement)| {
            format!("{}={} {}", kind.as_str(), judgement.status.as_str(), judgement.reason.as_str())
        };
        summarize(parts.to_vec())[parts.len()..].iter().map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_summary_follows_from_the_parts() {
        use ConditionType::{Accepted, Programmed, ResolvedRefs};
        let ok = |reason| Judgement::holds(reason, "");
        let no = |reason| Judgement::fails(&Refusal::new(reason, ""));
        let wait = |reason| Judgement::unknown(reason, "");
        let accepted = (Accepted, ok(Reason::Accepted));
        let resolved = (ResolvedRefs, ok(Reason::ResolvedRefs));
        let programmed = (Programmed, ok(Reason::Programmed));
        let cases = [
            (vec![accepted.clone(), resolved.clone(), programmed.clone()], "Ready=True Ready"),
            (
                vec![(Accepted, no(Reason::Invalid)), (ResolvedRefs, wait(Reason::Pending)), programmed.clone()],
                "Ready=False Invalid, Stalled=True Invalid",
            ),
            (
                vec![accepted.clone(), (ResolvedRefs, no(Reason::SecretNotFound)), programmed.clone()],
                "Ready=False SecretNotFound",
            ),
            (
                vec![accepted.clone(), (ResolvedRefs, no(Reason::SecretNotFound)), (Programmed, wait(Reason::Pending))],
                "Ready=False SecretNotFound",
            ),
            (
                vec![accepted.clone(), resolved, (Programmed, wait(Reason::NoDispatchers))],
                "Ready=Unknown NoDispatchers, Reconciling=True NoDispatchers",
            ),
        ];
        for (parts, want) in cases {
            assert_eq!(summary(&parts), want);
        }
    }

    #[test]
    fn programmed_latches_for_its_generation() {
        let now = Timestamp::UNIX_EPOCH;
        let old = |generation| {
            dated(vec![(ConditionType::Programmed, Judgement::programmed(Rollout::Loaded))], &[], generation, now)
        };
        let pending = Judgement::programmed(Rollout::Waiting { behind: 1, live: 2 });
        let latched = |list: &[Condition]| pending.clone().latched(list.first(), 2).status;
        assert_eq!(latched(&old(2)), ConditionStatus::True);
        assert_eq!(latched(&old(1)), ConditionStatus::Unknown);
        assert_eq!(latched(&[]), ConditionStatus::Unknown);
        let unserved = Judgement::programmed(Rollout::Unserved { live: 2 }).latched(old(2).first(), 2);
        assert_eq!((unserved.status, unserved.reason), (ConditionStatus::False, Reason::Unserved));
        assert!(unserved.message.starts_with("None of the 2 live dispatchers"), "{}", unserved.message);
    }

    #[test]
    fn the_time_is_that_of_the_last_change_of_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let judge = |rollout| vec![(ConditionType::Programmed, Judgement::programmed(rollout))];
        let first = dated(judge(Rollout::NoDispatchers), &[], 1, at(1));
        let second = dated(judge(Rollout::Waiting { behind: 1, live: 1 }), &first, 2, at(2));
        assert_eq!((second[0].last_transition_time.0, second[0].observed_generation), (at(1), Some(2)));
        let third = dated(judge(Rollout::Loaded), &second, 2, at(3));
        assert_eq!(third[0].last_transition_time.0, at(3));
    }
}
