//! Step 4: seals the record and writes it into the config bucket, if it has changed.

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey};
use hookwright_core::record::{self, SubscriptionRecord};
use hookwright_core::seal::{Sealed, Secret};
use hookwright_crds::Subscription;
use ring::rand::{SecureRandom, SystemRandom};

use crate::context::Context;
use crate::nats::kv::Written;
use crate::reconcile::error::ReconcileError;

pub(crate) async fn apply(
    wanted: SubscriptionRecord<Secret>,
    subscription: &Subscription,
    ctx: &Context,
) -> Result<Written, ReconcileError> {
    let key = ConfigKey::Subscription(wanted.producer.clone(), wanted.identity.uid.clone()).to_string();
    let secrets = wanted.destination.signing.len() + wanted.destination.headers.len();
    ctx.records(subscription)
        .put(&key, |found| {
            // A record that can't be read or opened, such as one sealed with an earlier key, is written again.
            let old = found.and_then(|value| record::decode::<SubscriptionRecord<Sealed>>(value).ok());
            if old.and_then(|old| old.open(&ctx.key).ok()).is_some_and(|old| old == wanted) {
                return Ok(None);
            }
            let mut nonces = nonces(secrets)?.into_iter();
            let sealed = wanted.clone().seal(&ctx.key, || nonces.next().unwrap_or_default())?;
            Ok(Some(record::encode(&sealed)?))
        })
        .await
}

/// Removes the record, under whichever Producer it is, so that dispatchers stop at once.
pub(crate) async fn withdraw(
    uid: &SubscriptionUid,
    subscription: &Subscription,
    ctx: &Context,
) -> Result<(), ReconcileError> {
    for key in ctx.js.keys(CONFIG_BUCKET, &format!("subscription.*.{uid}")).await? {
        ctx.records(subscription).remove(&key).await?;
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
