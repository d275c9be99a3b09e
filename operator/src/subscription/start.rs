//! Between steps 3 and 4: the position with which a Subscription starts at an earlier event.
//!
//! The position is stored before the record, and all live dispatchers have to have loaded it before the record is
//! written. Otherwise one of them could deliver an event that the position gives to the dedicated reader.
//!
//! It is done once. A record says that it was done, as `startFrom` can't be added later. So does `status.startedFrom`,
//! if record and position were lost with the stream. An operator that dies in between leaves a position, and the next one
//! goes on with it.

pub(super) mod grant;
mod point;

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey, POSITIONS_BUCKET};
use hookwright_core::position::{Position, Range, Reason};
use hookwright_core::record;
use hookwright_core::record::lease::BucketRevision;
use hookwright_crds::{History, StartedFrom, Subscription};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;

use super::fetch::{Fetched, FoundProducer};
use super::validate::{StartAt, ValidatedSubscription};
use crate::cache::leases::{Goal, Rollout};
use crate::cache::producers::LiveProducer;
use crate::cache::references::{RefersToProducer, is_foreign};
use crate::context::Context;
use crate::nats::jetstream::created;
use crate::reconcile::error::ReconcileError;
use crate::reconcile::programmed;
use crate::refusal::Refusal;
use crate::status::conditions;
use point::Point;

/// How far the start has come.
pub(super) enum Start {
    /// The record may be written.
    Done(Option<StartedFrom>),
    /// The dispatchers have not all loaded the position; or the Producer's stream is not there yet, if there is no
    /// rollout.
    Waits(Option<Rollout>, Option<StartedFrom>),
    /// There is no such event yet.
    Refused(Refusal),
}

/// A position that is stored.
struct Stored {
    revision: u64,
    started: StartedFrom,
}

/// Stores the position that `startFrom` asks for, unless that was done, and looks whether the dispatchers have loaded
/// it.
pub(super) async fn start(
    subscription: &Subscription,
    valid: &ValidatedSubscription,
    fetched: &Fetched,
    ctx: &Context,
) -> Result<Start, ReconcileError> {
    let before = subscription.status.as_ref().and_then(|status| status.started_from.clone());
    let Some(producer) = fetched.producer.as_ref().filter(|_| valid.start != StartAt::New) else {
        return Ok(Start::Done(before));
    };
    let key = ConfigKey::Subscription(producer.uid.clone(), valid.identity.uid.clone()).to_string();
    if ctx.js.get(CONFIG_BUCKET, &key).await?.is_some() {
        return Ok(Start::Done(before));
    }
    let Some(live) = &producer.live else { return Ok(Start::Waits(None, before)) };
    let stored = match stored(subscription, valid, producer, live, before.as_ref(), ctx).await? {
        Ok(stored) => stored,
        Err(start) => return Ok(start),
    };
    wait(subscription, stored, &producer.uid, ctx).await
}

/// Returns the position that is stored, and stores it first if it is missing; or what follows if that can't be.
async fn stored(
    subscription: &Subscription,
    valid: &ValidatedSubscription,
    producer: &FoundProducer,
    live: &LiveProducer,
    before: Option<&StartedFrom>,
    ctx: &Context,
) -> Result<Result<Stored, Start>, ReconcileError> {
    let key = valid.identity.uid.as_str();
    let found = ctx.js.newest(POSITIONS_BUCKET, key).await?;
    let position: Option<Position> = found.value.as_deref().map(record::decode).transpose().map_err(|source| {
        // It may be of a newer release: a new position in its place could lose events.
        ReconcileError::Position(source)
    })?;
    let position = position.filter(|position| position.stream_created == live.stream.created);
    if position.is_none() && before.is_some() {
        return Ok(Err(Start::Done(before.cloned())));
    }
    let stream = ctx.js.stream(&live.stream.name).await?.filter(|info| created(info) == live.stream.created);
    let Some(stream) = stream else { return Ok(Err(Start::Waits(None, before.cloned()))) };
    let window = point::Window::of(&stream);
    if let Some(position) = position {
        let revision = found.revision;
        let started = before.cloned().unwrap_or_else(|| again(&position, &valid.start, &window));
        return Ok(Ok(Stored { revision, started }));
    }
    let bound = if producer.history == History::SinceGrant && is_foreign(subscription) {
        match grant::since(&producer.uid, &stream, &valid.identity.namespace, ctx).await? {
            Some(last) => last + 1,
            None => {
                ctx.triggers.producer_soon(subscription.producer_ref());
                return Ok(Err(Start::Waits(None, before.cloned())));
            }
        }
    } else {
        0
    };
    let now = Timestamp::now();
    let point = match point::find(&valid.start, &window, now, &live.stream.name, &ctx.js).await? {
        Ok(point) => point.not_before(bound),
        Err(refusal) => return Ok(Err(Start::Refused(refusal))),
    };
    // An operator that is on its way out must not store a position for a Subscription that was deleted.
    ctx.records(subscription).current().await?;
    let range = Range { from: point.sequence, to: None, until: None, begun: false };
    let position = Position {
        ranges: vec![range],
        start: Some(point.sequence),
        since: Some(now),
        reason: Some(Reason::StartFrom),
        ..Position::live(live.stream.created)
    };
    let value = record::encode(&position)?;
    let revision = ctx.js.put_at(POSITIONS_BUCKET, key, value, found.revision).await?;
    let revision = revision.ok_or(ReconcileError::Outdated)?;
    Ok(Ok(Stored { revision, started: shown(point, now) }))
}

async fn wait(
    subscription: &Subscription,
    stored: Stored,
    producer: &ProducerUid,
    ctx: &Context,
) -> Result<Start, ReconcileError> {
    let Some(created) = ctx.js.bucket_created(POSITIONS_BUCKET).await? else {
        return Ok(Start::Waits(None, Some(stored.started)));
    };
    let revision = BucketRevision { created, revision: stored.revision };
    let (this, goal) = (ObjectRef::from_obj(subscription), Goal::Positions(revision));
    // The trigger is set before the leases are looked at, so that a lease that comes in between is not missed.
    ctx.triggers.subscriptions.when_loaded(this, goal, producer);
    let rollout = programmed::rollout(&ctx.leases, &ctx.js, goal, producer).await?;
    Ok(match rollout {
        Rollout::Loaded => Start::Done(Some(stored.started)),
        rollout => Start::Waits(Some(rollout), Some(stored.started)),
    })
}

/// Returns what status says of a position that an operator has stored who could not write the status.
fn again(position: &Position, start: &StartAt, window: &point::Window) -> StartedFrom {
    let sequence = position.ranges.first().map_or(window.end(), |range| range.from);
    let point = Point { sequence, incomplete: window.lacks(start) };
    shown(point, position.since.unwrap_or_else(conditions::now))
}

fn shown(point: Point, time: Timestamp) -> StartedFrom {
    StartedFrom {
        sequence: i64::try_from(point.sequence).unwrap_or(i64::MAX),
        time: conditions::seconds(time),
        incomplete: point.incomplete.then_some(true),
    }
}
