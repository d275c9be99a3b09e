//! What a receiver answers.

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
    /// A status, without a body.
    pub fn status(status: u16) -> Self {
        Self { delay: Duration::ZERO, kind: Kind::Reply { status, headers: Vec::new(), body: Vec::new() } }
    }

    /// No answer, as long as the client waits.
    pub fn hang() -> Self {
        Self { delay: Duration::ZERO, kind: Kind::Hang }
    }

    /// No answer: the connection closes.
    pub fn close() -> Self {
        Self { delay: Duration::ZERO, kind: Kind::Close }
    }

    /// With a header, such as `Retry-After` or `Location`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Kind::Reply { headers, .. } = &mut self.kind {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Kind::Reply { body, .. } = &mut self.kind {
            *body = bytes.into();
        }
        self
    }

    /// Given this long after the request.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}
