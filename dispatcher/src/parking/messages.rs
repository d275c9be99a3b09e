//! The NATS messages that carry an event: as the Producer's application published it, parked, and as a dead letter.

use async_nats::jetstream::message::Info;
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use hookwright_core::delivery::dead_letter::DeadLetter;
use hookwright_core::delivery::event_headers::{EVENT_HEADERS_HEADER, decode_event_headers, encode_event_headers};
use hookwright_core::delivery::event_ref::EventRef;
use hookwright_core::delivery::parked::{ParkedDelivery, schedule_headers};
use hookwright_core::event::{Message, is_event};
use hookwright_core::nats::installation::Names;
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
        let (subject, headers) = (message.subject.into_string(), message.headers.unwrap_or_default());
        Self::of(subject, headers, message.payload, position, stream_created)
    }

    /// An event that was stored under this subject, at this position. Its type is not known yet.
    pub(crate) fn of(
        subject: String,
        headers: HeaderMap,
        body: Bytes,
        position: StreamPosition,
        stream_created: Timestamp,
    ) -> Self {
        let StreamPosition { stream, sequence, published } = position;
        let event = EventRef { stream, stream_created, sequence, subject, published, event_type: String::new() };
        Self { event, headers, body }
    }

    /// Takes the event out of a parked delivery.
    ///
    /// # Errors
    /// If its headers are not in the form that [`Self::parked`] gives them.
    pub(crate) fn from_parked(message: &async_nats::Message, event: EventRef) -> Result<Self, RecordError> {
        let encoded = message.headers.as_ref().and_then(|headers| headers.get(EVENT_HEADERS_HEADER));
        let pairs = encoded.map_or(Ok(Vec::new()), |encoded| decode_event_headers(encoded.as_str()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            // A header that NATS doesn't allow was never published.
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                headers.append(name, value);
            }
        }
        Ok(Self { event, headers, body: message.payload.clone() })
    }

    /// Whether the message is an event. The others in a stream are marks of deletions, or instructions to the server.
    pub(crate) fn is_event(&self) -> bool {
        self.headers.is_empty() || is_event(|name| self.headers.get(name).map(|value| value.as_str()))
    }

    /// The names and values of the event's own headers.
    fn pairs(&self) -> Vec<(&str, &str)> {
        let headers = self.headers.iter();
        headers.flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str()))).collect()
    }

    /// Calls `read` with the message as the domain crate describes it.
    pub(crate) fn with_message<T>(&self, read: impl FnOnce(&Message<'_>) -> T) -> T {
        let pairs = self.pairs();
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

    /// The header that keeps the event's own headers, if it has any.
    fn kept_headers(&self) -> Result<HeaderMap, RecordError> {
        let mut headers = HeaderMap::new();
        if !self.headers.is_empty() {
            headers.insert(EVENT_HEADERS_HEADER, encode_event_headers(&self.pairs())?);
        }
        Ok(headers)
    }

    /// The headers of the message that parks a delivery. The server publishes the message to `target` at `at` (ADR-51).
    pub(crate) fn parked(
        &self,
        parked: &ParkedDelivery,
        at: Timestamp,
        target: &str,
    ) -> Result<HeaderMap, RecordError> {
        Ok(with(self.kept_headers()?, parked.headers(at, target)?))
    }

    /// The headers of the message that keeps a dead letter. A dead letter that is only a reference does not have the
    /// event's headers.
    pub(crate) fn dead_letter(&self, letter: &DeadLetter) -> Result<HeaderMap, RecordError> {
        let headers = if letter.reference_only { HeaderMap::new() } else { self.kept_headers()? };
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
/// never waited, such as a test, waits under a subject of its own. So does one that somebody else has published with such a
/// header, or under a subject that is none of ours.
pub(crate) fn schedule_of(message: &async_nats::Message, names: &Names) -> String {
    let header = message.headers.as_ref().and_then(|headers| headers.get("Nats-Scheduler"));
    let at = names.subject(PARKED_AT_PREFIX);
    let schedule = header.map(HeaderValue::as_str).filter(|schedule| schedule.strip_prefix(&*at).is_some_and(is_plain));
    if let Some(schedule) = schedule {
        return schedule.to_owned();
    }
    format!("{at}{}.{:016x}", whose(message, names), rand::random::<u64>())
}

/// The tokens of a due message's subject that say whose it is.
fn whose<'a>(message: &'a async_nats::Message, names: &Names) -> &'a str {
    let rest = message.subject.strip_prefix(&*names.subject(PARKED_DUE_PREFIX));
    rest.filter(|rest| is_plain(rest)).unwrap_or(NOBODY)
}

/// What stands in place of a Subscription's uid if there is none. It is no uid.
const NOBODY: &str = "_";

/// Whether these are tokens of a subject as uids and ids of deliveries are.
fn is_plain(tokens: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    tokens.split('.').all(|token| !token.is_empty() && token.bytes().all(allowed))
}

/// The headers of a due message that waits again until `at`, without those by which the server delivered it.
pub(crate) fn unread_headers(message: &async_nats::Message, at: Timestamp, parks: u32, names: &Names) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        if !name.starts_with("Nats-") && name != UNREAD_PARKS {
            values.iter().for_each(|value| headers.append(name, value.clone()));
        }
    }
    headers.insert(UNREAD_PARKS, parks.to_string());
    let due = format!("{}{}", names.subject(PARKED_DUE_PREFIX), whose(message, names));
    with(headers, schedule_headers(at, &due))
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

