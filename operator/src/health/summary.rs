//! From counts to status. Nothing of what a receiver wrote gets in: counts, kinds of outcomes and HTTP status only.

use hookwright_core::health::{LastAttempt, Summary};
use hookwright_crds::{
    ConditionType, DeliveryStatus, Health, LastAttempt as AttemptStatus, Reason, Subscription, SubscriptionStatus,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::conditions::{Judgement, Refusal, dated, find};

/// The health writer's part of the status.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Part {
    pub(super) health: Option<Health>,
    pub(super) delivery: Option<DeliveryStatus>,
    pub(super) condition: Option<Condition>,
}

impl Part {
    /// As it is in this status now.
    pub(super) fn of(status: Option<&SubscriptionStatus>) -> Self {
        let Some(status) = status else { return Self::default() };
        let conditions = status.conditions.as_deref().unwrap_or_default();
        Self {
            health: status.health,
            delivery: status.delivery.clone(),
            condition: find(conditions, ConditionType::EndpointHealthy).cloned(),
        }
    }

    /// As it should be. Nothing before the first attempt.
    pub(super) fn wanted(object: &Subscription, summary: &Summary, disabled: Option<i64>, now: Timestamp) -> Self {
        let generation = object.metadata.generation.unwrap_or_default();
        let gone = disabled == Some(generation);
        if summary == &Summary::default() && !gone {
            return Self::default();
        }
        let (health, judgement) = judge(summary, gone);
        let before = Self::of(object.status.as_ref()).condition;
        let conditions = judgement.map(|judgement| {
            dated(vec![(ConditionType::EndpointHealthy, judgement)], before.as_slice(), generation, now)
        });
        Self {
            health,
            delivery: Some(delivery(summary)),
            condition: conditions.and_then(|mut conditions| conditions.pop()),
        }
    }

    pub(super) fn status(self) -> SubscriptionStatus {
        SubscriptionStatus {
            health: self.health,
            delivery: self.delivery,
            conditions: self.condition.map(|condition| vec![condition]),
            ..SubscriptionStatus::default()
        }
    }

    /// Whether going to `new` is a transition, rather than a matter of counts.
    pub(super) fn turns_into(&self, new: &Self) -> bool {
        let retrying = |part: &Self| part.delivery.as_ref().is_some_and(|delivery| delivery.retrying > 0);
        let dead = |part: &Self| part.delivery.as_ref().map_or(0, |delivery| delivery.dead_lettered);
        let condition = |part: &Self| part.condition.as_ref().map(|c| (c.status.clone(), c.reason.clone()));
        self.health != new.health
            || condition(self) != condition(new)
            || retrying(self) != retrying(new)
            || dead(self) < dead(new)
    }
}

fn judge(summary: &Summary, gone: bool) -> (Option<Health>, Option<Judgement>) {
    let fails = |reason, message: String| Some(Judgement::fails(&Refusal::new(reason, message)));
    if gone {
        let message = "The endpoint answered 410 Gone; nothing is sent until the Subscription is edited.";
        return (Some(Health::Inactive), fails(Reason::EndpointGone, message.to_owned()));
    }
    let Some(last) = &summary.last_attempt else { return (None, None) };
    if summary.failing {
        let message = format!("Attempts keep failing; the last one: {}.", outcome(last));
        return (Some(Health::Unhealthy), fails(Reason::EndpointFailing, message));
    }
    (Some(Health::Healthy), Some(Judgement::holds(Reason::EndpointHealthy, "The endpoint answers.")))
}

fn outcome(attempt: &LastAttempt) -> String {
    match attempt.http_status {
        Some(status) => format!("{}, HTTP {status}", attempt.outcome.name()),
        None => attempt.outcome.name().to_owned(),
    }
}

