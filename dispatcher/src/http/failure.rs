//! Why an attempt got no answer.

use std::io;

use hickory_resolver::net::NetError;
use hookwright_core::delivery::outcome::OutcomeKind;
use hookwright_core::destination::egress::Refusal;

/// Why an attempt got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the name was not resolved")]
    Name(#[source] NetError),
    #[error("the name has no address")]
    NoAddress,
    #[error("the egress rules forbid an address of the name")]
    Blocked(#[source] Refusal),
    #[error("can't connect")]
    Connect(#[source] io::Error),
    #[error("no connection in time")]
    ConnectTimedOut,
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the connection ended before an answer")]
    Closed(#[source] io::Error),
    #[error("the answer is not HTTP")]
    Unreadable,
}

impl Failure {
    /// The kind of the outcome.
    pub(crate) fn kind(&self) -> OutcomeKind {
        match self {
            Self::Name(NetError::Timeout) | Self::ConnectTimedOut => OutcomeKind::TimedOut,
            Self::Blocked(_) => OutcomeKind::Blocked,
            Self::Connect(error) | Self::Tls(error) | Self::Closed(error) => of_io(error),
            Self::Name(_) | Self::NoAddress | Self::Unreadable => OutcomeKind::Unreachable,
        }
    }

    /// Of several failures of one attempt, the greatest tells most about the endpoint: what became of an address, then
    /// what became of a name.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            Self::NoAddress => 0,
            Self::Name(NetError::Timeout) => 2,
            Self::Name(_) => 1,
            Self::Blocked(_) => 3,
            _ => 4,
        }
    }
}

fn of_io(error: &io::Error) -> OutcomeKind {
    if is_tls(error) {
        OutcomeKind::TlsFailed
    } else if error.kind() == io::ErrorKind::TimedOut {
        OutcomeKind::TimedOut
    } else {
        OutcomeKind::Unreachable
    }
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}
