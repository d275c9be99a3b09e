//! Whether a Subscription's events are delivered now, and which are left out.
//!
//! With `onResume: SkipToNow`, the record that resumes delivery names the last sequence of the stream. One write turns
//! `suspended` off and names the sequence. So an operator that dies before the write leaves it to the next one, and after
//! the write nothing is left to do: a record that isn't suspended never has its sequence moved.
//!
//! The same is left out of what waits for a Subscription whose namespace was shut out of its Producer and let in again.

use bytes::Bytes;
use hookwright_core::nats::names::{CONFIG_BUCKET, POSITIONS_BUCKET, STATE_BUCKET, disabled_key};
use hookwright_core::position::{Flow, SkipTo};
use hookwright_core::record::{self, Disabled, SubscriptionRecord};
use hookwright_core::seal::{Sealed, Secret};
use hookwright_crds::{OnResume, Subscription};

use super::start::grant;
use crate::cache::producers::LiveProducer;
use crate::cache::references::RefersToProducer;
use crate::context::Context;
use crate::nats::jetstream::{JsResult, created};
use crate::reconcile::error::ReconcileError;

/// What resumes delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resumed {
    /// The record that is replaced; `None` if there is none.
    record: Option<Bytes>,
    skip_to: SkipTo,
}

/// Whether a record resumes delivery and leaves out what waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Skip {
    /// It doesn't.
    No,
    /// It does.
    Yes(Resumed),
    /// It does, and the end of the stream is not known.
    Unknown,
}

/// The record has changed meanwhile.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed;

/// Looks whether the record resumes delivery and leaves out what waits, and asks the leader where the stream ends.
pub(super) async fn skip(
    wanted: &SubscriptionRecord<Secret>,
    on_resume: OnResume,
    live: Option<&LiveProducer>,
    key: &str,
    ctx: &Context,
) -> JsResult<Skip> {
    if on_resume == OnResume::CatchUp || wanted.flow.suspended {
        return Ok(Skip::No);
    }
    let Some(entry) = ctx.js.get(CONFIG_BUCKET, key).await? else { return Ok(Skip::No) };
    let Some(old) = read(Some(&entry.value)) else { return Ok(Skip::No) };
    let (generation, resume) = (wanted.identity.generation, wanted.flow.resume);
    if !old.flow.suspended && !was_inactive(&old, generation, resume, ctx).await? {
        return Ok(Skip::No);
    }
    let Some(live) = live else { return Ok(Skip::Unknown) };
    let stream = ctx.js.stream(&live.stream.name).await?.filter(|info| created(info) == live.stream.created);
    Ok(stream.map_or(Skip::Unknown, |stream| {
        let skip_to = SkipTo { stream_created: live.stream.created, sequence: stream.state.last_sequence };
        Skip::Yes(Resumed { record: Some(entry.value), skip_to })
    }))
}

/// Looks whether the record is the first one since the Subscription's namespace was let in, though a position is there from
/// an earlier time: then what was published before is left out.
pub(super) async fn since_grant(
    wanted: &SubscriptionRecord<Secret>,
    subscription: &Subscription,
    live: Option<&LiveProducer>,
    key: &str,
    ctx: &Context,
) -> Result<Skip, ReconcileError> {
    let has = async |bucket, key: &str| Ok::<_, ReconcileError>(ctx.js.get(bucket, key).await?.is_some());
    if has(CONFIG_BUCKET, key).await? || !has(POSITIONS_BUCKET, wanted.identity.uid.as_str()).await? {
        return Ok(Skip::No);
    }
    let Some(live) = live else { return Ok(Skip::Unknown) };
    let stream = ctx.js.stream(&live.stream.name).await?.filter(|info| created(info) == live.stream.created);
    let Some(stream) = stream else { return Ok(Skip::Unknown) };
    let granted = grant::since(&wanted.producer, &stream, &wanted.identity.namespace, ctx).await?;
    let Some(sequence) = granted else {
        ctx.triggers.producer_soon(subscription.producer_ref());
        return Ok(Skip::Unknown);
    };
    let skip_to = SkipTo { stream_created: live.stream.created, sequence };
    Ok(Skip::Yes(Resumed { record: None, skip_to }))
}

/// Returns whether the spec that is replaced by this generation and request to resume is disabled.
pub(super) async fn was_inactive(
    old: &SubscriptionRecord<Sealed>,
    generation: i64,
    resume: Option<u64>,
    ctx: &Context,
) -> JsResult<bool> {
    if old.identity.generation == generation && old.flow.resume == resume {
        return Ok(false);
    }
    let mark = ctx.js.get(STATE_BUCKET, &disabled_key(&old.identity.uid)).await?;
    let mark = mark.and_then(|entry| record::decode::<Disabled>(&entry.value).ok());
    Ok(mark.is_some_and(|disabled| disabled.disables(old.identity.generation, old.flow.resume)))
}

/// Returns the flow of a record that is refused. `asks` says whether its spec asks for suspension, if that can be used. It
/// stays suspended until the Subscription is right, and one that was Inactive becomes so: with `SkipToNow`, what waits by
/// then is left out.
pub(super) const fn refused(old: Flow, asks: Option<bool>, was_inactive: bool) -> Flow {
    Flow { suspended: old.suspended || was_inactive || matches!(asks, Some(true)), ..old }
}