fn delivery(summary: &Summary) -> DeliveryStatus {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    DeliveryStatus {
        delivered: count(summary.delivered),
        failed_attempts: count(summary.failed_attempts),
        retrying: count(summary.retrying),
        dead_lettered: count(summary.dead_lettered),
        next_attempt_time: summary.next_attempt.map(seconds),
        last_attempt: summary.last_attempt.as_ref().map(|last| {
            let took = SignedDuration::from_millis(i64::try_from(last.duration_millis).unwrap_or(i64::MAX));
            AttemptStatus {
                time: seconds(last.time.checked_add(took).unwrap_or(last.time)),
                outcome: last.outcome.name().to_owned(),
                http_status: last.http_status.map(i32::from),
                duration: Some(format!("{}ms", last.duration_millis)),
            }
        }),
    }
}

/// Status holds whole seconds.
fn seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::now;
    use hookwright_core::outcome::OutcomeKind;

    fn object(generation: i64) -> Subscription {
        let spec = serde_json::json!({
            "producerRef": { "name": "p" }, "eventTypes": [{ "type": ">" }], "endpoint": { "url": "https://a" },
        });
        let mut object = Subscription::new("s", serde_json::from_value(spec).unwrap());
        object.metadata.generation = Some(generation);
        object
    }

    fn attempted(outcome: OutcomeKind, http_status: Option<u16>) -> Summary {
        let time = Timestamp::from_millisecond(1_700_000_000_900).unwrap();
        let last = LastAttempt { time, outcome, http_status, duration_millis: 200 };
        Summary { last_attempt: Some(last), ..Summary::default() }
    }

    fn text(part: &Part) -> String {
        let condition = part.condition.as_ref().map(|c| format!("{} {}", c.status, c.reason));
        format!("{:?} {}", part.health, condition.unwrap_or_default())
    }

    #[test]
    fn health_table() {
        let delivered = attempted(OutcomeKind::Delivered, Some(204));
        let failing = Summary { failing: true, ..attempted(OutcomeKind::Rejected, Some(503)) };
        for (summary, disabled, want) in [
            (Summary::default(), None, "None "),
            (Summary::default(), Some(1), "None "),
            (Summary::default(), Some(2), "Some(Inactive) False EndpointGone"),
            (delivered.clone(), None, "Some(Healthy) True EndpointHealthy"),
            (delivered.clone(), Some(1), "Some(Healthy) True EndpointHealthy"),
            (attempted(OutcomeKind::TimedOut, None), None, "Some(Healthy) True EndpointHealthy"),
            (failing.clone(), None, "Some(Unhealthy) False EndpointFailing"),
            (failing.clone(), Some(2), "Some(Inactive) False EndpointGone"),
        ] {
            assert_eq!(text(&Part::wanted(&object(2), &summary, disabled, now())), want, "{summary:?} {disabled:?}");
        }
        let message = Part::wanted(&object(2), &failing, None, now()).condition.unwrap().message;
        assert_eq!(message, "Attempts keep failing; the last one: Rejected, HTTP 503.");
        let last = delivery(&delivered).last_attempt.unwrap();
        assert_eq!((last.time.0.as_second(), last.duration.as_deref()), (1_700_000_001, Some("200ms")));
    }

    #[test]
    fn what_is_a_transition() {
        let part = |summary: Summary| Part::wanted(&object(1), &summary, None, now());
        let base = attempted(OutcomeKind::Delivered, Some(200));
        let one = part(Summary { delivered: 1, ..base.clone() });
        assert!(Part::default().turns_into(&one), "the first attempt");
        assert!(!one.turns_into(&part(Summary { delivered: 9, ..base.clone() })));
        let retrying = part(Summary { retrying: 1, ..base.clone() });
        assert!(one.turns_into(&retrying));
        assert!(retrying.turns_into(&one));
        assert!(!retrying.turns_into(&part(Summary { retrying: 2, ..base.clone() })));
        assert!(one.turns_into(&part(Summary { dead_lettered: 1, ..base.clone() })));
        assert!(one.turns_into(&part(Summary { failing: true, ..base })));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let wanted = Part::wanted(&object(1), &attempted(OutcomeKind::Delivered, Some(200)), None, now());
        let status = serde_json::to_value(wanted.clone().status()).unwrap();
        let read: SubscriptionStatus = serde_json::from_value(status).unwrap();
        assert_eq!(Part::of(Some(&read)), wanted);
    }
}
