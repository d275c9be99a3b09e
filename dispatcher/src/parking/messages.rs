//! The NATS messages that carry an event: as the Producer's application published it, parked, and as a dead letter.

use async_nats::HeaderMap;
use async_nats::jetstream::message::Info;
use bytes::Bytes;
use hookwright_core::delivery::dead_letter::DeadLetter;
use hookwright_core::delivery::event_ref::{EVENT_HEADER_PREFIX, EventRef};
use hookwright_core::delivery::parked::{ParkedDelivery, schedule_headers};
use hookwright_core::event::Message;
use hookwright_core::nats::names::{PARKED_AT_PREFIX, PARKED_DUE_PREFIX};
use hookwright_core::record::RecordError;
use jiff::Timestamp;

/// An event as it was published.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) event: EventRef,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Published {
    /// Takes an event from a Producer's stream. Its type is not known yet.
    pub(crate) fn from_stream(
        message: async_nats::Message,
        position: StreamPosition,
        stream_created: Timestamp,
    ) -> Self {
        let event = EventRef {
            stream: position.stream,
            stream_created,
            sequence: position.sequence,
            subject: message.subject.into_string(),
            published: position.published,
            event_type: String::new(),
        };
        Self { event, headers: message.headers.unwrap_or_default(), body: message.payload }
    }

    /// Takes the event out of a parked delivery.
    pub(crate) fn from_parked(message: async_nats::Message, event: EventRef) -> Self {
        let mut headers = HeaderMap::new();
        for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
            let name: &str = name.as_ref();
            if let Some(name) = name.strip_prefix(EVENT_HEADER_PREFIX) {
                values.iter().for_each(|value| headers.append(name, value.clone()));
            }
        }
        Self { event, headers, body: message.payload }
    }

    /// Calls `read` with the message as the domain crate describes it.
    pub(crate) fn with_message<T>(&self, read: impl FnOnce(&Message<'_>) -> T) -> T {
        let pairs: Vec<(&str, &str)> = self
            .headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str())))
            .collect();
        read(&Message {
            subject: &self.event.subject,
            headers: &pairs,
            body: &self.body,
            stream: &self.event.stream,
            sequence: self.event.sequence,
            published: self.event.published,
        })
    }

    /// The approximate number of bytes of headers and body.
    pub(crate) fn size(&self) -> usize {
        size(&self.headers) + self.body.len()
    }

    fn prefixed_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in self.headers.iter() {
            let name = format!("{EVENT_HEADER_PREFIX}{name}");
            values.iter().for_each(|value| headers.append(name.as_str(), value.clone()));
        }
        headers
    }

    /// The headers of the message that parks a delivery. The server publishes the message to `target` at `at` (ADR-51).
    pub(crate) fn parked(
        &self,
        parked: &ParkedDelivery,
        at: Timestamp,
        target: &str,
    ) -> Result<HeaderMap, RecordError> {
        Ok(with(self.prefixed_headers(), parked.headers(at, target)?))
    }

    /// The headers of the message that keeps a dead letter. A dead letter that is only a reference does not have the
    /// event's headers.
    pub(crate) fn dead_letter(&self, letter: &DeadLetter) -> Result<HeaderMap, RecordError> {
        let headers = if letter.reference_only { HeaderMap::new() } else { self.prefixed_headers() };
        Ok(with(headers, letter.headers()?))
    }
}

/// The header that counts how often a due message was parked again that could not be read.
const UNREAD_PARKS: &str = "Hookwright-Unread-Parks";

/// How often this due message was parked again before, because it could not be read.
pub(crate) fn parks_before(message: &async_nats::Message) -> u32 {
    let header = message.headers.as_ref().and_then(|headers| headers.get(UNREAD_PARKS));
    header.and_then(|parks| parks.as_str().parse().ok()).unwrap_or_default()
}

/// The subject under which a due message waits again. The server says in a header under which it has waited. One that
/// never waited, such as a test, waits under a subject of its own.
pub(crate) fn schedule_of(message: &async_nats::Message) -> String {
    let header = message.headers.as_ref().and_then(|headers| headers.get("Nats-Scheduler"));
    match header {
        Some(schedule) => schedule.as_str().to_owned(),
        None => {
            let subscription = message.subject.strip_prefix(PARKED_DUE_PREFIX).unwrap_or_default();
            format!("{PARKED_AT_PREFIX}{subscription}.{:016x}", rand::random::<u64>())
        }
    }
}

/// The headers of a due message that waits again until `at`, without those by which the server delivered it.
pub(crate) fn unread_headers(message: &async_nats::Message, at: Timestamp, parks: u32) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        if !name.starts_with("Nats-") && name != UNREAD_PARKS {
            values.iter().for_each(|value| headers.append(name, value.clone()));
        }
    }
    headers.insert(UNREAD_PARKS, parks.to_string());
    with(headers, schedule_headers(at, &message.subject))
}

/// A message's position in its stream.
#[derive(Debug, Clone)]
pub(crate) struct StreamPosition {
    pub(crate) stream: String,
    pub(crate) sequence: u64,
    pub(crate) published: Timestamp,
}

impl StreamPosition {
    pub(crate) fn of(info: &Info<'_>) -> Self {
        let published = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos()).unwrap_or_default();
        Self { stream: info.stream.to_owned(), sequence: info.stream_sequence, published }
    }
}

/// The approximate number of bytes that these headers take on the wire.
pub(crate) fn size(headers: &HeaderMap) -> usize {
    let line = |name: &str, value: &str| name.len() + value.len() + ": \r\n".len();
    let lines =
        headers.iter().flat_map(|(name, values)| values.iter().map(move |value| line(name.as_ref(), value.as_str())));
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}

fn with(mut headers: HeaderMap, own: impl IntoIterator<Item = (&'static str, String)>) -> HeaderMap {
    own.into_iter().for_each(|(name, value)| headers.insert(name, value));
    headers
}
