//! Brings parked deliveries forward: what waited for a Subscription goes out once its events flow again.

use std::future::ready;
use std::time::Duration;

use async_nats::jetstream::context::{GetStreamError, PublishError};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{InfoError, LastRawMessageError, LastRawMessageErrorKind, Stream};
use futures::{StreamExt, TryStreamExt, stream};
use hookwright_core::delivery::parked::{PARKED_HEADER, ParkedDelivery};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{PARKED_STREAM, parked_at_all, parked_due};
use hookwright_core::record::{RecordError, decode};
use hookwright_runtime::nats::Nats;
use hookwright_runtime::publish::publish_at;
use jiff::{SignedDuration, Timestamp};

/// How many deliveries become due in a second.
const A_SECOND: usize = 256;
/// How many are read or written at a time.
const AT_ONCE: usize = 32;

/// Why parked deliveries were not brought forward. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("can't find the stream of parked deliveries")]
    Stream(#[source] GetStreamError),
    #[error("can't list the parked deliveries")]
    List(#[source] InfoError),
    #[error("can't read a parked delivery")]
    Read(#[source] LastRawMessageError),
    #[error("can't decode or encode a parked delivery")]
    Record(#[from] RecordError),
    #[error("NATS did not store a parked delivery")]
    Store(#[source] PublishError),
}

/// A delivery that waits.
struct Waiting {
    message: StreamMessage,
    parked: ParkedDelivery,
}

/// Has everything that is parked for the Subscription come due now, the oldest events first. Deadlines move by the time
/// since `since`. Returns how many deliveries were brought forward.
pub(crate) async fn bring_forward(
    nats: &Nats,
    uid: &SubscriptionUid,
    now: Timestamp,
    since: Timestamp,
) -> Result<usize, ForwardError> {
    let parked =
        nats.jetstream.get_stream_no_info(nats.names.stream(PARKED_STREAM)).await.map_err(ForwardError::Stream)?;
    let subjects =
        parked.info_with_subjects(&*nats.names.subject(&parked_at_all(uid))).await.map_err(ForwardError::List)?;
    let subjects: Vec<String> =
        subjects.map_ok(|(subject, _)| subject).try_collect().await.map_err(ForwardError::List)?;
    let found = stream::iter(subjects).map(|subject| {
        let parked = &parked;
        async move {
            let waiting = read(parked, &subject).await?;
            Ok::<_, ForwardError>(waiting.map(|waiting| (waiting.parked.event.published, subject)))
        }
    });
    let found = found.buffer_unordered(AT_ONCE).try_filter_map(|found| ready(Ok(found)));
    let mut all: Vec<_> = found.try_collect().await?;
    all.sort();
    let behind = now.duration_since(since);
    let brought = stream::iter(all.into_iter().enumerate()).map(|(n, (_, subject))| {
        let parked = &parked;
        let at = now.checked_add(Duration::from_secs((n / A_SECOND) as u64)).unwrap_or(now);
        async move {
            // It is read again, so that few bodies are in memory at a time. It may have come due or been parked again.
            let Some(waiting) = read(parked, &subject).await? else { return Ok(false) };
            schedule(nats, uid, waiting, at, behind).await
        }
    });
    brought.buffered(AT_ONCE).try_fold(0, |sum, brought| ready(Ok(sum + usize::from(brought)))).await
}

/// Has the delivery that was parked first come due now, as a probe of the endpoint. Returns whether there is one. One that
/// can't be read, or comes due by itself, is passed over.
pub(crate) async fn bring_probe(nats: &Nats, uid: &SubscriptionUid, now: Timestamp) -> Result<bool, ForwardError> {
    let stream =
        nats.jetstream.get_stream_no_info(nats.names.stream(PARKED_STREAM)).await.map_err(ForwardError::Stream)?;
    let (subjects, mut from) = (nats.names.subject(&parked_at_all(uid)).into_owned(), 0);
    loop {
        let message = match stream.get_first_raw_message_by_subject(&subjects, from).await {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(false),
            Err(error) => return Err(ForwardError::Read(error)),
        };
        from = message.sequence + 1;
        let Some(mut waiting) = decoded(message) else { continue };
        waiting.parked.progress.probe = true;
        if schedule(nats, uid, waiting, now, SignedDuration::ZERO).await? {
            return Ok(true);
        }
    }
}

async fn read(stream: &Stream<()>, subject: &str) -> Result<Option<Waiting>, ForwardError> {
    let message = match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => message,
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
        Err(error) => return Err(ForwardError::Read(error)),
    };
    Ok(decoded(message))
}

/// What can't be read waits until someone can.
fn decoded(message: StreamMessage) -> Option<Waiting> {
    let header = message.headers.get(PARKED_HEADER)?.as_str();
    let parked: ParkedDelivery = decode(header.as_bytes()).ok()?;
    Some(Waiting { message, parked })
}

/// Has a delivery come due at `at`, and moves its deadline by `behind`. Does nothing if it comes due before and no deadline
/// has to be moved, or if it was parked again.
async fn schedule(
    nats: &Nats,
    uid: &SubscriptionUid,
    waiting: Waiting,
    at: Timestamp,
    behind: SignedDuration,
) -> Result<bool, ForwardError> {
    let Waiting { message, mut parked } = waiting;
    let due = message.headers.get("Nats-Schedule").and_then(|value| value.as_str().strip_prefix("@at "));
    let is_due = due.and_then(|due| due.parse::<Timestamp>().ok()).is_some_and(|due| due <= at);
    if is_due && (behind.is_zero() || parked.progress.deadline.is_none()) {
        return Ok(false);
    }
    parked.progress.parks = 0;
    parked.progress.waits = 0;
    parked.progress.deadline = parked.progress.deadline.map(|end| end.checked_add(behind).unwrap_or(Timestamp::MAX));
    let mut headers = message.headers;
    for (name, value) in parked.headers(at, &nats.names.subject(&parked_due(uid)))? {
        headers.insert(name, value.as_str());
    }
    let StreamMessage { subject, payload, sequence, .. } = message;
    let stored = publish_at(&nats.jetstream, subject, headers, payload, sequence).await;
    Ok(stored.map_err(ForwardError::Store)?.is_some())
}
