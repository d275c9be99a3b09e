//! Tests the sender with real sockets and a name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use url::Url;

use super::*;

/// Long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Stands for the end of a connection in the answers of a server.
const CLOSE: &str = "";

/// A server that counts its connections, its requests and the bytes that it received.
struct Server {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    received: AtomicUsize,
}

impl Server {
    async fn start<F: Future<Output = ()> + Send>(
        serve: impl Fn(TcpStream, Arc<Counts>) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, counts, serve) = (listener.local_addr().unwrap(), Arc::new(Counts::default()), Arc::new(serve));
        let counted = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                let (serve, counted) = (Arc::clone(&serve), Arc::clone(&counted));
                tokio::spawn(async move { serve(stream, counted).await });
            }
        });
        Self { address, counts }
    }

    /// A server that gives these answers to the requests of a connection, in turn, and the last one again and again. The
    /// connection is held open, so that the client ends it and not the server.
    async fn answering(answers: &'static [&'static str]) -> Self {
        Self::start(move |mut stream, counts| async move {
            for n in 0.. {
                let read = stream.read(&mut [0; 8192]).await.unwrap_or(0);
                counts.received.fetch_add(read, Ordering::SeqCst);
                if read == 0 {
                    return;
                }
                counts.requests.fetch_add(1, Ordering::SeqCst);
                match answers[n.min(answers.len() - 1)] {
                    CLOSE => return,
                    answer => drop(stream.write_all(answer.as_bytes()).await),
                }
            }
        })
        .await
    }

    fn counts(&self) -> (usize, usize) {
        (self.counts.connections.load(Ordering::SeqCst), self.counts.requests.load(Ordering::SeqCst))
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

fn made(dns: &DnsSettings, connections: &ConnectionSettings, egress: &str) -> Sender {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Sender::new(dns, connections, serde_json::from_str(egress).unwrap()).unwrap()
}

fn sender(egress: &str) -> Sender {
    made(&DnsSettings::default(), &ConnectionSettings::default(), egress)
}

const LOOPBACK: &str =
    r#"{"allowedCIDRs": ["127.0.0.0/8", "::1/128"], "allowedPorts": ["1-65535"], "plainHttp": true}"#;
const IPV4_ALONE: &str = r#"{"allowedCIDRs": ["127.0.0.0/8"], "allowedPorts": ["1-65535"], "plainHttp": true}"#;

fn loopback() -> Sender {
    sender(LOOPBACK)
}

async fn post_within(sender: &Sender, url: &str, body: impl Into<bytes::Bytes>, timeout: Duration) -> Outcome {
    let (origin, body) = (Arc::new(Origin::of(&Url::parse(url).unwrap()).unwrap()), body.into());
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    sender.send(&origin, Request { head, body }, timeout, &Clock::new().unwrap(), || {}).await.outcome
}

async fn post(sender: &Sender, url: &str) -> Outcome {
    post_within(sender, url, "a secret body", TIMEOUT).await
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Server::answering(&[OK]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = target.url();
        let answer = format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n").leak();
        let server = Server::answering(vec![&*answer].leak()).await;
        let outcome = post(&loopback(), &server.url()).await;
        assert_eq!((outcome.kind, outcome.http_status), (OutcomeKind::Rejected, Some(status)));
    }
    assert_eq!(target.counts(), (0, 0));
}

/// Two requests, one after the other: their statuses, and how many connections and requests the server has seen.
#[tokio::test]
async fn two_requests_table() {
    use OutcomeKind::{AnswerUnreadable, ConnectionReset, Delivered, Rejected};
    let sender = loopback();
    for (answers, want, seen) in [
        (&[OK][..], [Delivered; 2], (1, 2)),
        (&["HTTP/1.1 204 No Content\r\n\r\n"], [Delivered; 2], (1, 2)),
        (&["HTTP/1.1 503 X\r\nContent-Length: 1\r\n\r\nx"], [Rejected; 2], (1, 2)),
        // Interim responses.
        (
            &[
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            ],
            [Delivered; 2],
            (1, 2),
        ),
        // What follows the status line doesn't unmake it. The connection is not used again.
        (&["HTTP/1.1 200 OK\r\nX-Long: one\r\n two\r\ncontent-length: 0\r\n\r\n"], [Delivered; 2], (2, 2)),
        (&["HTTP/1.1 204 No Content\r\ncontent-length: 11\r\n\r\n"], [Delivered; 2], (2, 2)),
        (&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 410 Gone\r\n\r\n"], [Delivered; 2], (2, 2)),
        (&["HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"], [Delivered; 2], (2, 2)),
        (&["HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"], [Delivered; 2], (2, 2)),
        // A body without an end, and one that ends early.
        (&["HTTP/1.1 200 OK\r\n\r\nok"], [Delivered; 2], (2, 2)),
        (&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"], [Delivered; 2], (2, 2)),
        (&["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nok"], [Delivered; 2], (2, 2)),
        // A connection that was used before and ends without an answer: the request is sent again, once.
        (&[OK, CLOSE], [Delivered; 2], (2, 3)),
        // A new connection that does so says something about the endpoint.
        (&[CLOSE], [ConnectionReset; 2], (2, 2)),
        (&["SSH-2.0-OpenSSH_9.6\r\n\r\n"], [AnswerUnreadable; 2], (2, 2)),
    ] {
        let server = Server::answering(answers).await;
        let mut got = [Delivered; 2];
        for kind in &mut got {
            *kind = post(&sender, &server.url()).await.kind;
        }
        assert_eq!((got, server.counts()), (want, seen), "{answers:?}");
    }
}

#[tokio::test]
async fn a_status_counts_although_the_connection_or_the_time_ends_after_it() {
    const PARTIAL: &str = "HTTP/1.1 200 OK\r\nx: y";
    let cut = Server::start(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 8192]).await;
        let _ = stream.write_all(PARTIAL.as_bytes()).await;
    });
    assert_eq!(post(&loopback(), &cut.await.url()).await.kind, OutcomeKind::Delivered);
    let open = Server::answering(&[PARTIAL]).await;
    let outcome = post_within(&loopback(), &open.url(), "x", Duration::from_millis(500)).await;
    assert_eq!(outcome.kind, OutcomeKind::Delivered);
}

