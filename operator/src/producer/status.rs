//! Step 5: what came of it, in status.

use async_nats::jetstream::stream::Info;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_crds::{ConditionStatus, ConditionType, Producer, ProducerStatus, Reason, StreamStatus, Subscription};
use hookwright_runtime::logging;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};

use super::{ProducerError, incidents};
use crate::cache::leases::Rollout;
use crate::cache::producers::LiveProducer;
use crate::context::Context;
use crate::metrics::Kind;
use crate::refusal::Refusal;
use crate::status::conditions::{self, INCIDENTS, Judgement, find, summarize};
use crate::status::events;
use crate::status::write::{RECONCILER, StatusError, write_status};

/// What came of a reconcile.
pub(crate) enum Outcome {
    /// Stream, consumer and record are in place.
    Live { live: LiveProducer, stream: Box<Info>, rollout: Rollout, fresh: bool },
    /// So many EventSchemas have to be in place before it enforces them; until then nothing changes.
    Waiting { schemas: usize },
    /// The spec can't be used.
    Refused(Refusal),
    /// NATS is away.
    Unavailable,
    /// NATS would not do it; the reason is the server's.
    Failed(String),
}

impl Outcome {
    pub(crate) fn failed(error: &ProducerError) -> Self {
        let nats = match error {
            ProducerError::Fetch(nats) | ProducerError::Leases(nats) | ProducerError::Cleanup(nats) => Some(nats),
            ProducerError::Apply(super::apply::ApplyError::Nats(nats)) => Some(nats),
            _ => None,
        };
        if nats.is_some_and(crate::nats::jetstream::JsError::is_unavailable) {
            Self::Unavailable
        } else {
            Self::Failed(logging::chain(error))
        }
    }
}

fn judge(outcome: &Outcome, before: &[Condition], generation: i64) -> Vec<(ConditionType, Judgement)> {
    let latch = !matches!(outcome, Outcome::Live { fresh: true, .. } | Outcome::Waiting { .. });
    let programmed_before = find(before, ConditionType::Programmed).filter(|_| latch);
    let (accepted, programmed) = match outcome {
        Outcome::Live { rollout, .. } => (Judgement::accepted(Ok(())), Judgement::programmed(*rollout)),
        Outcome::Waiting { schemas } => {
            let message =
                format!("Waiting for {schemas} EventSchemas to be in place, or refused, before they are enforced.");
            (Judgement::accepted(Ok(())), Judgement::unknown(Reason::Pending, message))
        }
        Outcome::Refused(refusal) => (
            Judgement::accepted(Err(refusal)),
            Judgement::unknown(Reason::Pending, "Waiting for a spec that can be accepted."),
        ),
        Outcome::Unavailable => {
            let away = Judgement::unknown(Reason::NatsUnavailable, "NATS doesn't answer the operator.");
            let judged =
                find(before, ConditionType::Accepted).filter(|old| old.observed_generation == Some(generation));
            let accepted = match judged {
                Some(old) if old.status == "True" => Judgement::accepted(Ok(())),
                _ => away.clone(),
            };
            (accepted, away)
        }
        Outcome::Failed(message) => {
            let failed =
                Judgement { status: ConditionStatus::False, reason: Reason::Pending, message: message.clone() };
            (Judgement::accepted(Ok(())), failed)
        }
    };
    let programmed = programmed.latched(programmed_before, generation);
    summarize(vec![(ConditionType::Accepted, accepted), (ConditionType::Programmed, programmed)])
}

fn numbers(stream: &Info) -> StreamStatus {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    StreamStatus {
        name: stream.config.name.clone(),
        messages: number(stream.state.messages),
        bytes: number(stream.state.bytes),
        first_sequence: number(stream.state.first_sequence),
        last_sequence: number(stream.state.last_sequence),
    }
}

/// Writes the status if it differs from what is there.
pub(crate) async fn write(
    ctx: &Context,
    producer: &Producer,
    uid: &ProducerUid,
    outcome: &Outcome,
) -> Result<(), StatusError> {
    let old = producer.status.clone().unwrap_or_default();
    let before = old.conditions.clone().unwrap_or_default();
    let generation = producer.meta().generation.unwrap_or_default();
    let refused = |old: &Condition| old.status == "False" && old.observed_generation == Some(generation);
    if matches!(outcome, Outcome::Unavailable) && find(&before, ConditionType::Accepted).is_some_and(refused) {
        // NATS being away changes nothing about that.
        return Ok(());
    }
    let refresh = ctx.stream_numbers.is_due(uid);
    let stream = match outcome {
        Outcome::Live { stream, .. } if old.stream.is_none() || refresh => Some(numbers(stream)),
        _ => old.stream.clone(),
    };
    let permitted = |s: &Subscription| ctx.namespaces.permitted(producer, &s.namespace().unwrap_or_default());
    let this = ObjectRef::from_obj(producer);
    let count = ctx.subscriptions.of_producer(&this).iter().filter(|s| permitted(s)).count();
    let schemas = ctx.schemas.of_producer(&this).len();
    let now = conditions::now();
    let mut conditions = conditions::dated(judge(outcome, &before, generation), &before, generation, now);
    let incident = ctx.stream_incidents.get(uid);
    conditions.extend(incidents::conditions(incident.as_ref(), &before, generation, refresh, now));
    let new = ProducerStatus {
        observed_generation: Some(generation),
        conditions: Some(conditions),
        stream,
        subscriptions: Some(i32::try_from(count).unwrap_or(i32::MAX)),
        schemas: Some(i32::try_from(schemas).unwrap_or(i32::MAX)),
        // Unknown after a start, until the bucket is read.
        violations: ctx.schema_violations.of(uid.as_str()).or(old.violations),
    };
    if same(&old, &new) {
        return Ok(());
    }
    if turned(&old, &new) {
        ctx.status_budget.spend();
    } else if !ctx.stream_numbers.take_grant(uid) {
        let Some(room) = ctx.status_budget.room_now() else {
            ctx.stream_numbers.ask(uid, this);
            return Ok(());
        };
        room.spend();
    }
    let api = Api::namespaced(ctx.client.clone(), &producer.namespace().unwrap_or_default());
    let answer = match write_status(&api, producer, RECONCILER, &new).await {
        Ok(answer) => answer,
        Err(error) if error.is_gone() => return Ok(()),
        Err(error) => return Err(error),
    };
    ctx.producers.own_writes.remember(answer);
    if refresh {
        ctx.stream_numbers.written(uid);
    }
    ctx.metrics.status_writes.get_or_create(&Kind { kind: "Producer" }).inc();
    events::transitions(&ctx.recorder, producer, &before, new.conditions.as_deref().unwrap_or_default()).await;
    Ok(())
}

