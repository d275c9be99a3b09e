//! The cursors of dedicated readers, in their bucket. Only the owner of a Subscription reads and writes its cursor.

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::CURSORS_BUCKET;
use hookwright_core::position::Cursor;
use hookwright_core::record::{RecordError, decode, encode};
use hookwright_runtime::bucket::Bucket;
use hookwright_runtime::nats::Nats;
use jiff::Timestamp;
use tracing::warn;

use crate::position::positions::PositionError;

/// A cursor as it was read or written.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) cursor: Cursor,
    pub(crate) revision: u64,
}

/// Reads the cursor of a Subscription in the stream that was created at this time. The leader is asked.
pub(crate) async fn read(nats: &Nats, uid: &SubscriptionUid, created: Timestamp) -> Result<Kept, PositionError> {
    let (cursor, revision) = found(nats, uid).await?;
    let cursor = match cursor {
        Some(cursor) if cursor.stream_created == created => cursor,
        // What was missed and skipped stays, so that it can be told.
        Some(Cursor { missed, skipped, .. }) => Cursor { missed, skipped, ..Cursor::new(created) },
        None => Cursor::new(created),
    };
    Ok(Kept { cursor, revision })
}

/// Reads the cursor of a Subscription, of whichever stream it is, and its revision. The leader is asked.
pub(crate) async fn found(nats: &Nats, uid: &SubscriptionUid) -> Result<(Option<Cursor>, u64), PositionError> {
    let newest = Bucket::named(nats, CURSORS_BUCKET).await?.newest(uid.as_str()).await?;
    match newest.value.as_deref().map(decode::<Cursor>).transpose() {
        Ok(cursor) => Ok((cursor, newest.revision)),
        // Nobody could ever go on from it: the reader begins again with what waits.
        Err(RecordError::NoRecord(why)) => {
            warn!(subscription_uid = %uid, why, "a cursor is no record; its reader begins anew");
            Ok((None, newest.revision))
        }
        Err(newer) => Err(newer.into()),
    }
}

/// Writes the cursor. Returns the new revision, or none if another dispatcher has written meanwhile.
pub(crate) async fn write(
    nats: &Nats,
    uid: &SubscriptionUid,
    cursor: &Cursor,
    revision: u64,
) -> Result<Option<u64>, PositionError> {
    let bucket = Bucket::named(nats, CURSORS_BUCKET).await?;
    Ok(bucket.put_at(uid.as_str(), encode(cursor)?.into(), revision).await?)
}
