//! Reads the cursors of the Subscriptions that are behind, every 10 s.

use futures::StreamExt;
use hookwright_core::nats::ids::{ProducerUid, SubscriptionUid};
use hookwright_core::nats::names::CURSORS_BUCKET;
use hookwright_core::position::Cursor;
use hookwright_core::record;
use hookwright_crds::Subscription;
use hookwright_runtime::logging;
use jiff::Timestamp;
use tracing::{debug, warn};

use crate::background::Periodic;
use crate::cache::progress::Head;
use crate::cache::references::RefersToProducer;
use crate::context::Context;
use crate::faults;

const AT_ONCE: usize = 16;

/// The reading of cursors.
#[derive(Default)]
pub(crate) struct Cursors;

impl Periodic for Cursors {
    async fn turn(&mut self, ctx: &Context) {
        let wanted = ctx.health.want_cursors(|this| head(ctx, &*ctx.subscriptions.store.get(this)?));
        let reads = wanted.into_iter().map(|uid| faults::one(uid.clone(), read(ctx, uid)));
        futures::stream::iter(reads).buffer_unordered(AT_ONCE).for_each(async |_| ()).await;
    }
}

/// Returns how far the stream of a Subscription goes, if that is known.
pub(super) fn head(ctx: &Context, subscription: &Subscription) -> Option<Head> {
    let producer = ctx.producers.store.get(&subscription.producer_ref())?;
    ctx.stream_heads.get(&ProducerUid::parse(&ctx.identities.of(&*producer)).ok()?)
}

async fn read(ctx: &Context, uid: SubscriptionUid) {
    let entry = match ctx.js.get(CURSORS_BUCKET, uid.as_str()).await {
        Ok(entry) => entry,
        Err(error) => return debug!(%uid, error = logging::chain(&error), "can't read a cursor"),
    };
    match entry.map(|entry| record::decode::<Cursor>(&entry.value)).transpose() {
        Ok(cursor) => ctx.health.read_cursor(&uid, cursor, Timestamp::now()),
        Err(error) => warn!(%uid, error = logging::chain(&error), "can't read a cursor"),
    }
}
