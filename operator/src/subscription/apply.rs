//! Step 4: seals the record and writes it into the config bucket, if it has changed.

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey};
use hookwright_core::payload::PayloadPolicy;
use hookwright_core::record::SubscriptionRecord;
use hookwright_core::seal::Secret;
use hookwright_crds::{History, OnResume};
use kube::Resource;
use ring::rand::{SecureRandom, SystemRandom};

use super::fetch::FoundProducer;
use super::flow::{self, Skip};
use super::inputs::Inputs;
use super::validate::ValidatedSubscription;
use crate::cache::references::is_foreign;
use crate::nats::kv::Written;
use crate::reconcile::error::ReconcileError;
use crate::reconcile::fenced::InPlace;

/// Writes the record. Returns none if the record has to say where the Producer's stream ends, and that is not known yet.
pub(crate) async fn apply(
    mut wanted: SubscriptionRecord<Secret>,
    on_resume: OnResume,
    made_from: Inputs<'_>,
) -> Result<Option<Written>, ReconcileError> {
    let Inputs { subscription, fetched, ctx } = made_from;
    let producer = fetched.producer.as_ref();
    let live = producer.and_then(|producer| producer.live.as_ref());
    let key = ConfigKey::Subscription(wanted.producer.clone(), wanted.identity.uid.clone()).to_string();
    let secrets = wanted.destination.as_ref().map_or(0, |to| to.signing.len() + to.headers.len());
    let mut skip = flow::skip(&wanted, on_resume, live, &key, ctx).await?;
    if skip == Skip::No
        && is_foreign(subscription)
        && producer.is_some_and(|found| found.history == History::SinceGrant)
    {
        skip = flow::since_grant(&wanted, subscription, live, &key, ctx).await?;
    }
    if skip == Skip::Unknown {
        return Ok(None);
    }
    let (asked, records) = (wanted.flow, ctx.records(subscription).made_from(made_from));
    let written = records.put(&key, |found| {
        let flow = flow::follow(asked, found, &skip, on_resume, live);
        wanted.flow = flow.map_err(|_| ReconcileError::Outdated)?;
        // A record that can't be read or opened is written again, and so is one that an earlier key has sealed.
        let old = flow::read(found).filter(|old| old.is_current(&ctx.sealing));
        if old.and_then(|old| old.open(&ctx.sealing).ok()).is_some_and(|old| old == wanted) {
            return Ok(None);
        }
        let mut nonces = nonces(secrets)?.into_iter();
        let sealed = wanted.clone().seal(&ctx.sealing, || nonces.next().unwrap_or_default())?;
        Ok(Some(sealed))
    });
    Ok(Some(written.await?))
}

/// Takes URL and secrets out of the record, if there is one, so that nothing more is sent to where it pointed. What
/// matches waits until the Subscription is right. `valid` is the spec, if that can be used. Returns whether there is a
/// record.
pub(crate) async fn refuse(
    uid: &SubscriptionUid,
    producer: &FoundProducer,
    valid: Option<&ValidatedSubscription>,
    made_from: Inputs<'_>,
) -> Result<bool, ReconcileError> {
    let key = ConfigKey::Subscription(producer.uid.clone(), uid.clone()).to_string();
    refuse_record(&key, producer.payload_policy.as_ref().ok(), valid, made_from).await
}

/// Does the same to the record of an earlier spec, under whichever Producer it is: the spec of now can't be made into a
/// record, as something that it refers to can't be read. Returns whether a record is in place by which nothing is sent.
pub(crate) async fn stop_earlier(
    uid: &SubscriptionUid,
    valid: Option<&ValidatedSubscription>,
    made_from: Inputs<'_>,
) -> Result<bool, ReconcileError> {
    let Inputs { subscription, ctx, .. } = made_from;
    let generation = subscription.meta().generation.unwrap_or_default();
    let mut rests = false;
    for key in ctx.js.keys(CONFIG_BUCKET, &format!("subscription.*.{uid}")).await? {
        let Some(entry) = ctx.js.get(CONFIG_BUCKET, &key).await? else { continue };
        let Some(old) = flow::read(Some(&entry.value)) else { continue };
        if old.identity.generation != generation {
            refuse_record(&key, None, valid, made_from).await?;
        }
        rests |= old.identity.generation != generation || old.destination.is_none();
    }
    Ok(rests)
}

