//! Why an attempt got no answer.

use std::io;
use std::net::SocketAddr;

use hickory_resolver::net::NetError;
use hookwright_core::delivery::outcome::OutcomeKind;
use hookwright_core::destination::egress::Refusal;
use rustix::io::Errno;

/// Why an attempt got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the name was not resolved")]
    Name(#[source] NetError),
    #[error("the name has no address")]
    NoAddress,
    #[error("the egress rules forbid an address of the name")]
    Blocked(#[source] Refusal),
    #[error("the egress proxy made no connection")]
    Proxy(#[source] ProxyFailure),
    #[error("can't connect to {0}")]
    Connect(SocketAddr, #[source] io::Error),
    #[error("no connection in time")]
    ConnectTimedOut,
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the connection ended before an answer")]
    Closed(#[source] io::Error),
    #[error("the answer can't be read as HTTP")]
    Unreadable,
}

/// Why the proxy made no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyFailure {
    /// The rules of the egress file see to it that this doesn't happen.
    #[error("the proxy has no name that a certificate can have")]
    Nameless,
    #[error("the proxy can't be reached")]
    Unreachable(#[source] io::Error),
    #[error("the file with the proxy's credentials can't be read")]
    Credentials(#[source] io::Error),
    #[error("the proxy's answer can't be read")]
    Unreadable,
    #[error("the proxy answered {0}")]
    Refused(u16),
}

impl Failure {
    /// The kind of the outcome.
    pub(crate) fn kind(&self) -> OutcomeKind {
        match self {
            Self::Name(NetError::Timeout) | Self::ConnectTimedOut => OutcomeKind::TimedOut,
            // There was no connection that could have ended.
            Self::Connect(_, error) => of_io(error, OutcomeKind::NoRoute),
            Self::Tls(error) | Self::Closed(error) => of_io(error, OutcomeKind::ConnectionReset),
            // A tenant can't tell a name that doesn't exist from one whose addresses the rules, or the proxy's, forbid.
            // Otherwise anyone who may create Subscriptions could find out which names exist in this network.
            Self::Name(_) | Self::NoAddress | Self::Blocked(_) | Self::Proxy(_) => OutcomeKind::NameNotFound,
            Self::Unreadable => OutcomeKind::AnswerUnreadable,
        }
    }

    /// Whether the attempt has to last for a while, so that its duration doesn't tell why it failed.
    pub(crate) fn is_of_name(&self) -> bool {
        matches!(self, Self::Name(_) | Self::NoAddress | Self::Blocked(_) | Self::Proxy(_))
    }

    /// Whether this process, or its machine, lacks what a connection takes: open files, buffers or memory. That says nothing
    /// about the endpoint.
    pub(crate) fn is_exhaustion(&self) -> bool {
        use ProxyFailure::{Credentials, Unreachable};
        let error: &io::Error = match self {
            Self::Name(NetError::Io(error)) => error,
            Self::Connect(_, error) | Self::Proxy(Unreachable(error) | Credentials(error)) => error,
            _ => return false,
        };
        matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
    }

    /// If an attempt has several failures, the one with the greatest weight is reported. A failure of an address tells more
    /// about the endpoint than one of a name. The least that an address can tell is that no route leads to it: many
    /// networks have no IPv6. A name server that doesn't answer for one family outweighs what it says about the other one:
    /// so a name that the rules forbid looks like one that doesn't exist. What could not be tried outweighs everything.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            _ if self.is_exhaustion() => 6,
            Self::NoAddress => 0,
            Self::Name(NetError::Timeout) => 3,
            Self::Name(_) => 1,
            Self::Blocked(_) => 2,
            _ if self.kind() == OutcomeKind::NoRoute => 4,
            _ => 5,
        }
    }
}

/// The kind of an error of a socket, which is `otherwise` if nothing better is known.
fn of_io(error: &io::Error, otherwise: OutcomeKind) -> OutcomeKind {
    use io::ErrorKind as Io;
    match error.kind() {
        _ if is_tls(error) => OutcomeKind::TlsFailed,
        Io::TimedOut => OutcomeKind::TimedOut,
        Io::ConnectionRefused => OutcomeKind::ConnectionRefused,
        Io::ConnectionReset | Io::ConnectionAborted => OutcomeKind::ConnectionReset,
        // Firewalls on the way forbid a route, and a host may have no address of the family.
        Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::NetworkDown
        | Io::AddrNotAvailable
        | Io::PermissionDenied => OutcomeKind::NoRoute,
        _ => otherwise,
    }
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hookwright_core::destination::egress::EgressPolicy;

    use super::*;

    #[test]
    fn whatever_else_fails_a_forbidden_name_is_as_one_that_does_not_exist() {
        let kind = |one: Failure, other: Failure| {
            let heavier = if other.weight() > one.weight() { other } else { one };
            (heavier.kind(), heavier.is_of_name())
        };
        let private = "10.0.0.1".parse().unwrap();
        let blocked = || Failure::Blocked(EgressPolicy::default().check_address(private).unwrap_err());
        let beside: [fn() -> Failure; 5] = [
            || Failure::NoAddress,
            || Failure::Name(NetError::Busy),
            || Failure::Name(NetError::Timeout),
            || Failure::Connect("[::1]:80".parse().unwrap(), io::ErrorKind::ConnectionRefused.into()),
            || Failure::Connect("[::1]:80".parse().unwrap(), Errno::MFILE.into()),
        ];
        for other in beside {
            let missing = kind(Failure::Name(NetError::Busy), other());
            assert_eq!((kind(blocked(), other()), kind(other(), blocked())), (missing, missing), "{}", other());
        }
    }

    #[test]
    fn kinds_table() {
        let address = "[::1]:80".parse().unwrap();
        let connect = |kind: io::ErrorKind| Failure::Connect(address, kind.into());
        for (failure, kind) in [
            (Failure::Name(NetError::Timeout), OutcomeKind::TimedOut),
            (Failure::Name(NetError::Busy), OutcomeKind::NameNotFound),
            (Failure::NoAddress, OutcomeKind::NameNotFound),
            (Failure::ConnectTimedOut, OutcomeKind::TimedOut),
            (connect(io::ErrorKind::TimedOut), OutcomeKind::TimedOut),
            (connect(io::ErrorKind::ConnectionRefused), OutcomeKind::ConnectionRefused),
            (connect(io::ErrorKind::HostUnreachable), OutcomeKind::NoRoute),
            (connect(io::ErrorKind::NetworkUnreachable), OutcomeKind::NoRoute),
            (connect(io::ErrorKind::ConnectionReset), OutcomeKind::ConnectionReset),
            // Without IPv6 in the kernel, there is no socket for it.
            (Failure::Connect(address, Errno::AFNOSUPPORT.into()), OutcomeKind::NoRoute),
            (Failure::Tls(io::ErrorKind::UnexpectedEof.into()), OutcomeKind::ConnectionReset),
            (Failure::Tls(io::Error::other(rustls::Error::DecryptError)), OutcomeKind::TlsFailed),
            (Failure::Closed(io::ErrorKind::BrokenPipe.into()), OutcomeKind::ConnectionReset),
            (Failure::Unreadable, OutcomeKind::AnswerUnreadable),
        ] {
            assert_eq!(failure.kind(), kind, "{failure:?}");
        }
    }

    #[test]
    fn what_this_machine_lacks_is_no_fault_of_the_endpoint() {
        let connect = |errno: Errno| Failure::Connect("[::1]:80".parse().unwrap(), errno.into());
        for (failure, want) in [
            (connect(Errno::MFILE), true),
            (connect(Errno::NFILE), true),
            (connect(Errno::NOBUFS), true),
            (connect(Errno::NOMEM), true),
            (connect(Errno::HOSTUNREACH), false),
            (connect(Errno::CONNREFUSED), false),
            (connect(Errno::ADDRNOTAVAIL), false),
            (Failure::Name(NetError::Io(Arc::new(Errno::MFILE.into()))), true),
            (Failure::Name(NetError::Busy), false),
            (Failure::Proxy(ProxyFailure::Unreachable(Errno::MFILE.into())), true),
            (Failure::Proxy(ProxyFailure::Credentials(Errno::MFILE.into())), true),
            (Failure::Proxy(ProxyFailure::Credentials(Errno::NOENT.into())), false),
            (Failure::Closed(Errno::NOBUFS.into()), false),
        ] {
            assert_eq!(failure.is_exhaustion(), want, "{failure:?}");
        }
    }

    #[test]
    fn the_failure_that_tells_most_is_told() {
        let address: SocketAddr = "[::1]:80".parse().unwrap();
        let connect = |kind: io::ErrorKind| Failure::Connect(address, kind.into());
        let refusal = hookwright_core::destination::egress::EgressPolicy::default().check_address(address.ip());
        let lightest_first = [
            Failure::NoAddress,
            Failure::Name(NetError::Busy),
            Failure::Blocked(refusal.unwrap_err()),
            Failure::Name(NetError::Timeout),
            connect(io::ErrorKind::NetworkUnreachable),
            connect(io::ErrorKind::ConnectionRefused),
            Failure::Connect(address, Errno::MFILE.into()),
        ];
        assert!(lightest_first.is_sorted_by(|one, other| one.weight() < other.weight()));
    }
}
