//! The answers of a receiver.

use std::time::Duration;

use tokio::sync::watch;

/// An answer to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) delay: Duration,
    pub(super) kind: Kind,
    pub(super) gate: Option<watch::Receiver<bool>>,
}

/// Holds answers back until a test has seen what there is to see meanwhile.
#[derive(Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A gate that is closed.
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets all answers through, also those to come.
    pub fn open(&self) {
        self.0.send_replace(true);
    }
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Reply { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    Hang,
    Close,
}

impl Answer {
    /// An answer with a status and no body.
    pub fn status(status: u16) -> Self {
        Self::of(Kind::Reply { status, headers: Vec::new(), body: Vec::new() })
    }

    /// No answer for as long as the client waits.
    pub fn hang() -> Self {
        Self::of(Kind::Hang)
    }

    /// No answer: the connection is closed.
    pub fn close() -> Self {
        Self::of(Kind::Close)
    }

    fn of(kind: Kind) -> Self {
        Self { delay: Duration::ZERO, kind, gate: None }
    }

    /// Holds the answer back until the gate is open, or dropped.
    #[must_use]
    pub fn once_open(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.0.subscribe());
        self
    }

    /// Adds a header, such as `Retry-After` or `Location`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Kind::Reply { headers, .. } = &mut self.kind {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Kind::Reply { body, .. } = &mut self.kind {
            *body = bytes.into();
        }
        self
    }

    /// Delays the answer by this long after the request.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}
