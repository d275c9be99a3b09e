//! Reconciles a Producer into a stream, a consumer that all dispatchers share, and a record that tells dispatchers of
//! both. `controllers` calls this room, and `background::sweep` its `cleanup`.

mod apply;
mod build;
pub(crate) mod cleanup;
mod enforce;
mod fetch;
mod grants;
mod incidents;
mod referrers;
mod retained;
mod status;
mod stored;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey};
use hookwright_core::record::{self, ProducerRecord};
use hookwright_crds::{Producer, Reason, StreamPolicy};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use crate::cache::failures::jittered;
use crate::cache::leases::{Goal, Rollout};
use crate::cache::producers::{LiveProducer, ProducerState};
use crate::cache::references::stream_name;
use crate::cache::stream_sizes::StreamConfig;
use crate::context::Context;
use crate::quotas::Quota;
use crate::reconcile::error::ReconcileError;
use crate::reconcile::identity;
use crate::reconcile::panics;
use crate::reconcile::programmed;
use crate::refusal::Refusal;
use crate::status::conditions::Judgement;
use apply::Applied;
use fetch::Current;
use status::ProducerOutcome;

/// How often a healthy Producer is looked at, to read the numbers of its stream and to repair what was removed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How soon a Producer that waits for dispatchers or EventSchemas is looked at again, in case every signal is missed.
const LOOK_SOON: Duration = Duration::from_secs(5);

/// Brings NATS and the status to what the Producer says.
pub(crate) async fn reconcile(producer: Arc<Producer>, ctx: &Context) -> Result<Action, ReconcileError> {
    let producer = ctx.producers.own_writes.newest(&producer);
    let (uid, known) = identity::of(&*producer, &ctx.identities, &ctx.js).await;
    let uid = ProducerUid::parse(&uid)?;
    // The Producer counts its Subscriptions and EventSchemas, and tells them of changes.
    ctx.subscriptions.listed.wait().await;
    ctx.schemas.listed.wait().await;
    if ctx.producer_states.note_terms(&uid, &producer) {
        // This comes before anything that may fail: a Subscription that loses its grant gets no events from now on.
        referrers::trigger(ctx, &producer);
    }
    let attempted = match known {
        Ok(()) => attempt(&producer, &uid, ctx).await,
        Err(error) => Err(error),
    };
    let (outcome, error) = match attempted {
        Ok(outcome) => (outcome, None),
        Err(error) if error.is_outdated() => return Err(error),
        Err(error) => (ProducerOutcome::failed(&error), Some(error)),
    };
    let changed = remember(ctx, &uid, &outcome);
    if changed {
        referrers::trigger(ctx, &producer);
    }
    status::write(ctx, &producer, &uid, &outcome).await?;
    let rollout = match &outcome {
        ProducerOutcome::Live { rollout, .. } => Some(*rollout),
        _ => None,
    };
    let refused = matches!(outcome, ProducerOutcome::Refused { .. });
    if refused || matches!(rollout, Some(Rollout::Loaded | Rollout::Unserved { .. })) {
        ctx.triggers.producers.settled(&ObjectRef::from_obj(&*producer));
    }
    match error {
        Some(error) => Err(error),
        None if refused || rollout == Some(Rollout::Loaded) => Ok(Action::requeue(jittered(LOOK_AGAIN))),
        None => Ok(Action::requeue(LOOK_SOON)),
    }
}

/// Shows in the status why a reconcile ended without a result.
pub(crate) async fn tell(producer: &Arc<Producer>, failure: Refusal, ctx: &Context) -> Result<(), ReconcileError> {
    let producer = ctx.producers.own_writes.newest(producer);
    let uid = ProducerUid::parse(&ctx.identities.of(&*producer))?;
    Ok(status::write(ctx, &producer, &uid, &ProducerOutcome::Failed(failure)).await?)
}

async fn attempt(producer: &Producer, uid: &ProducerUid, ctx: &Context) -> Result<ProducerOutcome, ReconcileError> {
    panics::on_request(producer);
    let current = fetch::fetch(producer, ctx).await?;
    let quota = ctx.settings.quotas.of(&producer.namespace().unwrap_or_default());
    let valid = validate::validate(producer, uid, current.max_payload, &ctx.settings.tenancy, quota);
    let valid = match valid.and_then(|valid| admit(producer, uid, &current, quota, ctx).map(|()| valid)) {
        Ok(valid) => valid,
        Err(refusal) => return refuse(producer, uid, refusal, ctx).await,
    };
    let waits_for = enforce::waits_for(&valid, ctx).await?;
    if waits_for > 0 {
        let message =
            format!("Waiting for {waits_for} EventSchemas to be in place, or refused, before they are enforced.");
        return Ok(ProducerOutcome::Waiting(Judgement::unknown(Reason::Pending, message)));
    }
    let plan = build::build(valid, current.namespace_uid.clone());
    let applied = apply::apply(&plan, current, producer, ctx).await?;
    if let Applied::Live { stream, .. } = &applied {
        ctx.stream_sizes.note(&StreamConfig::from(&stream.config));
    }
    let (live, stream, fresh, unsure) = match applied {
        Applied::Refused(refusal) => return refuse(producer, uid, refusal, ctx).await,
        Applied::Waits(waits) => return Ok(ProducerOutcome::Waiting(Judgement::programmed(waits))),
        Applied::Live { live, stream, fresh, waits: Some(rollout), unsure } => {
            return Ok(ProducerOutcome::Live { live, stream, rollout, fresh, unsure });
        }
        Applied::Live { live, stream, fresh, waits: None, unsure } => (live, stream, fresh, unsure),
    };
    grants::note(producer, uid, &stream, ctx).await?;
    let goal = Goal::Config(live.revision);
    ctx.triggers.producers.when_loaded(ObjectRef::from_obj(producer), goal, uid);
    let rollout = programmed::rollout(&ctx.leases, &ctx.js, goal, uid).await?;
    Ok(ProducerOutcome::Live { live, stream, rollout, fresh, unsure })
}

