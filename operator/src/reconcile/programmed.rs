//! Whether all live dispatchers have loaded a record or a position.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::LEASES_BUCKET;

use crate::cache::leases::{Goal, Leases, Rollout};
use crate::nats::jetstream::{JetStream, JsResult, found};
use crate::nats::kv::Newest;

/// How long a reconcile waits for the dispatchers, which saves a write of status in between. They load one record
/// within milliseconds, and thousands within a second.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the mirror may take to catch up with the bucket.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Returns how far the live dispatchers have come with a goal that concerns this Producer.
///
/// The mirror of the leases may lag, and a dispatcher that the operator has not heard of counts too. So after the
/// record was written, the operator asks the bucket's leader for its last lease, and waits until the mirror has come that
/// far. The bucket's last sequence would not do: it stays when the lease runs out, and no mirror sees that one any more.
/// A dispatcher whose lease is not among those joined after the record was written. It has loaded the record, as it
/// reads how far the config and the positions go before it writes its first lease.
pub(crate) async fn rollout(leases: &Leases, js: &JetStream, goal: Goal, producer: &ProducerUid) -> JsResult<Rollout> {
    let rollout = leases.settle(goal, producer, SETTLE).await;
    if rollout != Rollout::Loaded {
        return Ok(rollout);
    }
    let epoch = js.epoch();
    let last = found(js.newest(LEASES_BUCKET, ">").await, ErrorCode::STREAM_NOT_FOUND)?;
    let Some(Newest { revision: last, .. }) = last else { return Ok(Rollout::Unheard) };
    if leases.caught_up(epoch, last, CATCH_UP).await {
        Ok(leases.rollout(goal, producer))
    } else {
        Ok(Rollout::Unheard)
    }
}
