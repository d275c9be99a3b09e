//! Outcomes of attempts.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The kind of an attempt's outcome. It reveals nothing that the receiver wrote: no body, no header, no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutcomeKind {
    /// The endpoint answered with a 2xx.
    Delivered,
    /// The endpoint answered with another HTTP status.
    Rejected,
    /// The endpoint didn't answer within the timeout. A response body that ends later doesn't count.
    TimedOut,
    /// The host name was not found, or the connection was refused or reset.
    Unreachable,
    /// The TLS handshake failed: the certificate is expired, for another host or from an unknown authority.
    TlsFailed,
    /// The egress rules forbid the URL or an address that its host resolves to; nothing was sent.
    Blocked,
    /// The request could not be built or signed; nothing was sent.
    Unsignable,
}

impl OutcomeKind {
    /// The name of the kind in status, dead letters and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "Delivered",
            Self::Rejected => "Rejected",
            Self::TimedOut => "TimedOut",
            Self::Unreachable => "Unreachable",
            Self::TlsFailed => "TlsFailed",
            Self::Blocked => "Blocked",
            Self::Unsignable => "Unsignable",
        }
    }
}

impl OutcomeKind {
    /// Whether the kind says something about the endpoint: a request was sent, or tried to be.
    #[must_use]
    pub const fn is_of_endpoint(self) -> bool {
        !matches!(self, Self::Blocked | Self::Unsignable)
    }
}

/// How long `Retry-After` delays one delivery only. A longer one pauses the Subscription...
const SHORT_PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// ...for an hour at most.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);

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

    /// Until when the endpoint has asked for a pause that concerns all of its deliveries.
    #[must_use]
    pub fn pause(&self, now: Timestamp) -> Option<Timestamp> {
        let asked = self.retry_after.filter(|_| matches!(self.http_status, Some(429 | 503)))?;
        let latest = now.checked_add(LONGEST_PAUSE).unwrap_or(now);
        (asked.duration_since(now) > SHORT_PAUSE).then(|| asked.min(latest))
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

/// Reads the value of `Retry-After`: a number of seconds from `now`, or an HTTP date (RFC 9110, 10.2.3). `None` for
/// anything else.
#[must_use]
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Timestamp> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        let seconds = value.parse().unwrap_or(i64::MAX);
        return Some(now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX));
    }
    Timestamp::try_from(httpdate::parse_http_date(value).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pause_concerns_all_deliveries() {
        let t = |seconds| Timestamp::from_second(seconds).unwrap();
        for (status, asked, want) in [
            (503, Some(10), None),
            (503, Some(11), Some(11)),
            (429, Some(3600), Some(3600)),
            (429, Some(90_000), Some(3600)),
            (500, Some(60), None),
            (503, None, None),
        ] {
            assert_eq!(Outcome::response(status, asked.map(t)).pause(t(0)), want.map(t), "{status} {asked:?}");
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
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(text, now), want.map(|t| t.parse().unwrap()), "{text}");
        }
        assert_eq!(parse_retry_after("99999999999999999999", now), Some(Timestamp::MAX));
    }
}
