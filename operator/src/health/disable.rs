//! Disables Subscriptions whose attempts have failed for as long as `delivery.disableAfter` allows.
//!
//! The mark of a disabled Subscription names the spec that is disabled. Once the record of another spec is in place, the mark
//! remembers when: it disables nothing any more, and failures from before count no longer.

use hookwright_core::delivery::health::Signs;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{CONFIG_BUCKET, STATE_BUCKET, disabled_key};
use hookwright_core::record::{self, Disabled, DisabledFor, RecordError, SubscriptionRecord, VERSION};
use hookwright_core::seal::Sealed;
use hookwright_crds::Subscription;
use hookwright_runtime::logging;
use jiff::{SignedDuration, Timestamp};
use kube::Resource;
use tracing::{info, warn};

use crate::background::Periodic;
use crate::cache::references::full_name;
use crate::context::Context;
use crate::faults;
use crate::nats::jetstream::JsResult;
use crate::nats::kv::Newest;

/// The work.
#[derive(Default)]
pub(crate) struct Disable;

impl Periodic for Disable {
    async fn turn(&mut self, ctx: &Context) {
        if !ctx.health.loaded() {
            return;
        }
        let failing = ctx.health.failing();
        if failing.is_empty() {
            return;
        }
        let Ok(now) = ctx.js.time().await else { return };
        for uid in failing {
            faults::one(&uid, look(ctx, &uid, now)).await;
        }
    }
}

async fn look(ctx: &Context, uid: &SubscriptionUid, now: Timestamp) {
    let Some(reading) = ctx.health.read(uid, now) else { return };
    let Some(object) = ctx.subscriptions.store.get(&reading.object) else { return };
    if ctx.identities.of(&*object) != uid.as_str() || object.meta().deletion_timestamp.is_some() {
        return;
    }
    let Some(mark) = next(&object, &reading.summary.signs, reading.disabled.as_ref(), now) else { return };
    if mark.ended.is_some() && !matches!(is_in_place(ctx, uid, &mark).await, Ok(false)) {
        // The record of the next spec is about to follow. Until then dispatchers go by the mark.
        return;
    }
    let Ok(value) = record::encode(&mark) else { return };
    let subscription = full_name(object.meta().namespace.as_deref(), object.meta().name.as_deref());
    match put(ctx, uid, reading.disabled.as_ref(), value).await {
        Ok(true) if mark.ended.is_none() => {
            info!(subscription, "disabled a Subscription: its attempts have failed for too long");
        }
        Ok(_) => {}
        Err(error) => warn!(subscription, error = logging::chain(&error), "can't disable a Subscription; trying again"),
    }
}

/// Looks whether the record that dispatchers have is still of the spec that the mark is about.
async fn is_in_place(ctx: &Context, uid: &SubscriptionUid, mark: &Disabled) -> JsResult<bool> {
    for key in ctx.js.keys(CONFIG_BUCKET, &format!("subscription.*.{uid}")).await? {
        let Some(entry) = ctx.js.get(CONFIG_BUCKET, &key).await? else { continue };
        let record = record::decode::<SubscriptionRecord<Sealed>>(&entry.value);
        if record.is_ok_and(|record| mark.is_of(record.identity.generation, record.flow.resume)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the mark in place of the one that is known. Returns whether it was still that one: a dispatcher may have written
/// another one meanwhile.
async fn put(ctx: &Context, uid: &SubscriptionUid, known: Option<&Disabled>, value: Vec<u8>) -> JsResult<bool> {
    let key = disabled_key(uid);
    let Newest { value: found, revision, .. } = ctx.js.newest(STATE_BUCKET, &key).await?;
    let found = match found.as_deref().map(record::decode::<Disabled>) {
        None | Some(Err(RecordError::NoRecord(_))) => None,
        // One that can't be read is a newer release's.
        Some(found) => Some(found.ok()),
    };
    let is_known = found.as_ref().map(Option::as_ref) == known.map(Some);
    Ok(is_known && ctx.js.put_at(STATE_BUCKET, &key, value, revision).await?.is_some())
}

/// Returns the mark as it should be, if it is another one.
fn next(object: &Subscription, signs: &Signs, mark: Option<&Disabled>, now: Timestamp) -> Option<Disabled> {
    let (generation, resume) = (object.meta().generation.unwrap_or_default(), object.resume());
    match mark {
        Some(mark) if mark.disables(generation, resume) => return None,
        Some(mark) if mark.ended.is_none() => return Some(Disabled { ended: Some(now), ..mark.clone() }),
        _ => {}
    }
    let policy = object.status.as_ref().and_then(|status| status.effective_delivery.as_ref());
    let limit = policy?.disable_after.as_ref()?.to_std().filter(|limit| !limit.is_zero())?;
    let last = signs.last_failure.filter(|_| signs.failures > 0)?;
    let first = last.checked_sub(signs.span).ok()?.max(mark.and_then(|mark| mark.ended).unwrap_or(Timestamp::MIN));
    let failed = last.duration_since(first);
    let disables = failed >= SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    let (version, why) = (VERSION, DisabledFor::Failing);
    disables.then_some(Disabled { version, generation, resume, why, since: now, ended: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookwright_crds::RESUME;
    use kube::ResourceExt;
    use serde_json::json;

    fn object(limit: &str, resume: Option<&str>) -> Subscription {
        let mut object: Subscription = serde_json::from_value(json!({
            "apiVersion": "hookwright.dev/v1alpha1", "kind": "Subscription",
            "metadata": { "name": "s", "generation": 2 },
            "spec": {
                "producerRef": { "name": "p" }, "eventTypes": [{ "type": ">" }], "endpoint": { "url": "https://a" },
            },
            "status": { "effectiveDelivery": { "disableAfter": limit } },
        }))
        .unwrap();
        if let Some(resume) = resume {
            object.annotations_mut().insert(RESUME.to_owned(), resume.to_owned());
        }
        object
    }

    fn t(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn signs(first: i64, last: i64) -> Signs {
        let span = SignedDuration::from_secs(last - first);
        Signs { failures: 9, span, last_failure: Some(t(last)), ..Signs::default() }
    }

    #[test]
    fn a_row_of_failures_disables_and_silence_does_not() {
        let now = t(10_000);
        for (limit, first, last, disables) in
            [("2m", 1000, 1120, true), ("2m", 1000, 1119, false), ("0s", 1000, 9000, false)]
        {
            let mark = next(&object(limit, None), &signs(first, last), None, now);
            assert_eq!(mark.is_some(), disables, "{limit} {first} {last}");
            assert!(mark.is_none_or(|mark| (mark.generation, mark.why) == (2, DisabledFor::Failing)));
        }
        assert_eq!(next(&object("2m", None), &Signs::default(), None, now), None);
    }

    #[test]
    fn a_request_to_resume_gives_the_whole_time_again() {
        let disabled = next(&object("2m", None), &signs(1000, 1120), None, t(2000)).unwrap();
        let again = object("2m", Some("now"));
        assert_eq!(next(&object("2m", None), &signs(1000, 1120), Some(&disabled), t(2001)), None);
        let ended = next(&again, &signs(1000, 1120), Some(&disabled), t(3000)).unwrap();
        assert_eq!(ended.ended, Some(t(3000)));
        assert!(!ended.is_of(2, again.resume()), "it is served");
        assert_eq!(next(&object("2m", None), &signs(1000, 1120), Some(&ended), t(3001)), None, "it is taken back");
        assert_eq!(next(&again, &signs(1000, 3119), Some(&ended), t(3119)), None);
        assert!(next(&again, &signs(1000, 3120), Some(&ended), t(3120)).is_some());
    }
}