/// Takes URL and secrets out of the record of this key, if there is one. `policy` is what the Producer withholds, if that is
/// known.
async fn refuse_record(
    key: &str,
    policy: Option<&PayloadPolicy>,
    valid: Option<&ValidatedSubscription>,
    made_from: Inputs<'_>,
) -> Result<bool, ReconcileError> {
    let Inputs { subscription, ctx, .. } = made_from;
    let generation = subscription.meta().generation.unwrap_or_default();
    let in_place = ctx.js.get(CONFIG_BUCKET, key).await?.and_then(|entry| flow::read(Some(&entry.value)));
    let was_inactive = match &in_place {
        Some(old) => flow::was_inactive(old, generation, subscription.resume(), ctx).await?,
        None => false,
    };
    let mut is_there = false;
    let mut refused = |found: Option<&[u8]>, anew: bool| {
        is_there = found.is_some();
        // A record that can't be read is a newer release's.
        let old = flow::read(found)?;
        let mut refused = SubscriptionRecord { destination: None, ..old.clone() };
        refused.identity.generation = generation;
        refused.flow = flow::refused(old.flow, valid.map(|valid| valid.suspended), was_inactive);
        if let Some(policy) = policy.filter(|_| anew) {
            refused.payload_policy = policy.clone();
        }
        if let Some(valid) = valid.filter(|_| anew) {
            refused.select = valid.select.clone();
            refused.payload = valid.payload.clone();
            refused.delivery = valid.delivery.clone();
        }
        (refused != old).then_some(refused)
    };
    if valid.is_some() || policy.is_some() {
        let records = ctx.records(subscription).made_from(made_from);
        let written = records.put(key, |found| Ok(refused(found, true))).await;
        match written {
            Ok(written) if written.waits.is_none() => return Ok(is_there),
            // What is there anew can wait for the dispatchers and the Producer, but not that URL and secrets go.
            Ok(_) | Err(ReconcileError::ProducerUnreadable) => {}
            Err(error) => return Err(error),
        }
    }
    ctx.records(subscription).made_from(InPlace).put(key, |found| Ok(refused(found, false))).await?;
    Ok(is_there)
}

/// Writes into the record, if there is one, what the Producer withholds by now, though nothing else of it can be made. If
/// that isn't known or has to wait for the dispatchers, URL and secrets go.
pub(crate) async fn withhold(
    uid: &SubscriptionUid,
    producer: &FoundProducer,
    made_from: Inputs<'_>,
) -> Result<(), ReconcileError> {
    let key = ConfigKey::Subscription(producer.uid.clone(), uid.clone()).to_string();
    let records = made_from.ctx.records(made_from.subscription).made_from(made_from);
    let is_done = match &producer.payload_policy {
        Err(_) => false,
        Ok(policy) => {
            let withheld = records.put(&key, |found| {
                let old = flow::read(found).filter(|old| old.payload_policy != *policy);
                Ok(old.map(|old| SubscriptionRecord { payload_policy: policy.clone(), ..old }))
            });
            match withheld.await {
                // Nobody knows which of the two is the newer one.
                Err(ReconcileError::ProducerUnreadable) => false,
                withheld => withheld?.waits.is_none(),
            }
        }
    };
    if !is_done {
        refuse(uid, producer, None, made_from).await?;
    }
    Ok(())
}

/// Removes the record, under whichever Producer it is, so that dispatchers stop at once.
pub(crate) async fn withdraw(uid: &SubscriptionUid, made_from: Inputs<'_>) -> Result<(), ReconcileError> {
    let records = made_from.ctx.records(made_from.subscription).made_from(made_from);
    for key in made_from.ctx.js.keys(CONFIG_BUCKET, &format!("subscription.*.{uid}")).await? {
        records.remove(&key).await?;
    }
    Ok(())
}

fn nonces(count: usize) -> Result<Vec<[u8; 12]>, ReconcileError> {
    let random = SystemRandom::new();
    let mut nonces = vec![[0; 12]; count];
    for nonce in &mut nonces {
        random.fill(nonce).map_err(|_| ReconcileError::Random)?;
    }
    Ok(nonces)
}
