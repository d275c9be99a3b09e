//! The NATS messages that carry an event: as the Producer's application published it, parked, and as a dead letter.

use async_nats::HeaderMap;
use async_nats::jetstream::message::Info;
use bytes::Bytes;
use hookwright_core::delivery::dead_letter::DeadLetter;
use hookwright_core::delivery::event_ref::{EVENT_HEADER_PREFIX, EventRef};
use hookwright_core::delivery::parked::ParkedDelivery;
use hookwright_core::event::Message;
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
