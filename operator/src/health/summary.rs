//! Turns counts into status. Only counts, kinds of outcomes and HTTP status get in, and nothing that a receiver wrote.

use hookwright_core::delivery::health::{LastAttempt, Summary, Verdict, verdict};
use hookwright_core::record::{Disabled, DisabledFor};
use hookwright_crds::{
    Activity, ConditionType, DeliveryStatus, FiltersStatus, Health, LastAttempt as AttemptStatus, Reason, Subscription,
    SubscriptionStatus,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{activity, filters, flow};
use crate::cache::agenda::Weight;
use crate::cache::health::{Reading, Rests};
use crate::cache::progress::Head;
use crate::refusal::Refusal;
use crate::status::conditions::{Judgement, OF_HEALTH, dated, find, seconds};

/// The health writer's part of the status.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct HealthPart {
    pub(super) health: Option<Health>,
    pub(super) delivery: Option<DeliveryStatus>,
    pub(super) recent: Vec<Activity>,
    pub(super) filters: Option<FiltersStatus>,
    /// The conditions that are there, in the order of [`OF_HEALTH`].
    pub(super) conditions: Vec<Condition>,
}

/// The status as it should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wanted {
    pub(super) part: HealthPart,
    /// When the status changes even if nothing happens until then.
    pub(super) again: Option<Timestamp>,
}

impl HealthPart {
    /// Reads the part from a status.
    pub(super) fn of(status: Option<&SubscriptionStatus>) -> Self {
        let Some(status) = status else { return Self::default() };
        let conditions = status.conditions.as_deref().unwrap_or_default();
        Self {
            health: status.health,
            delivery: status.delivery.clone(),
            recent: status.recent_activity.clone().unwrap_or_default(),
            filters: status.filters.clone(),
            conditions: OF_HEALTH
                .into_iter()
                .filter_map(|kind| find(conditions, kind))
                .filter(is_written)
                .cloned()
                .collect(),
        }
    }

    /// Returns the part as it should be. It is empty before the first attempt, unless events wait or have waited.
    pub(super) fn wanted(object: &Subscription, reading: &Reading, head: Option<Head>, now: Timestamp) -> Wanted {
        let Reading { summary, disabled, progress, rests, .. } = reading;
        let generation = object.metadata.generation.unwrap_or_default();
        let before = Self::of(object.status.as_ref());
        let of_this = |mark: &&Disabled| mark.disables(generation, object.resume());
        let disabled = disabled.as_ref().filter(of_this).map(|mark| mark.why);
        let rests = flow::rests(*rests, &before.conditions);
        let waits =
            disabled.is_some() || rests != Rests::No || progress.behind().is_some() || progress.closed(now).is_some();
        let has_waited = find(&before.conditions, ConditionType::Delivering).is_some();
        if summary == &Summary::default() && !waits && !has_waited {
            return Wanted::default();
        }
        let (health, healthy, turns) = judge(before.health, summary, disabled, now);
        let mut delivery = delivery(before.delivery.as_ref(), summary);
        let old = before.delivery.as_ref();
        delivery.behind = flow::behind(old.and_then(|old| old.behind.as_ref()), progress, head);
        delivery.missed = flow::missed(old, progress);
        delivery.skipped = flow::skipped(old, progress);
        let delivering = flow::delivering(rests, disabled, progress, now);
        let counts = summary.filters.as_ref().filter(|counts| counts.generation == generation);
        let (filters_healthy, told_until) = counts.map(|counts| filters::judge(counts, now)).unzip();
        let judged = [
            (ConditionType::EndpointHealthy, healthy),
            (ConditionType::Delivering, Some(delivering)),
            (ConditionType::FiltersHealthy, filters_healthy),
            (ConditionType::EventsMissed, flow::missed_condition(delivery.missed.as_ref(), now)),
            (ConditionType::PayloadWithheld, flow::withheld_condition(summary.last_withheld, now)),
        ];
        let judged = judged.into_iter().filter_map(|(kind, judgement)| Some((kind, judgement?))).collect();
        let missed = delivery.missed.as_ref().map(|missed| missed.time.0);
        let again =
            [turns, flow::told_until(missed, now), flow::told_until(summary.last_withheld, now), told_until.flatten()];
        let part = Self {
            health,
            recent: activity::recent(&before, health, summary, now),
            filters: counts.map(filters::status),
            conditions: dated(judged, &before.conditions, generation, seconds(now).0),
            delivery: Some(delivery),
        };
        Wanted { part, again: again.into_iter().flatten().min() }
    }

