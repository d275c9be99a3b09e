//! Notes since when other namespaces are let in, which bounds how far back their Subscriptions may start.

use std::collections::BTreeSet;

use async_nats::jetstream::stream::Info;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::{STATE_BUCKET, grants_key};
use hookwright_core::record::{self, Admitted, Grants, RecordError};
use hookwright_crds::{FromNamespaces, Producer};
use tracing::warn;

use crate::context::Context;
use crate::nats::jetstream::created;
use crate::reconcile::error::ReconcileError;

/// Brings the record up to date with who is let in now.
pub(super) async fn note(
    producer: &Producer,
    uid: &ProducerUid,
    stream: &Info,
    ctx: &Context,
) -> Result<(), ReconcileError> {
    let key = grants_key(uid);
    let found = ctx.js.newest(STATE_BUCKET, &key).await?;
    let old = match found.value.as_deref().map(record::decode::<Grants>).transpose() {
        Ok(old) => old,
        // Nobody knows since when others are let in, so it is from now on.
        Err(RecordError::NoRecord(why)) => {
            warn!(producer_uid = %uid, why, "what is noted of the grants is no record; they count from now on");
            None
        }
        Err(newer) => return Err(ReconcileError::Grants(newer)),
    };
    let admitted = admitted(producer, ctx).await;
    let grants = Grants::after(old.as_ref(), created(stream), stream.state.last_sequence, &admitted);
    if old.is_none() && grants.is_empty() || old.as_ref() == Some(&grants) {
        return Ok(());
    }
    let written = ctx.js.put_at(STATE_BUCKET, &key, record::encode(&grants)?, found.revision).await?;
    written.map(drop).ok_or(ReconcileError::Outdated)
}

async fn admitted(producer: &Producer, ctx: &Context) -> Admitted {
    match producer.spec.allowed_namespaces.as_ref().map(|allowed| allowed.from) {
        None | Some(FromNamespaces::Same) => Admitted::Some(BTreeSet::new()),
        Some(FromNamespaces::All) => Admitted::All,
        Some(FromNamespaces::Selector) => Admitted::Some(ctx.namespaces.admitted(producer).await),
    }
}
