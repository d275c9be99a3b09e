//! A connection to an endpoint, and the exchange of a request for a response over it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

use crate::http::request::Request;
use crate::http::response::Reader;

/// How long the rest of a response may take once its status was read, or the next part of a request that was accepted
/// early. A longer one closes the connection.
const GRACE: Duration = Duration::from_secs(1);
/// How many bytes are read at once.
const READ: usize = 4 << 10;

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    /// When the connection is too old to be used again.
    pub(crate) retires: Instant,
}

#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS with the endpoint within TLS with the proxy.
    Nested(Box<TlsStream<TlsStream<TcpStream>>>),
}

impl Connection {
    pub(crate) fn new(stream: Stream, retires: Instant) -> Self {
        Self { stream, retires }
    }

    /// Writes the request and reads the response, as far as it comes. Returns whether the connection may be used again,
    /// if the response says so.
    ///
    /// # Errors
    /// If the connection ends before the status of a response was read. The reader knows what was read.
    pub(crate) async fn exchange(&mut self, request: &Request, reader: &mut Reader) -> io::Result<bool> {
        let mut exchange = Exchange { stream: &mut self.stream, request, written: 0, flushed: false, failed: None };
        std::future::poll_fn(|cx| exchange.poll(cx, reader, |_, reader| reader.has_status())).await?;
        while !exchange.has_ended(reader) {
            let written = exchange.written;
            let rest = std::future::poll_fn(|cx| exchange.poll(cx, reader, Exchange::has_ended));
            // The status is known, whatever happens to the rest. A request that was accepted early is written to its end.
            if timeout(GRACE, rest).await.is_ok() || !reader.is_success() || exchange.written == written {
                break;
            }
        }
        Ok(exchange.flushed)
    }

    /// Whether an idle connection is open, and nothing came over it that no request has asked for.
    pub(crate) fn is_quiet(&mut self) -> bool {
        // The runtime may not have looked at the socket lately, so the kernel is asked.
        let waits = |tcp: &TcpStream| {
            let peeked = SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]);
            peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        };
        match &mut self.stream {
            Stream::Plain(tcp) => waits(tcp),
            // What waits in the kernel may be TLS's own, such as a ticket.
            tls @ (Stream::Tls(_) | Stream::Nested(_)) => {
                let mut byte = [MaybeUninit::uninit()];
                let read = tls.poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::uninit(&mut byte));
                read.is_pending()
            }
        }
    }
}

/// A request that is written while its response is read: a server may answer before it has read everything.
struct Exchange<'a> {
    stream: &'a mut Stream,
    request: &'a Request,
    written: usize,
    flushed: bool,
    /// Why the request can't be written on. The response may still be there to be read.
    failed: Option<io::Error>,
}

impl Exchange<'_> {
    /// Goes on until `done`.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Reader,
        done: impl Fn(&Self, &Reader) -> bool,
    ) -> Poll<io::Result<()>> {
        loop {
            let wrote = !self.flushed && self.failed.is_none() && self.poll_write(cx).is_ready();
            let mut bytes = [MaybeUninit::uninit(); READ];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match self.stream.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    let closed = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(Err(self.failed.take().unwrap_or(closed)));
                }
                Poll::Ready(Ok(())) => reader.feed(buffer.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.failed.take().unwrap_or(error))),
                Poll::Pending if !wrote => return Poll::Pending,
                Poll::Pending => {}
            }
            if done(self, reader) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether there is nothing more to do. A request that was refused early need not be written to its end.
    fn has_ended(&self, reader: &Reader) -> bool {
        reader.has_ended() && (self.flushed || self.failed.is_some() || !reader.is_success())
    }

    /// Writes on. Ready if something was written, or if nothing more can be.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (head, body) = (&self.request.head[..], &self.request.body[..]);
        let written = if self.written < head.len() {
            self.stream.poll_write(cx, &[IoSlice::new(&head[self.written..]), IoSlice::new(body)])
        } else if self.written < head.len() + body.len() {
            self.stream.poll_write(cx, &[IoSlice::new(&body[self.written - head.len()..])])
        } else {
            self.stream.poll_flush(cx).map_ok(|()| 0)
        };
        match ready!(written) {
            Ok(0) if self.written == head.len() + body.len() => self.flushed = true,
            Ok(0) => self.failed = Some(io::ErrorKind::WriteZero.into()),
            Ok(written) => self.written += written,
            Err(error) => self.failed = Some(error),
        }
        Poll::Ready(())
    }
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
            Self::Nested(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bytes),
            Self::Nested(tls) => Pin::new(tls).poll_write_vectored(cx, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Self::Nested(tls) => Pin::new(tls).poll_flush(cx),
        }
    }
}
