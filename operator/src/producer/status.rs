//! Step 5: writes the result into status.

use async_nats::jetstream::stream::Info;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_crds::{ConditionType, Producer, ProducerStatus, Reason, Storage, Subscription};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::incidents;
use crate::cache::leases::Rollout;
use crate::cache::overcommitted::{Exceeded, managed_storage};
use crate::cache::producers::LiveProducer;
use crate::cache::stream_numbers::numbers;
use crate::context::Context;
use crate::reconcile::error::ReconcileError;
use crate::refusal::Refusal;
use crate::status::budget::StatusBudget;
use crate::status::conditions::{self, INCIDENTS, Judgement, find, holds_for, is_refused, summarize};
use crate::status::write::{ReconciledObject, StatusError, sorted};

/// The result of a reconcile.
pub(crate) enum ProducerOutcome {
    /// Stream, consumer and record are in place. `unsure`: why it can't be known whether the stream stores the Producer's
    /// subjects.
    Live { live: LiveProducer, stream: Box<Info>, rollout: Rollout, fresh: bool, unsure: Option<Refusal> },
    /// The judgement of `Programmed` says what the Producer waits for. Until then nothing changes.
    Waiting(Judgement),
    /// The spec can't be used.
    Refused { refusal: Refusal, live: Option<LiveProducer> },
    /// NATS is away.
    Unavailable,
    /// The reconcile failed for another reason.
    Failed(Refusal),
}

impl ProducerOutcome {
    pub(crate) fn failed(error: &ReconcileError) -> Self {
        if error.is_unavailable() { Self::Unavailable } else { Self::Failed(error.shown()) }
    }
}

fn judge(outcome: &ProducerOutcome, before: &[Condition], generation: i64) -> Vec<(ConditionType, Judgement)> {
    let latch = !matches!(outcome, ProducerOutcome::Live { fresh: true, .. } | ProducerOutcome::Waiting(_));
    let programmed_before = find(before, ConditionType::Programmed).filter(|_| latch);
    let (accepted, programmed) = match outcome {
        ProducerOutcome::Live { rollout, .. } => (Judgement::accepted(Ok(())), Judgement::programmed(*rollout)),
        ProducerOutcome::Waiting(programmed) => (Judgement::accepted(Ok(())), programmed.clone()),
        ProducerOutcome::Refused { refusal, .. } => (
            Judgement::accepted(Err(refusal)),
            Judgement::unknown(Reason::Pending, "Waiting for a spec that can be accepted."),
        ),
        ProducerOutcome::Unavailable => {
            let was_accepted = holds_for(before, ConditionType::Accepted, generation);
            let accepted = if was_accepted { Judgement::accepted(Ok(())) } else { Judgement::unavailable() };
            (accepted, Judgement::unavailable())
        }
        ProducerOutcome::Failed(failure) => (Judgement::accepted(Ok(())), Judgement::fails(failure)),
    };
    let programmed = programmed.latched(programmed_before, generation);
    summarize(vec![(ConditionType::Accepted, accepted), (ConditionType::Programmed, programmed)])
}

/// Writes the status if it differs from what is there. A change of numbers alone waits for room in the budget.
pub(crate) async fn write(
    ctx: &Context,
    producer: &Producer,
    uid: &ProducerUid,
    outcome: &ProducerOutcome,
) -> Result<(), StatusError> {
    let old = producer.status.clone().unwrap_or_default();
    let generation = producer.meta().generation.unwrap_or_default();
    let before = Producer::conditions(&old);
    if matches!(outcome, ProducerOutcome::Unavailable) && is_refused(before, generation) {
        return Ok(());
    }
    let refresh = ctx.stream_numbers.is_due(uid);
    let new = wanted(ctx, producer, uid, outcome, refresh);
    let allow = |budget: &StatusBudget| {
        if turned(&old, &new) {
            budget.spend();
        } else if !ctx.stream_numbers.take_grant(uid) {
            let Some(permit) = budget.permit_now() else {
                ctx.stream_numbers.ask(uid, ObjectRef::from_obj(producer));
                return false;
            };
            permit.spend();
        }
        true
    };
    if ctx.status.write_if_changed(&ctx.producers, producer, &new, allow).await? && refresh {
        ctx.stream_numbers.written(uid);
    }
    Ok(())
}