/// Reads a record. One that can't be read, such as a newer release's, is none.
pub(super) fn read(record: Option<&[u8]>) -> Option<SubscriptionRecord<Sealed>> {
    record.and_then(|value| record::decode(value).ok())
}

/// Returns the flow of the record that replaces `found`. A sequence up to which events were left out stays for as long
/// as the stream is the same.
pub(super) fn follow(
    wanted: Flow,
    found: Option<&[u8]>,
    skip: &Skip,
    on_resume: OnResume,
    live: Option<&LiveProducer>,
) -> Result<Flow, Changed> {
    let old = read(found).map(|old| old.flow).unwrap_or_default();
    if let Skip::Yes(resumed) = skip {
        let is_same = found == resumed.record.as_deref();
        return if is_same { Ok(Flow { skip_to: Some(resumed.skip_to), ..wanted }) } else { Err(Changed) };
    }
    if old.suspended && !wanted.suspended && on_resume == OnResume::SkipToNow {
        return Err(Changed);
    }
    let is_current = |skip: &SkipTo| live.is_none_or(|live| live.stream.created == skip.stream_created);
    Ok(Flow { skip_to: old.skip_to.filter(is_current), ..wanted })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookwright_core::record::StreamRef;
    use jiff::Timestamp;
    use serde_json::json;

    fn t(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn live(created: i64) -> LiveProducer {
        let stream = StreamRef { name: "s".into(), created: t(created) };
        LiveProducer { stream, consumer: "c".into(), filter: Vec::new(), revision: 1 }
    }

    fn stored(flow: Flow) -> Vec<u8> {
        let delivery = serde_json::to_value(hookwright_core::delivery::policy::DeliveryPolicy::default()).unwrap();
        let record = json!({
            "version": 1,
            "identity": { "uid": "s-1", "generation": 3, "namespace": "shop", "name": "billing" },
            "producer": "p-1",
            "select": { "eventTypes": [">"] },
            "destination": { "url": "https://a/", "headers": [], "signing": [] },
            "delivery": delivery,
            "flow": flow,
        });
        record.to_string().into_bytes()
    }

    #[test]
    fn only_a_record_that_resumes_names_a_sequence_and_later_ones_keep_it() {
        let skip_to = |sequence| SkipTo { stream_created: t(1), sequence };
        let flow = |suspended, skip_to| Flow { suspended, skip_to, ..Flow::default() };
        let (on, off) = (flow(false, None), flow(true, None));
        let resumed =
            |old: &[u8]| Skip::Yes(Resumed { record: Some(Bytes::copy_from_slice(old)), skip_to: skip_to(9) });
        let suspended = stored(off);
        let next = |wanted, found: Option<&[u8]>, skip: &Skip, on_resume, created| {
            follow(wanted, found, skip, on_resume, Some(&live(created)))
        };
        use OnResume::{CatchUp, SkipToNow};
        assert!(read(Some(&suspended)).is_some(), "the record of this test is one");
        assert_eq!(next(on, None, &Skip::No, SkipToNow, 1), Ok(on));
        assert_eq!(next(on, Some(&suspended), &Skip::No, CatchUp, 1), Ok(on));
        let skips = flow(false, Some(skip_to(9)));
        assert_eq!(next(on, Some(&suspended), &resumed(&suspended), SkipToNow, 1), Ok(skips));
        assert_eq!(next(on, Some(&suspended), &Skip::No, SkipToNow, 1), Err(Changed), "it was suspended meanwhile");
        assert_eq!(next(on, Some(&stored(on)), &resumed(&suspended), SkipToNow, 1), Err(Changed), "and resumed");
        let granted = Skip::Yes(Resumed { record: None, skip_to: skip_to(9) });
        assert_eq!(next(on, None, &granted, CatchUp, 1), Ok(skips));
        assert_eq!(next(on, Some(&stored(on)), &granted, CatchUp, 1), Err(Changed), "another operator has written it");
        for on_resume in [CatchUp, SkipToNow] {
            assert_eq!(next(on, Some(&stored(skips)), &Skip::No, on_resume, 1), Ok(skips), "it stays where it is");
            assert_eq!(next(on, Some(&stored(skips)), &Skip::No, on_resume, 2), Ok(on), "it is another stream's");
        }
        assert_eq!(next(off, Some(&stored(skips)), &Skip::No, SkipToNow, 1), Ok(flow(true, Some(skip_to(9)))));
        assert_eq!(follow(on, Some(&stored(skips)), &Skip::No, SkipToNow, None), Ok(skips), "the stream isn't known");
    }

    #[test]
    fn a_record_that_is_refused_in_between_forgets_no_suspension() {
        let flow = |suspended| Flow { suspended, ..Flow::default() };
        for (old, asks, was_inactive, suspended) in [
            (false, None, false, false),
            (false, Some(false), false, false),
            (false, Some(true), false, true),
            // The edit that resumes can't be used yet.
            (true, Some(false), false, true),
            (true, None, false, true),
            (false, Some(false), true, true),
        ] {
            let between = refused(flow(old), asks, was_inactive);
            assert_eq!(between, flow(suspended), "{old} {asks:?} {was_inactive}");
            // The next one leaves out what has waited, if that is asked for.
            let next = follow(flow(false), Some(&stored(between)), &Skip::No, OnResume::SkipToNow, Some(&live(1)));
            assert_eq!(next == Err(Changed), suspended);
        }
    }
}
