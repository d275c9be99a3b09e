//! Step 4: seals the record and writes it into the config bucket, if it has changed.

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey};
use hookwright_core::record::{self, SubscriptionRecord};
use hookwright_core::seal::{Sealed, Secret};
use ring::rand::{SecureRandom, SystemRandom};

use crate::context::Context;
use crate::nats::kv::Written;
use crate::reconcile::error::ReconcileError;

pub(crate) async fn apply(wanted: SubscriptionRecord<Secret>, ctx: &Context) -> Result<Written, ReconcileError> {
    let key = ConfigKey::Subscription(wanted.producer.clone(), wanted.identity.uid.clone()).to_string();
    let entry = ctx.js.get(CONFIG_BUCKET, &key).await?;
    let fresh = entry.is_none();
    if let Some(entry) = entry {
        // A record that can't be read or opened, such as one sealed with an earlier key, is written again.
        let old = record::decode::<SubscriptionRecord<Sealed>>(&entry.value).ok();
        if old.and_then(|old| old.open(&ctx.key).ok()).is_some_and(|old| old == wanted) {
            return Ok(Written { revision: entry.revision, fresh });
        }
    }
    let mut nonces = nonces(wanted.destination.signing.len() + wanted.destination.headers.len())?.into_iter();
    let sealed = wanted.seal(&ctx.key, || nonces.next().unwrap_or_default())?;
    let revision = ctx.js.put(CONFIG_BUCKET, &key, record::encode(&sealed)?).await?;
    Ok(Written { revision, fresh })
}

/// Removes the record, under whichever Producer it is, so that dispatchers stop at once.
pub(crate) async fn withdraw(uid: &SubscriptionUid, ctx: &Context) -> Result<(), ReconcileError> {
    Ok(ctx.js.remove_matching(CONFIG_BUCKET, &format!("subscription.*.{uid}")).await?)
}

fn nonces(count: usize) -> Result<Vec<[u8; 12]>, ReconcileError> {
    let random = SystemRandom::new();
    let mut nonces = vec![[0; 12]; count];
    for nonce in &mut nonces {
        random.fill(nonce).map_err(|_| ReconcileError::Random)?;
    }
    Ok(nonces)
}