    pub(super) fn status(self) -> SubscriptionStatus {
        SubscriptionStatus {
            health: self.health,
            delivery: self.delivery,
            filters: self.filters,
            recent_activity: Some(self.recent).filter(|recent| !recent.is_empty()),
            conditions: Some(self.conditions).filter(|conditions| !conditions.is_empty()),
            ..SubscriptionStatus::default()
        }
    }

    /// Returns how much a change to `new` matters.
    pub(super) fn weight_of(&self, new: &Self) -> Weight {
        let retrying = |part: &Self| part.delivery.as_ref().is_some_and(|delivery| delivery.retrying > 0);
        let dead = |part: &Self| part.delivery.as_ref().map_or(0, |delivery| delivery.dead_lettered);
        let behind = |part: &Self| part.delivery.as_ref().is_some_and(|delivery| delivery.behind.is_some());
        let find = |part: &Self, kind| find(&part.conditions, kind).cloned();
        let healthy = |part: &Self| find(part, ConditionType::EndpointHealthy).map(|c| (c.status, c.reason));
        let rests =
            |part: &Self| find(part, ConditionType::Delivering).filter(|c| c.status == "False").map(|c| c.reason);
        let incidents = |part: &Self| {
            [ConditionType::EventsMissed, ConditionType::PayloadWithheld].map(|kind| find(part, kind).is_some())
        };
        let filters = |part: &Self| find(part, ConditionType::FiltersHealthy).map(|c| c.status);
        let flows = rests(self) == rests(new) && incidents(self) == incidents(new);
        let turned = self.health != new.health || healthy(self) != healthy(new);
        // A thousand new Subscriptions that get their first event together must not delay a change of health.
        let first = self.health.is_none() && new.health == Some(Health::Healthy);
        if turned && !first || !flows {
            Weight::Turn
        } else if first
            || filters(self) != filters(new)
            || retrying(self) != retrying(new)
            || behind(self) != behind(new)
            || dead(self) < dead(new)
        {
            Weight::Notable
        } else {
            Weight::Counts
        }
    }
}

/// Returns whether a condition was written by Hookwright: the API server gives a new Subscription its first one.
fn is_written(condition: &&Condition) -> bool {
    condition.reason != Reason::NotAttemptedYet.as_str()
}

fn judge(
    before: Option<Health>,
    summary: &Summary,
    disabled: Option<DisabledFor>,
    now: Timestamp,
) -> (Option<Health>, Option<Judgement>, Option<Timestamp>) {
    let fails = |reason, message: String| Some(Judgement::fails(&Refusal::new(reason, message)));
    if let Some(why) = disabled {
        let (reason, message) = flow::disabled(why);
        return (Some(Health::Inactive), fails(reason, message.to_owned()), None);
    }
    let Some(last) = &summary.last_attempt else { return (None, None, None) };
    let before = match before {
        Some(Health::Healthy) => Some(Verdict::Healthy),
        Some(Health::Unhealthy) => Some(Verdict::Unhealthy),
        // An edit has ended the inactivity.
        Some(Health::Inactive) | None => None,
    };
    match verdict::judge(before, &summary.signs, now) {
        (Verdict::Unhealthy, again) if summary.signs.failures == 0 => {
            let message = "The endpoint answers again after repeated failures. It counts as healthy after 30 s without \
                           a failure.";
            (Some(Health::Unhealthy), fails(Reason::EndpointFailing, message.to_owned()), again)
        }
        (Verdict::Unhealthy, again) => {
            let message = format!("Attempts keep failing; the last one: {}.", outcome(last));
            (Some(Health::Unhealthy), fails(Reason::EndpointFailing, message), again)
        }
        (Verdict::Healthy, again) => {
            let message = match summary.signs.failures {
                0 => "The endpoint answers.".to_owned(),
                _ => format!("The endpoint answers, but the last attempt failed: {}.", outcome(last)),
            };
            (Some(Health::Healthy), Some(Judgement::holds(Reason::EndpointHealthy, message)), again)
        }
        (Verdict::Unknown, again) => {
            let message = format!("The endpoint has accepted no delivery yet; the last attempt: {}.", outcome(last));
            (None, Some(Judgement::unknown(Reason::NotAnsweredYet, message)), again)
        }
    }
}

fn outcome(attempt: &LastAttempt) -> String {
    match attempt.http_status {
        Some(status) => format!("{}, HTTP {status}", attempt.outcome.name()),
        None => format!("{}, as {}", attempt.outcome.name(), attempt.outcome.detail()),
    }
}