#[tokio::test]
async fn an_answer_is_read_although_the_request_is_not_written_to_its_end() {
    for (status, answer) in
        [(413, "HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n"), (410, "HTTP/1.1 410 X\r\nconnection: close\r\n\r\n")]
    {
        for reads_on in [false, true] {
            let server = Server::start(move |mut stream, _| async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                while reads_on && stream.read(&mut [0; 8192]).await.is_ok_and(|read| read > 0) {}
            });
            let outcome = post_within(&loopback(), &server.await.url(), vec![b'x'; 8 << 20], TIMEOUT).await;
            assert_eq!(outcome.http_status, Some(status), "reads on: {reads_on}");
        }
    }
}

#[tokio::test]
async fn what_comes_before_the_next_request_closes_the_connection() {
    let late = "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n";
    let (sent, arrived) = tokio::sync::oneshot::channel();
    let sent = std::sync::Mutex::new(Some(sent));
    let server = Server::start(move |mut stream, counts| {
        let sent = sent.lock().unwrap().take();
        async move {
            let _ = stream.read(&mut [0; 8192]).await;
            counts.requests.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(OK.as_bytes()).await;
            if let Some(sent) = sent {
                let _ = stream.write_all(late.as_bytes()).await;
                let _ = sent.send(());
            }
            let _ = stream.read(&mut [0; 1]).await;
        }
    })
    .await;
    let sender = loopback();
    assert_eq!(post(&sender, &server.url()).await.kind, OutcomeKind::Delivered);
    arrived.await.unwrap();
    assert_eq!(post(&sender, &server.url()).await.kind, OutcomeKind::Delivered);
    assert_eq!(server.counts(), (2, 2));
}

#[tokio::test]
async fn an_old_connection_is_not_used_again() {
    let server = Server::answering(&[OK]).await;
    let sender = made(&DnsSettings::default(), &ConnectionSettings { max_age: Duration::ZERO }, LOOPBACK);
    for connections in 1..4 {
        assert_eq!(post(&sender, &server.url()).await.kind, OutcomeKind::Delivered);
        assert_eq!(server.counts(), (connections, connections));
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_and_its_status_counts() {
    let server = Server::start(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 8192]).await;
        let head = b"HTTP/1.1 503 X\r\nretry-after: 7\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        let mut sent = stream.write_all(head).await;
        while sent.is_ok() {
            sent = stream.write_all(&chunk).await;
        }
    })
    .await;
    let outcome = post(&loopback(), &server.url()).await;
    assert_eq!((outcome.kind, outcome.http_status), (OutcomeKind::Rejected, Some(503)));
    assert!(outcome.retry_after.is_some());
}

