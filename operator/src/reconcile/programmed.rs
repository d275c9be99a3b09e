//! Whether all live dispatchers have loaded a record.

use std::time::Duration;

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::LEASES_BUCKET;

use crate::context::Context;
use crate::nats::jetstream::JsResult;
use crate::reconcile::leases::Verdict;

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
pub(crate) async fn verdict(ctx: &Context, revision: u64, producer: &ProducerUid) -> JsResult<Verdict> {
    let verdict = ctx.leases.settle(revision, producer, SETTLE).await;
    if verdict != Verdict::Loaded {
        return Ok(verdict);
    }
    let epoch = ctx.js.epoch();
    let Some(bucket) = ctx.js.stream(&format!("KV_{LEASES_BUCKET}")).await? else { return Ok(Verdict::Unheard) };
    if ctx.leases.caught_up(epoch, bucket.state.last_sequence, CATCH_UP).await {
        Ok(ctx.leases.verdict(revision, producer))
    } else {
        Ok(Verdict::Unheard)
    }
}