/// Checks whether the namespace may have the Producer and its stream. If so, the stream counts from then on.
fn admit(
    producer: &Producer,
    uid: &ProducerUid,
    current: &Current,
    quota: &Quota,
    ctx: &Context,
) -> Result<(), Refusal> {
    let (namespace, name) = (producer.namespace().unwrap_or_default(), stream_name(producer));
    match current.stream.as_ref().map(|stream| StreamConfig::from(&stream.config)) {
        Some(stream) => {
            let own = current.namespace_uid.as_deref().map(|uid| (namespace.as_str(), uid));
            if own.is_some() && stream.namespace() == own {
                ctx.stream_sizes.note(&stream);
            }
        }
        None => ctx.stream_sizes.forget(&name),
    }
    let all = neighbours(producer, ctx);
    let place = (namespace.as_str(), uid.as_str(), name.as_str());
    ctx.stream_sizes.admit(place, |taken| quota.admits_producer(producer, &all, taken))
}

/// Returns the Producers of the same namespace.
fn neighbours(producer: &Producer, ctx: &Context) -> Vec<Arc<Producer>> {
    ctx.producers
        .store
        .state_filter(|other| other.meta().deletion_timestamp.is_none() && other.namespace() == producer.namespace())
}

/// Returns the outcome for a spec that is refused. A Producer with a stream of its own goes on as its record says, unless
/// it may no longer use its subjects or its stream; so does one whose stream was sealed, as events may wait in it.
/// Otherwise the record is removed, so that dispatchers stop reading: if
/// the stream is another's, the Producer may no longer be allowed what its record says, whatever the refusal says.
async fn refuse(
    producer: &Producer,
    uid: &ProducerUid,
    refusal: Refusal,
    ctx: &Context,
) -> Result<ProducerOutcome, ReconcileError> {
    let lost = matches!(refusal.reason, Reason::SubjectNotAllowed | Reason::StreamNameNotAllowed);
    let key = ConfigKey::Producer(uid.clone()).to_string();
    let managed = validate::policy(producer) == StreamPolicy::Managed;
    if managed && !lost || refusal.reason == Reason::StreamSealed {
        let known = ctx.producer_states.get(uid).and_then(|state| state.live);
        let filter = if managed { Vec::new() } else { producer.spec.subjects.clone() };
        let live = if known.is_some() { known } else { in_place(&key, filter, ctx).await? };
        return Ok(ProducerOutcome::Refused { refusal, live });
    }
    ctx.records(producer).remove(&key).await?;
    Ok(ProducerOutcome::Refused { refusal, live: None })
}

/// Returns what the record says of the stream, of which the Producer reads the subjects of `filter`.
async fn in_place(key: &str, filter: Vec<String>, ctx: &Context) -> Result<Option<LiveProducer>, ReconcileError> {
    let Some(entry) = ctx.js.get(CONFIG_BUCKET, key).await? else { return Ok(None) };
    let record = record::decode::<ProducerRecord>(&entry.value).ok();
    Ok(record.map(|ProducerRecord { stream, consumer, .. }| LiveProducer {
        stream,
        consumer,
        filter,
        revision: entry.revision,
    }))
}

/// Remembers the outcome. Returns whether Subscriptions have to look at the Producer again.
fn remember(ctx: &Context, uid: &ProducerUid, outcome: &ProducerOutcome) -> bool {
    match outcome {
        ProducerOutcome::Live { live, rollout, .. } => {
            let unserved = matches!(rollout, Rollout::Unserved { .. });
            ctx.producer_states.set(uid, ProducerState { accepted: Ok(()), live: Some(live.clone()), unserved })
        }
        ProducerOutcome::Refused { refusal, live } => {
            let unserved = ctx.producer_states.get(uid).is_some_and(|before| before.unserved);
            let (accepted, live) = (Err(refusal.clone()), live.clone());
            ctx.producer_states.set(uid, ProducerState { accepted, live, unserved })
        }
        ProducerOutcome::Waiting(_) | ProducerOutcome::Unavailable | ProducerOutcome::Failed(_) => false,
    }
}