#[tokio::test]
async fn failures_by_their_kind() {
    let silent = Server::start(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, want) in [
        (silent.await.url(), OutcomeKind::TimedOut),
        (format!("http://{refused}/"), OutcomeKind::ConnectionRefused),
        ("http://no-such-name.invalid/".to_owned(), OutcomeKind::NameNotFound),
    ] {
        let outcome = post_within(&loopback(), &url, "x", Duration::from_secs(2)).await;
        assert_eq!((outcome.kind, outcome.http_status), (want, None), "{url}");
    }
}

/// A server without a certificate that the system trusts gets a TLS greeting, but nothing of the event.
#[tokio::test]
async fn no_body_without_a_trusted_certificate() {
    // A server that can't agree sends such an alert: the handshake fails for certain.
    let server = Server::answering(&["\u{15}\u{3}\u{3}\0\u{2}\u{2}("]).await;
    let outcome = post(&loopback(), &format!("https://{}/", server.address)).await;
    assert_eq!(outcome.kind, OutcomeKind::TlsFailed);
    assert!(server.counts.received.load(Ordering::SeqCst) < 2048);
}

/// A name server that answers for each family with an address, with none, or never.
async fn name_server(a: Option<&'static [Ipv4Addr]>, aaaa: Option<&'static [Ipv6Addr]>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            // The question follows the header of 12 bytes: labels, their end, the type and the class.
            let end = 12 + query[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let addresses: Option<Vec<Vec<u8>>> = match query[end - 3] {
                1 => a.map(|a| a.iter().map(|address| address.octets().to_vec()).collect()),
                28 => aaaa.map(|aaaa| aaaa.iter().map(|address| address.octets().to_vec()).collect()),
                _ => Some(Vec::new()),
            };
            let Some(addresses) = addresses else { continue };
            let mut answer = [&query[..2], &[0x81, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]].concat();
            answer.extend_from_slice(&query[12..end]);
            for address in addresses {
                answer.extend_from_slice(&[0xc0, 12, 0, query[end - 3], 0, 1, 0, 0, 0, 60, 0, address.len() as u8]);
                answer.extend_from_slice(&address);
            }
            let _ = socket.send_to(&answer, from).await;
        }
    });
    address
}

#[tokio::test]
async fn names_table() {
    use OutcomeKind::{Blocked, Delivered, NameNotFound};
    const V4: Option<&[Ipv4Addr]> = Some(&[Ipv4Addr::LOCALHOST]);
    const V6: Option<&[Ipv6Addr]> = Some(&[Ipv6Addr::LOCALHOST]);
    const MIXED: Option<&[Ipv4Addr]> = Some(&[Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 0, 0, 1)]);
    for (egress, a, aaaa, want) in [
        (LOOPBACK, V4, Some(&[][..]), Delivered),
        (LOOPBACK, Some(&[][..]), V6, Delivered),
        (LOOPBACK, V4, V6, Delivered),
        // The name server doesn't answer for one family.
        (LOOPBACK, V4, None, Delivered),
        (LOOPBACK, None, V6, Delivered),
        // One family is forbidden.
        (IPV4_ALONE, V4, V6, Delivered),
        (IPV4_ALONE, Some(&[]), V6, Blocked),
        // One forbidden address refuses its family.
        (LOOPBACK, MIXED, V6, Delivered),
        (LOOPBACK, MIXED, Some(&[]), Blocked),
        (LOOPBACK, Some(&[]), Some(&[]), NameNotFound),
    ] {
        let listens: IpAddr = if a == V4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let listener = TcpListener::bind((listens, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 8192]).await;
            let _ = stream.write_all(OK.as_bytes()).await;
            std::future::pending::<()>().await;
        };
        let dns = DnsSettings { nameservers: vec![name_server(a, aaaa).await] };
        let sender = made(&dns, &ConnectionSettings::default(), egress);
        let url = format!("http://receiver.example.com:{port}/");
        let outcome = tokio::select! {
            outcome = post(&sender, &url) => outcome,
            () = serve => unreachable!(),
        };
        assert_eq!(outcome.kind, want, "{a:?} {aaaa:?} {egress}");
    }
}

/// `localhost` is known without a name server, and has an address of each family.
#[tokio::test]
async fn a_name_that_resolves_to_forbidden_addresses_is_blocked_before_it_is_dialled() {
    let server = Server::answering(&[OK]).await;
    let url = format!("http://localhost:{}/", server.address.port());
    assert_eq!(
        post(&sender(r#"{"allowedPorts": ["1-65535"], "plainHttp": true}"#), &url).await.kind,
        OutcomeKind::Blocked
    );
    assert_eq!(server.counts(), (0, 0));
    assert_eq!(post(&sender(IPV4_ALONE), &url).await.kind, OutcomeKind::Delivered);
}