#[cfg(test)]
mod tests {
    use hookwright_core::nats::delivery_id::DeliveryKey;
    use hookwright_core::nats::ids::{ProducerUid, SubscriptionUid};

    use super::*;

    #[test]
    fn a_due_message_waits_again_under_a_subject_of_ours_whatever_it_says() {
        let due = |subject: &str, schedule: Option<&str>| {
            let mut headers = HeaderMap::new();
            schedule.into_iter().for_each(|schedule| headers.insert("Nats-Scheduler", schedule));
            let message = async_nats::Message {
                subject: subject.to_owned().into(),
                reply: None,
                payload: Bytes::new(),
                headers: Some(headers),
                status: None,
                description: None,
                length: 0,
            };
            schedule_of(&message, &Names::default())
        };
        let (at, of_ours) = ("hookwright.parked.at.", "hookwright.parked.due.any.s-1");
        let known = format!("{at}s-1.msg_a2");
        assert_eq!(due(of_ours, Some(&known)), known);
        for (subject, schedule, begins) in [
            (of_ours, None, "s-1."),
            ("hookwright.parked.due.any.s-1.test", None, "s-1.test."),
            (of_ours, Some("elsewhere"), "s-1."),
            (of_ours, Some("hookwright.parked.at."), "s-1."),
            (of_ours, Some("hookwright.parked.at.s-1.>"), "s-1."),
            (of_ours, Some("hookwright.parked.at.s-1 x"), "s-1."),
            (of_ours, Some("hookwright.parked.at..x"), "s-1."),
            ("hookwright.parked.due.any.*", None, "_."),
            ("hookwright.parked.due.any.\u{2003}", None, "_."),
            ("elsewhere", None, "_."),
        ] {
            let rest = due(subject, schedule).strip_prefix(at).map(str::to_owned).unwrap_or_default();
            let is_random = rest.strip_prefix(begins).is_some_and(|random| random.len() == 16 && is_plain(random));
            assert!(is_random, "{subject} {schedule:?}: {rest}");
        }
    }

    #[test]
    fn an_events_headers_come_back_and_none_of_them_is_a_header_of_the_parked_message() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("Nats-Msg-Id", "1"), ("X-Nats-Schedule", "@at x"), ("x", "a, \"é\""), ("x", "")] {
            headers.append(name, value);
        }
        let event = EventRef {
            stream: "s".to_owned(),
            stream_created: Timestamp::UNIX_EPOCH,
            sequence: 7,
            subject: "a.b".to_owned(),
            published: Timestamp::UNIX_EPOCH,
            event_type: "b".to_owned(),
        };
        let subscription = SubscriptionUid::parse("s-1").unwrap();
        let key = DeliveryKey {
            subscription: &subscription,
            stream: &event.stream,
            stream_created: event.stream_created,
            sequence: event.sequence,
            stored: event.published,
        };
        let parked = ParkedDelivery {
            version: 1,
            id: key.id(),
            producer: ProducerUid::parse("p-1").unwrap(),
            revision: 1,
            event: event.clone(),
            progress: hookwright_core::delivery::progress::Progress::default(),
            subscription: subscription.clone(),
        };
        let published = Published { event: event.clone(), headers: headers.clone(), body: Bytes::from_static(b"x") };
        let stored = published.parked(&parked, Timestamp::UNIX_EPOCH, "target").unwrap();
        let mut names: Vec<&str> = stored.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        let own = ["Hookwright-Event-Headers", "Hookwright-Parked", "Nats-Schedule", "Nats-Schedule-Target"];
        assert_eq!(names, own);
        let message = async_nats::Message {
            subject: "due".into(),
            reply: None,
            payload: published.body.clone(),
            headers: Some(stored),
            status: None,
            description: None,
            length: 0,
        };
        assert_eq!(Published::from_parked(&message, event).unwrap().headers, headers);
    }
}
