//! What an attempt came to.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The kind of an attempt's outcome. It says nothing that the receiver wrote: no body, no header, no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutcomeKind {
    /// A 2xx.
    Delivered,
    /// Any other HTTP status.
    Rejected,
    /// No complete response within the timeout.
    TimedOut,
    /// Name not found, connection refused or reset.
    Unreachable,
    /// The TLS handshake failed: the certificate is expired, for another host or from an unknown authority.
    TlsFailed,
    /// The egress rules forbid the URL or an address that its host resolves to; nothing was sent.
    Blocked,
    /// The request could not be built or signed; nothing was sent.
    Unsignable,
}

impl OutcomeKind {
    /// The name, as it stands in status, dead letters and metrics.
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

/// What an attempt came to, with what decides on the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The kind.
    pub kind: OutcomeKind,
    /// The HTTP status, if there was a response.
    pub http_status: Option<u16>,
    /// The time that the receiver asked for with `Retry-After`.
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
}

/// One attempt as it is remembered: in a parked record, a dead letter and the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttemptRecord {
    /// When it started.
    pub time: Timestamp,
    /// What it came to.
    pub outcome: OutcomeKind,
    /// The HTTP status, if there was a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
}

/// Reads `Retry-After`: seconds, or an HTTP date (RFC 9110, 10.2.3). Anything else counts as absent.
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