/// Returns the status as it should be. With `refresh`, the numbers of the stream are brought up to date.
fn wanted(
    ctx: &Context,
    producer: &Producer,
    uid: &ProducerUid,
    outcome: &ProducerOutcome,
    refresh: bool,
) -> ProducerStatus {
    let old = producer.status.clone().unwrap_or_default();
    let before = Producer::conditions(&old);
    let generation = producer.meta().generation.unwrap_or_default();
    let now = conditions::now();
    let mut conditions = conditions::dated(judge(outcome, before, generation), before, generation, now);
    let incident = ctx.stream_incidents.get(uid);
    conditions.extend(incidents::conditions(incident.as_ref(), before, generation, refresh, now));
    conditions.extend(subjects_unknown(outcome, before, generation, now));
    let exceeded = ctx.overcommitted.get();
    conditions.extend(storage_overcommitted(exceeded.as_deref(), producer, before, now));
    let permitted = |s: &Subscription| ctx.namespaces.permitted(producer, &s.namespace().unwrap_or_default());
    let this = ObjectRef::from_obj(producer);
    let subscriptions = ctx.subscriptions.of_producer(&this).iter().filter(|s| permitted(s)).count();
    let schemas = ctx.schemas.of_producer(&this).len();
    ProducerStatus {
        observed_generation: Some(generation),
        conditions: Some(conditions),
        stream: match outcome {
            ProducerOutcome::Live { stream, .. } if old.stream.is_none() || refresh => Some(numbers(stream)),
            ProducerOutcome::Live { .. } => old.stream,
            _ => ctx.stream_numbers.unwritten(uid).filter(|_| refresh).or(old.stream),
        },
        subscriptions: Some(i32::try_from(subscriptions).unwrap_or(i32::MAX)),
        schemas: Some(i32::try_from(schemas).unwrap_or(i32::MAX)),
        // After a start, the count is unknown until the bucket is read.
        violations: ctx.schema_violations.of(uid).or(old.violations),
    }
}

/// Returns the condition that is there while it can't be known whether the stream stores the Producer's subjects. Without a
/// new look at the stream it stays as it was.
fn subjects_unknown(
    outcome: &ProducerOutcome,
    before: &[Condition],
    generation: i64,
    now: jiff::Timestamp,
) -> Vec<Condition> {
    let kind = ConditionType::SubjectsUnknown;
    match outcome {
        ProducerOutcome::Live { unsure, .. } => {
            let told = unsure.iter().map(|unsure| (kind, Judgement::holds(unsure.reason, unsure.message.clone())));
            conditions::dated(told.collect(), before, generation, now)
        }
        ProducerOutcome::Refused { .. } => Vec::new(),
        ProducerOutcome::Waiting(_) | ProducerOutcome::Unavailable | ProducerOutcome::Failed(_) => {
            find(before, kind).cloned().into_iter().collect()
        }
    }
}

/// Returns the condition that is there while what may be kept in NATS is more than its account lets be kept, if that
/// concerns the Producer. Before the first look at the account it stays as it was.
fn storage_overcommitted(
    exceeded: Option<&[Exceeded]>,
    producer: &Producer,
    before: &[Condition],
    now: jiff::Timestamp,
) -> Vec<Condition> {
    let kind = ConditionType::StorageOvercommitted;
    let Some(exceeded) = exceeded else { return find(before, kind).cloned().into_iter().collect() };
    let stream = managed_storage(producer);
    let limit = stream.and_then(|stream| exceeded.iter().find(|exceeded| exceeded.concerns(stream)));
    let judgement = limit.map(|Exceeded { storage, copies, limit }| {
        let of = copies.map_or_else(String::new, |copies| format!(", with {copies} copies"));
        let (kept, quota) = match storage {
            Storage::File => ("in files", "streamBytes"),
            Storage::Memory => ("in memory", "memoryBytes"),
        };
        let message = format!(
            "What namespaces may keep {kept}{of} (quotas.{quota}), with parking.budget and the dead letters, is more than \
             the {limit} bytes that the NATS account may have, so there may be no room for this stream or its events before \
             it is full. It is for those who run Hookwright to raise the limit or to lower the quotas."
        );
        (kind, Judgement::holds(Reason::StorageOvercommitted, message))
    });
    conditions::dated(judgement.into_iter().collect(), before, producer.meta().generation.unwrap_or_default(), now)
}

