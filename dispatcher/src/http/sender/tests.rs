//! Tests the sender with real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use std::time::Instant;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(2);

/// A server that answers each request by `answer`, and counts its connections and the bytes that it received.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    received: Arc<AtomicUsize>,
}

impl Server {
    async fn start<F: Future<Output = ()> + Send>(answer: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, received) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (answer, counted, read) = (Arc::new(answer), Arc::clone(&connections), Arc::clone(&received));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (answer, read) = (Arc::clone(&answer), Arc::clone(&read));
                tokio::spawn(async move {
                    let n = stream.read(&mut [0; 8192]).await.unwrap_or(0);
                    read.fetch_add(n, Ordering::SeqCst);
                    answer(stream).await;
                });
            }
        });
        Self { address, connections, received }
    }

    async fn fixed(response: impl Into<String>) -> Self {
        let response = Arc::new(response.into());
        Self::start(move |mut stream| {
            let response = Arc::clone(&response);
            async move {
                let _ = stream.write_all(response.as_bytes()).await;
                // The connection is held open, so that the client ends it and not the server.
                let _ = stream.read(&mut [0; 1]).await;
            }
        })
        .await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn sender(egress: &str) -> Sender {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Sender::new(&DnsSettings::default(), serde_json::from_str(egress).unwrap()).unwrap()
}

fn loopback() -> Sender {
    sender(r#"{"allowedCIDRs": ["127.0.0.0/8", "::1/128"], "allowedPorts": ["1-65535"], "plainHttp": true}"#)
}

async fn post(sender: &Sender, url: &str) -> Outcome {
    let request = Request::post(url).body(Full::from("a secret body")).unwrap();
    sender.send(request, TIMEOUT, &Clock::new().unwrap(), || {}).await
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Server::fixed("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://{}/", target.address);
        let server = Server::fixed(format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"));
        let outcome = post(&loopback(), &format!("http://{}/", server.await.address)).await;
        assert_eq!((outcome.kind, outcome.http_status), (OutcomeKind::Rejected, Some(status)));
    }
    assert_eq!(target.connections(), 0);
}

/// `localhost` resolves by the hosts file to a forbidden address, as a name that a tenant chooses might.
#[tokio::test]
async fn a_name_that_resolves_to_a_forbidden_address_is_blocked_before_it_is_dialled() {
    let server = Server::fixed("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let guarded = sender(r#"{"allowedPorts": ["1-65535"], "plainHttp": true}"#);
    let url = format!("http://localhost:{}/", server.address.port());
    assert_eq!(post(&guarded, &url).await.kind, OutcomeKind::Blocked);
    assert_eq!(server.connections(), 0);
    assert_eq!(post(&loopback(), &url).await.kind, OutcomeKind::Delivered);
}

#[tokio::test]
async fn an_endless_body_is_cut_and_its_status_counts() {
    let server = Server::start(|mut stream| async move {
        let head = b"HTTP/1.1 503 X\r\nretry-after: 7\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        let mut sent = stream.write_all(head).await;
        while sent.is_ok() {
            sent = stream.write_all(&chunk).await;
        }
    })
    .await;
    let start = Instant::now();
    let outcome = post(&loopback(), &format!("http://{}/", server.address)).await;
    assert_eq!((outcome.kind, outcome.http_status), (OutcomeKind::Rejected, Some(503)));
    assert!(outcome.retry_after.is_some());
    assert!(start.elapsed() < TIMEOUT, "cut by size, not by time");
}

#[tokio::test]
async fn a_slow_body_ends_the_attempt_at_the_timeout() {
    let server = Server::fixed("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx").await;
    let start = Instant::now();
    let outcome = post(&loopback(), &format!("http://{}/", server.address)).await;
    assert_eq!(outcome.kind, OutcomeKind::Delivered);
    assert!(start.elapsed() < TIMEOUT + Duration::from_secs(1));
}

#[tokio::test]
async fn failures_by_their_kind() {
    let silent = Server::fixed("").await;
    let closing = Server::start(|stream| async move { drop(stream) }).await;
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let huge = Server::fixed(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20))).await;
    for (address, want) in [
        (silent.address, OutcomeKind::TimedOut),
        (closing.address, OutcomeKind::Unreachable),
        (refused, OutcomeKind::Unreachable),
        (huge.address, OutcomeKind::Unreachable),
    ] {
        let outcome = post(&loopback(), &format!("http://{address}/")).await;
        assert_eq!((outcome.kind, outcome.http_status), (want, None), "{address}");
    }
    assert_eq!(post(&loopback(), "http://no-such-name.invalid/").await.kind, OutcomeKind::Unreachable);
}

/// A server without a certificate that the system trusts gets a TLS greeting, but nothing of the event.
#[tokio::test]
async fn no_body_without_a_trusted_certificate() {
    // A server that can't agree sends such an alert: the handshake fails for certain.
    let server = Server::start(|mut stream| async move {
        let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let outcome = post(&loopback(), &format!("https://{}/", server.address)).await;
    assert_eq!(outcome.kind, OutcomeKind::TlsFailed);
    assert!(server.received.load(Ordering::SeqCst) < 2048);
}
