//! The answers of a receiver.

use std::time::Duration;

/// An answer to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) delay: Duration,
    pub(super) kind: Kind,
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
        Self { delay: Duration::ZERO, kind: Kind::Reply { status, headers: Vec::new(), body: Vec::new() } }
    }

    /// No answer for as long as the client waits.
    pub fn hang() -> Self {
        Self { delay: Duration::ZERO, kind: Kind::Hang }
    }

    /// No answer: the connection is closed.
    pub fn close() -> Self {
        Self { delay: Duration::ZERO, kind: Kind::Close }
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
