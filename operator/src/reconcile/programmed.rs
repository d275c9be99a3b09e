//! Whether all live dispatchers have loaded a record.

use std::time::Duration;

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::LEASES_BUCKET;

use crate::cache::leases::{Leases, Rollout};
use crate::nats::jetstream::{JetStream, JsResult};

/// Dispatchers load a record within milliseconds, of thousands at once within a second; waiting this long saves a write
/// of status in between.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the mirror may take to come up to the bucket.
const CATCH_UP: Duration = Duration::from_secs(2);

/// How far the live dispatchers have come with the record of this revision, which concerns this Producer.
///
/// The mirror of the leases may lag, and a dispatcher that the operator has not heard of counts too. So the bucket's
/// leader is asked, after the record was written, how far the bucket goes, and the mirror has to have come that far. A
/// dispatcher whose lease is not among those joined after the record was written: it reads how far the config goes
/// before its first lease, so it has loaded the record.
pub(crate) async fn rollout(
    leases: &Leases,
    js: &JetStream,
    revision: u64,
    producer: &ProducerUid,
) -> JsResult<Rollout> {
    let rollout = leases.settle(revision, producer, SETTLE).await;
    if rollout != Rollout::Loaded {
        return Ok(rollout);
    }
    let epoch = js.epoch();
    let Some(bucket) = js.stream(&format!("KV_{LEASES_BUCKET}")).await? else { return Ok(Rollout::Unheard) };
    if leases.caught_up(epoch, bucket.state.last_sequence, CATCH_UP).await {
        Ok(leases.rollout(revision, producer))
    } else {
        Ok(Rollout::Unheard)
    }
}
