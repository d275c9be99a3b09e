//! Marks Subscriptions as deleted. Only this mark tells dispatchers that what is parked for a Subscription may be dropped:
//! a record can be missing for other reasons.

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{CONFIG_BUCKET, deleted_key};
use hookwright_core::record::{self, Deleted, VERSION};

use crate::nats::jetstream::{JetStream, JsError, JsResult};

/// Marks a Subscription as deleted. This comes before its record is removed.
pub(crate) async fn put(js: &JetStream, subscription: &SubscriptionUid) -> JsResult<()> {
    let key = deleted_key(subscription);
    let value = record::encode(&Deleted { version: VERSION });
    let value = value.map_err(|source| JsError::Encode { what: key.clone(), source })?;
    js.put(CONFIG_BUCKET, &key, value).await.map(drop)
}
