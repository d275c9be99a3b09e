//! The id of a delivery: the value of `webhook-id`. It is the same on each attempt, after each crash and from each pod.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::nats::ids::SubscriptionUid;

/// Everything that the id of a delivery is made of. The CloudEvents id is not part of it, as it is unique only for its
/// source. The creation time of the stream is, as a stream that is created again starts again at sequence 1.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryKey<'a> {
    /// The Subscription that gets the event.
    pub subscription: &'a SubscriptionUid,
    /// The name of the stream that holds the event.
    pub stream: &'a str,
    /// When that stream was created, by the NATS server's clock.
    pub stream_created: Timestamp,
    /// The event's sequence in that stream.
    pub sequence: u64,
    /// The time at which the stream stored the event. After a crash of its server a stream may give a sequence out again.
    pub stored: Timestamp,
}

const PREFIX: &str = "msg_";
/// The length of an id in characters: the prefix and 52 characters of base32.
const LENGTH: usize = PREFIX.len() + 52;

/// The id of a delivery: `msg_` and the lower-case base32 of a SHA-256. It has 56 characters of a-z, 2-7 and `_`, so it
/// can stand in subjects and in the headers of requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeliveryId(String);

/// A text that is not the id of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the id of a delivery")]
pub struct InvalidDeliveryId;

impl TryFrom<String> for DeliveryId {
    type Error = InvalidDeliveryId;

    fn try_from(text: String) -> Result<Self, InvalidDeliveryId> {
        let is_base32 = |b: u8| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b);
        let is_digest = |digest: &str| digest.bytes().all(is_base32);
        let is_id = text.len() == LENGTH && text.strip_prefix(PREFIX).is_some_and(is_digest);
        if is_id { Ok(Self(text)) } else { Err(InvalidDeliveryId) }
    }
}

impl From<DeliveryId> for String {
    fn from(id: DeliveryId) -> Self {
        id.0
    }
}

impl DeliveryKey<'_> {
    /// The id of this delivery: a SHA-256 over the fields in their order, each preceded by its length in bytes as a
    /// big-endian `u32`. Both times are written as nanoseconds since 1970 (`i128`, big-endian), the sequence as a
    /// big-endian `u64`.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        let mut hash = Context::new(&SHA256);
        let mut field = |bytes: &[u8]| {
            hash.update(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(bytes);
        };
        field(self.subscription.as_str().as_bytes());
        field(self.stream.as_bytes());
        field(&self.stream_created.as_nanosecond().to_be_bytes());
        field(&self.sequence.to_be_bytes());
        field(&self.stored.as_nanosecond().to_be_bytes());
        let mut text = String::with_capacity(LENGTH);
        text.push_str(PREFIX);
        BASE32_NOPAD.encode_append(hash.finish().as_ref(), &mut text);
        text.make_ascii_lowercase();
        DeliveryId(text)
    }
}

impl DeliveryId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(uid: &str, stream: &str, created: &str, sequence: u64, stored: &str) -> DeliveryId {
        let subscription = SubscriptionUid::parse(uid).unwrap();
        let (stream_created, stored) = (created.parse().unwrap(), stored.parse().unwrap());
        DeliveryKey { subscription: &subscription, stream, stream_created, sequence, stored }.id()
    }

    /// A fixed example. It must never change, or receivers would take a repeated attempt for a new delivery.
    #[test]
    fn vector() {
        let (uid, created) = ("0e9a4a6e-6f0f-4a3e-9d6c-1f2e3d4c5b6a", "2026-01-02T03:04:05.000000006Z");
        let got = id(uid, "shop_orders", created, 42, "2026-03-01T09:30:00.123456789Z");
        assert_eq!(got.as_str(), "msg_m7ek4y3k4l22ky5aj2zvcgfqs7d2ge3o7rk6vykijllbs6q5p6qq");
    }

    #[test]
    fn only_an_id_is_read_as_one() {
        let text = id("a", "s", "2026-01-01T00:00:00Z", 1, "2026-01-01T00:00:00Z").as_str().to_owned();
        let read = |text: &str| serde_json::from_value::<DeliveryId>(text.into());
        let written = serde_json::to_value(read(&text).unwrap()).unwrap();
        assert_eq!(written, text);
        let with = |end: &str| format!("{}{end}", &text[..text.len() - end.len()]);
        for bad in ["", "msg_", &text[..55], &format!("{text}a"), &text.replace("msg_", "msg-")] {
            assert!(read(bad).is_err(), "{bad}");
        }
        for end in ["1", "A", ".", "*", " x", "\r\nx: y", "é"] {
            assert!(read(&with(end)).is_err(), "{end:?}");
        }
    }

    #[test]
    fn each_field_counts() {
        let (day, later) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000001Z");
        let base = id("a", "s", day, 1, day);
        for other in [
            id("b", "s", day, 1, day),
            id("a", "t", day, 1, day),
            id("a", "s", later, 1, day),
            id("a", "s", day, 2, day),
            id("a", "s", day, 1, later),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(id("ab", "c", day, 1, day), id("a", "bc", day, 1, day));
        assert_eq!(base.as_str().len(), 56);
    }
}
