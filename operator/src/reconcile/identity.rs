//! The uid by which NATS knows an object that is reconciled. If the installation was taken over from another cluster, the
//! first object of a namespace and name goes on as the former one of that name, with all that is stored under its uid.

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{CONFIG_BUCKET, STATE_BUCKET, disabled_key, former_key};
use hookwright_core::record::{self, Disabled, Former, SubscriptionRecord};
use hookwright_core::seal::Sealed;
use kube::{Resource, ResourceExt};

use crate::cache::identities::{Entry, Identities};
use crate::named::{Named, about};
use crate::nats::jetstream::{JetStream, JsError};
use crate::reconcile::error::ReconcileError;

/// Returns the uid in NATS. With an error, it is not known yet, and this is the object's own.
pub(crate) async fn of<K: Resource<DynamicType = ()>>(
    object: &K,
    identities: &Identities,
    js: &JetStream,
) -> (String, Result<(), ReconcileError>) {
    if !identities.is_loaded() {
        return (object.uid().unwrap_or_default(), Err(JsError::Disconnected.into()));
    }
    let taken_up = take_up(object, identities, js).await;
    (identities.of(object), taken_up)
}

async fn take_up<K: Resource<DynamicType = ()>>(
    object: &K,
    identities: &Identities,
    js: &JetStream,
) -> Result<(), ReconcileError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let key = former_key(&K::kind(&()), &namespace, &name);
    let Some(Entry { former, revision }) = identities.free(&key) else { return Ok(()) };
    if let Ok(uid) = SubscriptionUid::parse(&former.uid) {
        keep_disabled(&uid, object.meta().generation.unwrap_or_default(), js).await?;
    }
    let former = Former { object: object.uid(), ..former };
    let revision = js.put_at(CONFIG_BUCKET, &key, record::encode(&former)?, revision).await?;
    let revision = revision.ok_or(ReconcileError::Outdated)?;
    let named = Named::of::<K>(Some(&namespace), Some(&name));
    about!(
        info,
        named,
        uid = former.uid,
        "the object takes the place of its namesake in the installation that was taken over"
    );
    identities.put(key, Entry { former, revision });
    Ok(())
}

/// A mark that disables a Subscription is of a generation, and the object that is applied again starts at another one.
async fn keep_disabled(uid: &SubscriptionUid, generation: i64, js: &JetStream) -> Result<(), ReconcileError> {
    let Some(entry) = js.get(STATE_BUCKET, &disabled_key(uid)).await? else { return Ok(()) };
    let Ok(mark) = record::decode::<Disabled>(&entry.value) else { return Ok(()) };
    for key in js.keys(CONFIG_BUCKET, &format!("subscription.*.{uid}")).await? {
        let Some(found) = js.get(CONFIG_BUCKET, &key).await? else { continue };
        let Ok(record) = record::decode::<SubscriptionRecord<Sealed>>(&found.value) else { continue };
        if record.identity.generation == mark.generation && mark.generation != generation {
            let mark = record::encode(&Disabled { generation, ..mark.clone() })?;
            js.put_at(STATE_BUCKET, &disabled_key(uid), mark, entry.revision).await?.ok_or(ReconcileError::Outdated)?;
        }
    }
    Ok(())
}

/// Forgets what a deleted object had taken up: another one of its name is a new one.
pub(crate) async fn release(object: &impl Resource, identities: &Identities, js: &JetStream) -> Result<(), JsError> {
    match identities.release(&object.uid().unwrap_or_default()) {
        Some(key) => js.remove(CONFIG_BUCKET, &key).await,
        None => Ok(()),
    }
}
