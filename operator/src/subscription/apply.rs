//! Step 4: the record into the config bucket, sealed, if what it says has changed.

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey};
use hookwright_core::record::{self, RecordError, SubscriptionRecord};
use hookwright_core::seal::{SealError, Sealed, Secret};
use ring::rand::{SecureRandom, SystemRandom};

use crate::context::Context;
use crate::nats::jetstream::JsError;

/// The record can't be put in place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Nats(#[from] JsError),
    #[error("a secret can't be sealed")]
    Seal(#[from] SealError),
    #[error("the system gives no random bytes")]
    Random,
    #[error("the record can't be written")]
    Encode(#[from] RecordError),
}

/// A record in the bucket.
pub(crate) struct Written {
    pub(crate) revision: u64,
    /// Whether none was there before: then no dispatcher can have loaded it, whatever an old status says.
    pub(crate) fresh: bool,
}

pub(crate) async fn apply(wanted: SubscriptionRecord<Secret>, ctx: &Context) -> Result<Written, ApplyError> {
    let key = ConfigKey::Subscription(wanted.producer.clone(), wanted.identity.uid.clone()).to_string();
    let entry = ctx.js.get(CONFIG_BUCKET, &key).await?;
    let fresh = entry.is_none();
    if let Some(entry) = entry {
        // One that can't be read or opened (a key of before, say) is written again.
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

/// Takes the record away, under whichever Producer it is: dispatchers stop at once.
pub(crate) async fn withdraw(uid: &SubscriptionUid, ctx: &Context) -> Result<(), ApplyError> {
    Ok(ctx.js.remove_matching(CONFIG_BUCKET, &format!("subscription.*.{uid}")).await?)
}

fn nonces(count: usize) -> Result<Vec<[u8; 12]>, ApplyError> {
    let random = SystemRandom::new();
    let mut nonces = vec![[0; 12]; count];
    for nonce in &mut nonces {
        random.fill(nonce).map_err(|_| ApplyError::Random)?;
    }
    Ok(nonces)
}