impl ReconciledObject for Producer {
    fn reconciled(status: &ProducerStatus) -> impl PartialEq {
        ProducerStatus { conditions: Some(sorted(status.conditions.as_deref())), ..status.clone() }
    }

    fn conditions(status: &ProducerStatus) -> &[Condition] {
        status.conditions.as_deref().unwrap_or_default()
    }
}

/// Returns whether more than numbers has changed: the status answers an edit, or a condition has changed.
fn turned(old: &ProducerStatus, new: &ProducerStatus) -> bool {
    let conditions = |status: &ProducerStatus| {
        let mut list = sorted(status.conditions.as_deref());
        for incident in list.iter_mut().filter(|new| INCIDENTS.iter().any(|kind| kind.as_str() == new.type_)) {
            // The message of an incident changes with its count.
            incident.message.clear();
        }
        list
    };
    old.observed_generation != new.observed_generation
        || old.stream.is_none() && new.stream.is_some()
        || conditions(old) != conditions(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outcome: &ProducerOutcome, before: &[Condition]) -> String {
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
    fn more_than_the_account_keeps_is_told_to_whom_it_concerns() {
        let producer = |stream: serde_json::Value| -> Producer {
            let spec = serde_json::json!({ "subjects": ["a"], "stream": stream });
            serde_json::from_value(serde_json::json!({
                "apiVersion": "hookwright.dev/v1alpha1", "kind": "Producer", "metadata": { "name": "x" }, "spec": spec,
            }))
            .unwrap()
        };
        let limit = |copies| Exceeded { storage: Storage::File, copies, limit: 7 };
        let (all, tier) = ([limit(None)], [limit(Some(3))]);
        let file = Some(all.as_slice());
        let told = |exceeded: Option<&[Exceeded]>, stream, before: &[Condition]| {
            storage_overcommitted(exceeded, &producer(stream), before, jiff::Timestamp::UNIX_EPOCH)
        };
        let (by_default, existing) = (serde_json::json!({}), serde_json::json!({ "policy": "Existing", "name": "x" }));
        let first = told(file, by_default.clone(), &[]);
        assert!(first.len() == 1 && first[0].message.contains("7 bytes"), "{first:?}");
        assert!(told(file, serde_json::json!({ "storage": "Memory" }), &[]).is_empty());
        assert!(told(file, existing, &[]).is_empty());
        assert_eq!(told(None, by_default.clone(), &first), first, "not known yet");
        assert!(told(Some(&[]), by_default.clone(), &first).is_empty());
        assert!(told(Some(&tier), by_default, &[]).is_empty(), "it has one copy");
        let of_tier = told(Some(&tier), serde_json::json!({ "replicas": 3 }), &[]);
        assert!(of_tier.len() == 1 && of_tier[0].message.contains("with 3 copies"), "{of_tier:?}");
    }

    #[test]
    fn nats_away_changes_nothing_that_was_programmed() {
        let all = |judgements| conditions::dated(judgements, &[], 1, jiff::Timestamp::UNIX_EPOCH);
        let programmed = all(summarize(vec![
            (ConditionType::Accepted, Judgement::accepted(Ok(()))),
            (ConditionType::Programmed, Judgement::programmed(Rollout::Loaded)),
        ]));
        let want = "Accepted=True Accepted, Programmed=True Programmed, Ready=True Ready";
        assert_eq!(text(&ProducerOutcome::Unavailable, &programmed), want);
        let want = "Accepted=Unknown NatsUnavailable, Programmed=Unknown NatsUnavailable, \
                    Ready=Unknown NatsUnavailable, Reconciling=True NatsUnavailable";
        assert_eq!(text(&ProducerOutcome::Unavailable, &[]), want);
        let want = "Accepted=True Accepted, Programmed=False Pending, Ready=False Pending";
        assert_eq!(text(&ProducerOutcome::Failed(Refusal::new(Reason::Pending, "no room")), &programmed), want);
        let want =
            "Accepted=True Accepted, Programmed=Unknown Pending, Ready=Unknown Pending, Reconciling=True Pending";
        assert_eq!(
            text(&ProducerOutcome::Waiting(Judgement::unknown(Reason::Pending, "2 EventSchemas")), &programmed),
            want,
            "it is not enforced yet, or not any more"
        );
    }
}
