//! Outcomes of attempts.

use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The kind of an attempt's outcome: a closed list. It reveals nothing that the receiver wrote: no body, no header, no
/// address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutcomeKind {
    /// The endpoint answered with a 2xx.
    Delivered,
    /// The endpoint answered with another HTTP status.
    Rejected,
    /// The endpoint didn't answer within the timeout. A response body that ends later doesn't count.
    TimedOut,
    /// The host name was not found, or has no address. A name whose addresses the egress rules forbid counts as not
    /// found: a tenant must not learn which names exist in the network of the dispatchers.
    NameNotFound,
    /// The host refused the connection.
    ConnectionRefused,
    /// The connection ended before an answer.
    ConnectionReset,
    /// No network route leads to the host.
    NoRoute,
    /// An answer came that can't be read as HTTP.
    AnswerUnreadable,
    /// The TLS handshake failed: the certificate is expired, for another host or from an unknown authority.
    TlsFailed,
    /// The request could not be built or signed; nothing was sent.
    Unsignable,
    /// The payload that the Subscription wants can't be made of the event; nothing was sent.
    TransformFailed,
    /// A policy of the Producer forbids that the Subscription gets the event; nothing was sent.
    Forbidden,
}

impl OutcomeKind {
    /// The name of the kind in status, dead letters and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "Delivered",
            Self::Rejected => "Rejected",
            Self::TimedOut => "TimedOut",
            Self::NameNotFound => "NameNotFound",
            Self::ConnectionRefused => "ConnectionRefused",
            Self::ConnectionReset => "ConnectionReset",
            Self::NoRoute => "NoRoute",
            Self::AnswerUnreadable => "AnswerUnreadable",
            Self::TlsFailed => "TlsFailed",
            Self::Unsignable => "Unsignable",
            Self::TransformFailed => "TransformFailed",
            Self::Forbidden => "Forbidden",
        }
    }

    /// The kind in words, for people: of conditions and dead letters.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Delivered => "the endpoint accepted the event",
            Self::Rejected => "the endpoint answered with another status than 2xx",
            Self::TimedOut => "no answer came in time",
            // It is true of a forbidden address and of an error of a name server as well.
            Self::NameNotFound => "no usable address of the host name was found",
            Self::ConnectionRefused => "the host refused the connection",
            Self::ConnectionReset => "the connection ended before an answer",
            Self::NoRoute => "no network route leads to the host",
            Self::AnswerUnreadable => "an answer came that can't be read as HTTP",
            Self::TlsFailed => "the TLS handshake failed",
            Self::Unsignable => "the request could not be built or signed",
            Self::TransformFailed => "the payload could not be made of the event",
            Self::Forbidden => "a policy of the Producer forbids the event",
        }
    }

    /// Whether the kind says something about the endpoint: a request was sent, or tried to be.
    #[must_use]
    pub const fn is_of_endpoint(self) -> bool {
        !matches!(self, Self::Unsignable | Self::TransformFailed | Self::Forbidden)
    }
}

/// A pause of an endpoint up to this long is waited for in the lane. During a longer one its events stay in the stream.
pub const SHORT_PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// The longest pause of an endpoint.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// How long a receiver can delay the next attempt at one delivery: as long as the default schedule's longest wait.
const LONGEST_DELAY: SignedDuration = SignedDuration::from_hours(24);

/// The outcome of an attempt, with everything that the decision about the next one depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The kind of the outcome.
    pub kind: OutcomeKind,
    /// The HTTP status, if there was a response.
    pub http_status: Option<u16>,
    /// The time of the next attempt that the receiver asked for with `Retry-After`.
    pub retry_after: Option<Timestamp>,
}

impl Outcome {
    /// An outcome without a response.
    #[must_use]
    pub const fn without_response(kind: OutcomeKind) -> Self {
        Self { kind, http_status: None, retry_after: None }
    }

    /// The outcome of a response with this status.
    #[must_use]
    pub const fn response(status: u16, retry_after: Option<Timestamp>) -> Self {
        let kind = if status >= 200 && status < 300 { OutcomeKind::Delivered } else { OutcomeKind::Rejected };
        Self { kind, http_status: Some(status), retry_after }
    }

    /// Whether something answered: so the network leads to it.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.http_status.is_some() || matches!(self.kind, OutcomeKind::AnswerUnreadable)
    }

    /// Whether the endpoint has said that it gets too much, or can't serve anything now: that concerns all of its
    /// deliveries.
    const fn is_of_all(&self) -> bool {
        matches!(self.http_status, Some(429 | 503))
    }

    /// Whether the endpoint gets more at the same time than it takes.
    #[must_use]
    pub const fn is_too_much(&self) -> bool {
        matches!(self.http_status, Some(429))
    }

    /// When the endpoint wants to get the delivery again, at most an hour from `now` if it pauses all of them, and at
    /// most a day otherwise.
    #[must_use]
    pub fn again(&self, now: Timestamp) -> Option<Timestamp> {
        let longest = if self.is_of_all() { LONGEST_PAUSE } else { LONGEST_DELAY };
        let latest = now.checked_add(longest).unwrap_or(Timestamp::MAX);
        self.retry_after.map(|asked| asked.min(latest))
    }

    /// For how long from `now` the endpoint has asked for a pause that concerns all of its deliveries.
    #[must_use]
    pub fn pause(&self, now: Timestamp) -> Option<SignedDuration> {
        let pause = self.again(now).filter(|_| self.is_of_all())?.duration_since(now);
        pause.is_positive().then_some(pause)
    }
}

