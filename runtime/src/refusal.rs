//! What a refusal of NATS to store a message means for the next try.

use std::error::Error;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};

/// What a refusal means for the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// NATS or the stream is out of reach, or has no leader. It will be back.
    Outage,
    /// The storage of the account or of the server is used up.
    NoRoom,
    /// NATS never stores this message, unless somebody changes a limit.
    Final,
}

impl Refusal {
    #[must_use]
    pub fn of(error: &PublishError) -> Self {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Self::Final,
            PublishErrorKind::Other => {
                let answer = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
                answer.map_or(Self::Outage, |answer| {
                    Self::of_answer(answer.code(), answer.error_code(), &answer.to_string())
                })
            }
            // No answer, no stream, no connection, or no leader.
            _ => Self::Outage,
        }
    }

    /// What an answer of the server with this status and error code means. Codes that are not named here go by their
    /// status, which is like one of HTTP.
    fn of_answer(status: usize, code: ErrorCode, text: &str) -> Self {
        match code {
            ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::MEMORY_RESOURCES_EXCEEDED
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED => Self::NoRoom,
            // Any error of the store: a limit of a stream that discards new messages, but also a disk that fails, and a
            // stream that is about to be closed. Only the text tells.
            ErrorCode::STREAM_STORE_FAILED => Self::of_store_error(text),
            _ => match status {
                408 | 409 | 429 => Self::Outage,
                400..500 => Self::Final,
                _ => Self::Outage,
            },
        }
    }

    /// What an error of the store means, by its text (nats-server's `store.go`).
    fn of_store_error(text: &str) -> Self {
        const LIMITS: [&str; 4] = [
            "maximum messages exceeded",
            "maximum bytes exceeded",
            "maximum messages per subject exceeded",
            "message too large",
        ];
        if LIMITS.iter().any(|limit| text.contains(limit)) {
            Self::Final
        } else if text.contains("no space left") {
            Self::NoRoom
        } else {
            Self::Outage
        }
    }

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outage => "Outage",
            Self::NoRoom => "NoRoom",
            Self::Final => "Refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statuses and codes are those of nats-server's `errors.json`.
    #[test]
    fn answers() {
        for (text, refusal) in [
            ("maximum messages exceeded", Refusal::Final),
            ("maximum bytes exceeded", Refusal::Final),
            ("maximum messages per subject exceeded", Refusal::Final),
            ("message too large", Refusal::Final),
            ("write 7.blk: no space left on device", Refusal::NoRoom),
            ("store is closed", Refusal::Outage),
            ("write 7.blk: input/output error", Refusal::Outage),
        ] {
            assert_eq!(Refusal::of_answer(503, ErrorCode::STREAM_STORE_FAILED, text), refusal, "{text}");
        }
        for (status, code, refusal) in [
            (400, 10002, Refusal::NoRoom),
            (503, 10023, Refusal::NoRoom),
            (500, 10028, Refusal::NoRoom),
            (500, 10047, Refusal::NoRoom),
            // The message, or its headers, are too large.
            (400, 10054, Refusal::Final),
            (400, 10097, Refusal::Final),
            // The stream is sealed.
            (400, 10109, Refusal::Final),
            // The system, the stream or its leader is not there.
            (503, 10008, Refusal::Outage),
            (500, 10009, Refusal::Outage),
            (500, 10118, Refusal::Outage),
            (503, 10076, Refusal::Outage),
            (429, 10167, Refusal::Outage),
            // Another publish of the same message is under way.
            (409, 10158, Refusal::Outage),
        ] {
            assert_eq!(Refusal::of_answer(status, ErrorCode(code), ""), refusal, "{code}");
        }
    }

    #[test]
    fn errors_of_the_client() {
        for (kind, refusal) in [
            (PublishErrorKind::StreamNotFound, Refusal::Outage),
            (PublishErrorKind::TimedOut, Refusal::Outage),
            (PublishErrorKind::BrokenPipe, Refusal::Outage),
            (PublishErrorKind::Other, Refusal::Outage),
            (PublishErrorKind::MaxPayloadExceeded, Refusal::Final),
        ] {
            assert_eq!(Refusal::of(&PublishError::new(kind)), refusal, "{kind}");
        }
        let sealed: jetstream::Error =
            serde_json::from_str(r#"{"code":400,"err_code":10109,"description":"sealed"}"#).unwrap();
        assert_eq!(Refusal::of(&PublishError::with_source(PublishErrorKind::Other, sealed)), Refusal::Final);
    }
}
