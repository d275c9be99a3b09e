//! Brings parked deliveries forward: what waited for a Subscription goes out once its events flow again.

use std::time::Duration;

use async_nats::jetstream::context::{GetStreamError, PublishError};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{InfoError, LastRawMessageError, LastRawMessageErrorKind, Stream};
use futures::TryStreamExt;
use hookwright_core::delivery::parked::{PARKED_HEADER, ParkedDelivery};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{PARKED_STREAM, parked_at_all, parked_due};
use hookwright_core::record::{RecordError, decode};
use hookwright_runtime::nats::Nats;
use hookwright_runtime::publish::publish_at;
use jiff::{SignedDuration, Timestamp};

/// How many deliveries become due in a second.
const A_SECOND: usize = 256;

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
    let stream =
        nats.jetstream.get_stream_no_info(nats.names.stream(PARKED_STREAM)).await.map_err(ForwardError::Stream)?;
    let subjects =
        stream.info_with_subjects(&*nats.names.subject(&parked_at_all(uid))).await.map_err(ForwardError::List)?;
    let subjects: Vec<String> =
        subjects.map_ok(|(subject, _)| subject).try_collect().await.map_err(ForwardError::List)?;
    let mut all = Vec::with_capacity(subjects.len());
    for subject in subjects {
        if let Some(waiting) = read(&stream, &subject).await? {
            all.push((waiting.parked.event.published, subject));
        }
    }
    all.sort();
    let (behind, mut brought) = (now.duration_since(since), 0);
    for (n, (_, subject)) in all.into_iter().enumerate() {
        let seconds = Duration::from_secs((n / A_SECOND) as u64);
        let at = now.checked_add(seconds).unwrap_or(now);
        // It may have come due or been parked again meanwhile.
        let Some(waiting) = read(&stream, &subject).await? else { continue };
        brought += usize::from(schedule(nats, uid, waiting, at, behind).await?);
    }
    Ok(brought)
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

/// Has a delivery come due at `at`, unless it comes due before, or was parked again.
async fn schedule(
    nats: &Nats,
    uid: &SubscriptionUid,
    waiting: Waiting,
    at: Timestamp,
    behind: SignedDuration,
) -> Result<bool, ForwardError> {
    let Waiting { message, mut parked } = waiting;
    let due = message.headers.get("Nats-Schedule").and_then(|value| value.as_str().strip_prefix("@at "));
    if due.and_then(|due| due.parse::<Timestamp>().ok()).is_some_and(|due| due <= at) {
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