fn delivery(before: Option<&DeliveryStatus>, summary: &Summary) -> DeliveryStatus {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // While the bucket is read again after NATS was away, the sum may lack the counts of a dispatcher.
    let up = |n: u64, old: fn(&DeliveryStatus) -> i64| count(n).max(before.map_or(0, old));
    DeliveryStatus {
        delivered: up(summary.delivered, |old| old.delivered),
        failed_attempts: up(summary.failed_attempts, |old| old.failed_attempts),
        retrying: count(summary.retrying),
        waiting: Some(count(summary.waiting)).filter(|waiting| *waiting > 0),
        dead_lettered: up(summary.dead_lettered, |old| old.dead_lettered),
        forbidden: Some(up(summary.forbidden, |old| old.forbidden.unwrap_or_default()))
            .filter(|forbidden| *forbidden > 0),
        behind: None,
        missed: None,
        skipped: None,
        oldest_pending_time: summary.oldest_pending.map(seconds),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::progress::Progress;
    use crate::status::conditions::now;
    use hookwright_core::delivery::health::Signs;
    use hookwright_core::delivery::outcome::OutcomeKind;
    use hookwright_core::position::{Position, Range};
    use hookwright_crds::ActivityKind;
    use kube::runtime::reflector::ObjectRef;

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
        let last = LastAttempt { time, outcome, http_status, duration_millis: 200, attempt: 1 };
        let last_success = Some(time).filter(|_| outcome == OutcomeKind::Delivered);
        let signs = Signs { last_success, failures: u64::from(last_success.is_none()), ..Signs::default() };
        Summary { last_attempt: Some(last), signs, ..Summary::default() }
    }

    fn failing() -> Signs {
        Signs { failures: 3, span: SignedDuration::from_secs(10), ..Signs::default() }
    }

    fn reading(summary: &Summary, disabled: Option<i64>) -> Reading {
        let mark = |generation| Disabled {
            version: 1,
            generation,
            resume: None,
            why: DisabledFor::EndpointGone,
            since: now(),
            ended: None,
        };
        let disabled = disabled.map(mark);
        let (progress, rests) = (Progress::default(), None);
        Reading { object: ObjectRef::new("s"), summary: summary.clone(), disabled, progress, rests }
    }

    fn wanted(object: &Subscription, summary: &Summary, disabled: Option<i64>, now: Timestamp) -> Wanted {
        HealthPart::wanted(object, &reading(summary, disabled), None, now)
    }

    fn text(part: &HealthPart) -> String {
        let condition = find(&part.conditions, ConditionType::EndpointHealthy);
        let condition = condition.map(|c| format!("{} {}", c.status, c.reason));
        format!("{:?} {}", part.health, condition.unwrap_or_default())
    }

    #[test]
    fn health_table() {
        let delivered = attempted(OutcomeKind::Delivered, Some(204));
        let failing = Summary { signs: failing(), ..attempted(OutcomeKind::Rejected, Some(503)) };
        for (summary, disabled, want) in [
            (Summary::default(), None, "None "),
            (Summary::default(), Some(1), "None "),
            (Summary::default(), Some(2), "Some(Inactive) False EndpointGone"),
            (delivered.clone(), None, "Some(Healthy) True EndpointHealthy"),
            (delivered.clone(), Some(1), "Some(Healthy) True EndpointHealthy"),
            (attempted(OutcomeKind::TimedOut, None), None, "None Unknown NotAnsweredYet"),
            (failing.clone(), None, "Some(Unhealthy) False EndpointFailing"),
            (failing.clone(), Some(2), "Some(Inactive) False EndpointGone"),
        ] {
            let part = wanted(&object(2), &summary, disabled, now()).part;
            assert_eq!(text(&part), want, "{summary:?} {disabled:?}");
        }
        let message = wanted(&object(2), &failing, None, now()).part.conditions[0].message.clone();
        assert_eq!(message, "Attempts keep failing; the last one: Rejected, HTTP 503.");
        let message = |summary: &Summary| wanted(&object(2), summary, None, now()).part.conditions[0].message.clone();
        let first = message(&attempted(OutcomeKind::Rejected, Some(500)));
        assert_eq!(first, "The endpoint has accepted no delivery yet; the last attempt: Rejected, HTTP 500.");
        let signs = Signs { failures: 1, last_success: Some(now()), ..Signs::default() };
        let once = message(&Summary { signs, ..attempted(OutcomeKind::TimedOut, None) });
        assert_eq!(once, "The endpoint answers, but the last attempt failed: TimedOut, as no answer came in time.");
        let last = delivery(None, &delivered).last_attempt.unwrap();
        assert_eq!((last.time.0.as_second(), last.duration.as_deref()), (1_700_000_001, Some("200ms")));
    }

    #[test]
    fn what_turned_and_what_only_counts() {
        let part = |summary: Summary| wanted(&object(1), &summary, None, now()).part;
        let base = attempted(OutcomeKind::Delivered, Some(200));
        let one = part(Summary { delivered: 1, ..base.clone() });
        let retrying = part(Summary { retrying: 1, ..base.clone() });
        for (old, new, want) in [
            (&HealthPart::default(), one.clone(), Weight::Notable),
            (&one, part(Summary { delivered: 9, ..base.clone() }), Weight::Counts),
            (&one, retrying.clone(), Weight::Notable),
            (&retrying, one.clone(), Weight::Notable),
            (&retrying, part(Summary { retrying: 2, ..base.clone() }), Weight::Counts),
            (&one, part(Summary { dead_lettered: 1, ..base.clone() }), Weight::Notable),
            (&one, part(Summary { signs: failing(), ..base.clone() }), Weight::Turn),
            (&HealthPart::default(), part(Summary { signs: failing(), ..base }), Weight::Turn),
        ] {
            assert_eq!(old.weight_of(&new), want, "{old:?} to {new:?}");
        }
    }

    #[test]
    fn an_unhealthy_endpoint_is_healthy_in_time_and_counts_never_go_back() {
        let t = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let mut object = object(1);
        let unhealthy = Summary { signs: failing(), delivered: 5, ..attempted(OutcomeKind::Rejected, Some(500)) };
        object.status = Some(wanted(&object, &unhealthy, None, t(10)).part.status());
        let signs = Signs { last_success: Some(t(12)), last_failure: Some(t(10)), ..Signs::default() };
        let better = Summary { signs, delivered: 4, ..attempted(OutcomeKind::Delivered, Some(200)) };
        let soon = wanted(&object, &better, None, t(12));
        assert_eq!((soon.part.health, soon.again), (Some(Health::Unhealthy), Some(t(40))));
        assert_eq!(soon.part.delivery.unwrap().delivered, 5);
        let then = wanted(&object, &better, None, t(40));
        assert_eq!((then.part.health, then.again), (Some(Health::Healthy), None));
        let activity: Vec<_> = then.part.recent.iter().map(|entry| entry.activity).collect();
        assert_eq!(activity, [ActivityKind::Healthy, ActivityKind::Unhealthy]);
    }

    #[test]
    fn a_subscription_rests_waits_and_is_live_again() {
        let mut object = object(1);
        let mut reading = reading(&Summary::default(), None);
        let position = |ranges| Some(Position { ranges, ..Position::live(now()) });
        let range = Range { from: 5, to: None, until: None, begun: false };
        let mut step = |suspended, progress: Option<Position>| {
            let before = HealthPart::of(object.status.as_ref());
            reading.rests = Some(if suspended { Rests::Suspended } else { Rests::No });
            reading.progress.moved(progress);
            let part = HealthPart::wanted(&object, &reading, None, now()).part;
            let weight = before.weight_of(&part);
            object.status = Some(part.clone().status());
            let said = part.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason));
            let behind = part.delivery.and_then(|delivery| delivery.behind).map(|behind| behind.from_sequence);
            (said.collect::<Vec<_>>().join(", "), behind, weight)
        };
        let said = |text: &str, behind, weight| (text.to_owned(), behind, weight);
        assert_eq!(step(false, None), said("", None, Weight::Counts), "no attempt and nothing that waits");
        assert_eq!(step(true, None), said("Delivering=False Suspended", None, Weight::Turn));
        let behind = position(vec![range]);
        assert_eq!(step(true, behind.clone()), said("Delivering=False Suspended", Some(5), Weight::Notable));
        assert_eq!(step(false, behind), said("Delivering=True CatchingUp", Some(5), Weight::Turn));
        assert_eq!(step(false, position(vec![])), said("Delivering=True Live", None, Weight::Notable));
        assert_eq!(step(false, None), said("Delivering=True Live", None, Weight::Counts));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let wanted = wanted(&object(1), &attempted(OutcomeKind::Delivered, Some(200)), None, now()).part;
        let status = serde_json::to_value(wanted.clone().status()).unwrap();
        let read: SubscriptionStatus = serde_json::from_value(status).unwrap();
        assert_eq!(HealthPart::of(Some(&read)), wanted);
    }
}