/// A failed attempt, as parked deliveries and dead letters remember it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttemptRecord {
    /// When the attempt started.
    pub time: Timestamp,
    /// How the attempt ended.
    pub outcome: OutcomeKind,
    /// The HTTP status, if there was a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
}

/// The most parts of a `Retry-After` that are read.
const MAX_PARTS: usize = 16;

/// Reads the value of `Retry-After`: an HTTP date, or a number of seconds from `now` (RFC 9110, 10.2.3). Fractions of
/// seconds, dates in the forms of e-mail and of RFC 3339, quotes, and lists occur, too; of a list, the latest time counts.
/// `None` for anything else.
#[must_use]
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Timestamp> {
    let parts: Vec<&str> = value.split(',').take(MAX_PARTS).map(|part| part.trim_matches([' ', '\t', '"'])).collect();
    let from_now = |wait: SignedDuration| now.checked_add(wait).unwrap_or(Timestamp::MAX);
    let alone = parts.iter().filter_map(|part| seconds(part).map(from_now).or_else(|| date(part)));
    // A date may have a comma in it.
    let joined = parts.windows(2).filter_map(|pair| date(&pair.join(", ")));
    alone.chain(joined).max()
}

fn date(text: &str) -> Option<Timestamp> {
    let http = httpdate::parse_http_date(text).ok().and_then(|date| Timestamp::try_from(date).ok());
    http.or_else(|| DateTimeParser::new().parse_timestamp(text).ok()).or_else(|| text.parse().ok())
}

/// Reads a number of seconds, rounded up to whole ones.
fn seconds(text: &str) -> Option<SignedDuration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().unwrap_or(i64::MAX);
    let more = fraction.bytes().any(|digit| digit != b'0');
    Some(SignedDuration::from_secs(seconds.saturating_add(i64::from(more))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_endpoint_asks_for() {
        let t = |seconds| Timestamp::from_second(seconds).unwrap();
        for (status, asked, again, pause) in [
            (503, Some(10), Some(10), Some(10)),
            (429, Some(3600), Some(3600), Some(3600)),
            (429, Some(90_000), Some(3600), Some(3600)),
            (503, Some(-5), Some(-5), None),
            (500, Some(60), Some(60), None),
            (301, Some(90_000), Some(86_400), None),
            (503, None, None, None),
        ] {
            let outcome = Outcome::response(status, asked.map(t));
            let want = (again.map(t), pause.map(SignedDuration::from_secs));
            assert_eq!((outcome.again(t(0)), outcome.pause(t(0))), want, "{status} {asked:?}");
        }
    }

    #[test]
    fn retry_after_table() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (text, want) in [
            ("0", Some("2026-01-01T00:00:00Z")),
            (" 120 ", Some("2026-01-01T00:02:00Z")),
            ("Thu, 01 Jan 2026 01:00:00 GMT", Some("2026-01-01T01:00:00Z")),
            ("Thursday, 01-Jan-26 01:00:00 GMT", Some("2026-01-01T01:00:00Z")),
            ("-1", None),
            ("6.939", Some("2026-01-01T00:00:07Z")),
            ("7.0", Some("2026-01-01T00:00:07Z")),
            ("7.", Some("2026-01-01T00:00:07Z")),
            ("7, 2", Some("2026-01-01T00:00:07Z")),
            ("soon, 2,7.5 ", Some("2026-01-01T00:00:08Z")),
            ("Thu, 01 Jan 2026 01:00:00 GMT, 120", Some("2026-01-01T01:00:00Z")),
            ("7200,Thu, 01 Jan 2026 01:00:00 GMT", Some("2026-01-01T02:00:00Z")),
            ("Thu, 01 Jan 2026 01:00:00 GMT, Thu, 01 Jan 2026 03:00:00 GMT", Some("2026-01-01T03:00:00Z")),
            ("Thu Jan  1 01:00:00 2026", Some("2026-01-01T01:00:00Z")),
            ("\"120\"", Some("2026-01-01T00:02:00Z")),
            ("\"Thu, 01 Jan 2026 01:00:00 GMT\"", Some("2026-01-01T01:00:00Z")),
            // As Go writes the time in UTC, and with another day of the week.
            ("Thu, 01 Jan 2026 01:00:00 UTC", Some("2026-01-01T01:00:00Z")),
            ("Mon, 01 Jan 2026 01:00:00 GMT", Some("2026-01-01T01:00:00Z")),
            ("-009999-01-03T00:00:00Z", Some("-009999-01-03T00:00:00Z")),
            ("Thu, 1 Jan 2026 02:00:00 +0100", Some("2026-01-01T01:00:00Z")),
            ("2026-01-01T01:00:00Z", Some("2026-01-01T01:00:00Z")),
            (".5", None),
            ("7s", None),
            ("+7", None),
            ("1e3", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(text, now), want.map(|t| t.parse().unwrap()), "{text}");
        }
        assert_eq!(parse_retry_after("99999999999999999999", now), Some(Timestamp::MAX));
    }
}