/// Whether two statuses are the same; the order of conditions, which the API server chooses, doesn't count.
fn same(old: &ProducerStatus, new: &ProducerStatus) -> bool {
    let sorted = |status: &ProducerStatus| {
        let mut status = status.clone();
        status.conditions.iter_mut().for_each(|list| list.sort_by(|a, b| a.type_.cmp(&b.type_)));
        status
    };
    sorted(old) == sorted(new)
}

/// Whether there is more to tell than other numbers: what answers an edit, a turn of a condition.
fn turned(old: &ProducerStatus, new: &ProducerStatus) -> bool {
    let conditions = |status: &ProducerStatus| {
        let mut list = status.conditions.clone().unwrap_or_default();
        for incident in list.iter_mut().filter(|new| INCIDENTS.iter().any(|kind| kind.as_str() == new.type_)) {
            // It counts on.
            incident.message.clear();
        }
        list.sort_by(|a, b| a.type_.cmp(&b.type_));
        list
    };
    old.observed_generation != new.observed_generation
        || old.stream.is_none() && new.stream.is_some()
        || conditions(old) != conditions(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outcome: &Outcome, before: &[Condition]) -> String {
        let text = |(kind, judgement): &(ConditionType, Judgement)| {
            format!("{}={} {}", kind.as_str(), judgement.status.as_str(), judgement.reason.as_str())
        };
        judge(outcome, before, 1).iter().map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_turn_is_not_a_matter_of_numbers() {
        let list = |kind, message: &str| {
            let judgement = Judgement::holds(Reason::EventsLost, message);
            Some(conditions::dated(vec![(kind, judgement)], &[], 1, jiff::Timestamp::UNIX_EPOCH))
        };
        let status = |conditions| ProducerStatus { conditions, ..ProducerStatus::default() };
        let (ready, lost) = (list(ConditionType::Ready, "m"), list(ConditionType::EventsLost, "3 events"));
        let more = list(ConditionType::EventsLost, "5 events");
        assert!(turned(&status(None), &status(ready.clone())));
        assert!(turned(&status(ready), &status(list(ConditionType::Ready, "another"))));
        assert!(turned(&status(None), &status(lost.clone())) && turned(&status(lost.clone()), &status(None)));
        assert!(!turned(&status(lost), &status(more)), "it counts on");
        let counted = ProducerStatus { subscriptions: Some(7), ..ProducerStatus::default() };
        assert!(!turned(&ProducerStatus::default(), &counted));
        let edited = ProducerStatus { observed_generation: Some(2), ..ProducerStatus::default() };
        assert!(turned(&ProducerStatus::default(), &edited));
    }

    #[test]
    fn nats_away_changes_nothing_that_was_programmed() {
        let all = |judgements| conditions::dated(judgements, &[], 1, jiff::Timestamp::UNIX_EPOCH);
        let programmed = all(summarize(vec![
            (ConditionType::Accepted, Judgement::accepted(Ok(()))),
            (ConditionType::Programmed, Judgement::programmed(Rollout::Loaded)),
        ]));
        let want = "Accepted=True Accepted, Programmed=True Programmed, Ready=True Ready";
        assert_eq!(text(&Outcome::Unavailable, &programmed), want);
        let want = "Accepted=Unknown NatsUnavailable, Programmed=Unknown NatsUnavailable, \
                    Ready=Unknown NatsUnavailable, Reconciling=True NatsUnavailable";
        assert_eq!(text(&Outcome::Unavailable, &[]), want);
        let want = "Accepted=True Accepted, Programmed=False Pending, Ready=False Pending";
        assert_eq!(text(&Outcome::Failed("no room".into()), &programmed), want);
        let want =
            "Accepted=True Accepted, Programmed=Unknown Pending, Ready=Unknown Pending, Reconciling=True Pending";
        assert_eq!(
            text(&Outcome::Waiting { schemas: 2 }, &programmed),
            want,
            "it is not enforced yet, or not any more"
        );
    }
}
