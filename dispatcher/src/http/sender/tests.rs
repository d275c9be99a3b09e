//! Tests the sender with real sockets and a name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use hookwright_core::destination::Destination;
use hookwright_core::destination::egress::{Egress, EgressPolicy};
use hookwright_core::seal::Secret;
use hookwright_runtime::egress::EgressRules;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use url::Url;

use super::*;
use crate::http::endpoint::Endpoint;

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

/// A sender, and the rules for what it sends.
struct Sends {
    sender: Sender,
    rules: Arc<EgressPolicy>,
}

fn made(dns: &DnsSettings, connections: &ConnectionSettings, egress: &str) -> Sends {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let egress: Egress = serde_json::from_str(egress).unwrap();
    let rules = Arc::clone(egress.of("shop"));
    let (_, in_force) = watch::channel(Arc::new(EgressRules { egress, digest: String::new() }));
    Sends { sender: Sender::new(dns, connections, in_force, 64, Metrics::register().0).unwrap(), rules }
}

fn sender(egress: &str) -> Sends {
    made(&DnsSettings::default(), &ConnectionSettings::default(), egress)
}

const LOOPBACK: &str =
    r#"{"allowedCIDRs": ["127.0.0.0/8", "::1/128"], "allowedPorts": ["1-65535"], "plainHttp": true}"#;
const IPV4_ALONE: &str = r#"{"allowedCIDRs": ["127.0.0.0/8"], "allowedPorts": ["1-65535"], "plainHttp": true}"#;

fn loopback() -> Sends {
    sender(LOOPBACK)
}

async fn post_within(sends: &Sends, url: &str, body: impl Into<bytes::Bytes>, timeout: Duration) -> Outcome {
    let (url, body) = (Url::parse(url).unwrap(), body.into());
    let origin = Arc::new(Origin::of(&url, &sends.rules).unwrap());
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    let (request, clock) = (Request { head, body }, Clock::new().unwrap());
    sends.sender.send(&origin, request, timeout, &clock, || {}).await.outcome
}

async fn post(sender: &Sends, url: &str) -> Outcome {
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
        // So does one that ends with "request timeout".
        (&[OK, "HTTP/1.1 408 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"], [Delivered; 2], (2, 3)),
        (&[OK, "HTTP/1.1 408 X\r\ncontent-length: 0\r\n\r\n"], [Delivered, Rejected], (1, 2)),
        (
            &[OK, "HTTP/1.1 408 X\r\nretry-after: 20\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"],
            [Delivered, Rejected],
            (1, 2),
        ),
        // What is left of the response before, and comes after the next request was written.
        (&["HTTP/1.1 204 No Content\r\n\r\n", "hello worldHTTP/1.1 204 No Content\r\n\r\n"], [Delivered; 2], (2, 3)),
        (&[OK, "later\r\n"], [Delivered; 2], (2, 3)),
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
    // The rest gets a second, not all of the attempt's time.
    for (answer, want) in
        [(PARTIAL, OutcomeKind::Delivered), ("SSH-2.0-OpenSSH_9.6\r\n", OutcomeKind::AnswerUnreadable)]
    {
        let (open, start) = (Server::answering(vec![answer].leak()).await, Instant::now());
        assert_eq!(post(&loopback(), &open.url()).await.kind, want);
        assert!(start.elapsed() < TIMEOUT / 4, "{:?}", start.elapsed());
    }
    let open = Server::answering(&[PARTIAL]).await;
    let outcome = post_within(&loopback(), &open.url(), "x", Duration::from_millis(500)).await;
    assert_eq!(outcome.kind, OutcomeKind::Delivered);
}

#[tokio::test]
async fn a_connection_that_ends_before_a_status_is_told_as_that_unless_something_else_came() {
    use OutcomeKind::{AnswerUnreadable, ConnectionReset};
    for (begun, want) in [
        ("", ConnectionReset),
        ("\r\n", ConnectionReset),
        ("HTTP/1.1 2", ConnectionReset),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", ConnectionReset),
        ("220 mail.example.com", AnswerUnreadable),
    ] {
        let server = Server::start(move |mut stream, _| async move {
            let _ = stream.read(&mut [0; 8192]).await;
            let _ = stream.write_all(begun.as_bytes()).await;
        });
        assert_eq!(post(&loopback(), &server.await.url()).await.kind, want, "{begun:?}");
    }
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

/// The receiver reads on slowly after its answer: for longer than the rest of a response may take.
#[tokio::test]
async fn a_request_that_was_accepted_early_is_written_to_its_end() {
    let server = Server::start(|mut stream, counts| async move {
        let (mut bytes, mut read) = (vec![0; 1 << 20], stream.read(&mut [0; 1024]).await.unwrap());
        let _ = stream.write_all(b"HTTP/1.1 202 X\r\ncontent-length: 0\r\n\r\n").await;
        while read > 0 {
            counts.received.fetch_add(read, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(30)).await;
            read = stream.read(&mut bytes).await.unwrap_or(0);
        }
    })
    .await;
    let sent = 24 << 20;
    assert_eq!(post_within(&loopback(), &server.url(), vec![b'x'; sent], TIMEOUT).await.http_status, Some(202));
    while server.counts.received.load(Ordering::SeqCst) <= sent {
        tokio::time::sleep(Duration::from_millis(50)).await;
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
async fn an_idle_connection_is_closed_if_its_rules_are_not_in_force_any_more() {
    let (server, sends) = (Server::answering(&[OK]).await, loopback());
    let former = sends.sender.0.egress.borrow().clone();
    let read = |text: &str| serde_json::from_str::<Egress>(text).unwrap().after(&former.egress);
    let proxied = r#"{"allowedPorts": ["1-65535"], "proxy": {"url": "http://proxy:3128"}}"#;
    for (n, (egress, stays)) in
        [(read(LOOPBACK), true), (read(IPV4_ALONE), false), (read(proxied), false)].into_iter().enumerate()
    {
        assert_eq!(post(&sends, &server.url()).await.kind, OutcomeKind::Delivered);
        sends.sender.0.pool.sweep(Instant::now(), &egress);
        let origin = Arc::new(Origin::of(&Url::parse(&server.url()).unwrap(), &sends.rules).unwrap());
        assert_eq!(sends.sender.0.pool.take(&origin).is_some(), stays, "{n}");
    }
}

/// A proxy that the egress file names from now on is used at the next connection.
#[tokio::test]
async fn the_proxy_in_force_is_used() {
    let (direct, behind) = (Server::answering(&[OK]).await, Server::answering(&[OK]).await);
    let (address, asked) = proxy(behind.address, "HTTP/1.1 200 OK\r\n\r\n").await;
    let read = |text: &str| serde_json::from_str::<Egress>(text).unwrap();
    let rules = |egress: Egress| Arc::new(EgressRules { egress, digest: String::new() });
    let first = rules(read(LOOPBACK));
    let (in_force, receiver) = watch::channel(Arc::clone(&first));
    let (dns, connections) = (DnsSettings::default(), ConnectionSettings::default());
    let sender = Sender::new(&dns, &connections, receiver, 64, Metrics::register().0).unwrap();
    let mut sends = Sends { sender, rules: Arc::clone(first.egress.of("shop")) };
    assert_eq!(post(&sends, &direct.url()).await.kind, OutcomeKind::Delivered);
    let settings = LOOPBACK.replacen('{', &format!("{{\"proxy\": {{\"url\": \"http://{address}\"}}, "), 1);
    let second = rules(read(&settings).after(&first.egress));
    sends.rules = Arc::clone(second.egress.of("shop"));
    in_force.send_replace(second);
    assert_eq!(post(&sends, &direct.url()).await.kind, OutcomeKind::Delivered);
    assert_eq!((direct.counts(), behind.counts(), asked.lock().unwrap().len()), ((1, 1), (1, 1), 1));
}

#[tokio::test]
async fn connections_that_are_opened_together_do_not_grow_old_together() {
    let (server, sender) = (Server::answering(&[OK]).await, loopback());
    let origin = Origin::of(&Url::parse(&server.url()).unwrap(), &sender.rules).unwrap();
    let mut ages = Vec::new();
    for _ in 0..16 {
        let opened = Instant::now();
        ages.push(sender.sender.0.dial(&origin).await.unwrap().retires - opened);
    }
    ages.sort();
    // Five minutes by default, and up to a fifth less.
    let [least, most] = [ages[0], ages[15]];
    assert!(least >= Duration::from_secs(240) && most <= Duration::from_secs(300) + TIMEOUT, "{ages:?}");
    assert!(most - least > Duration::from_secs(1), "{ages:?}");
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
    answering_names(move |_| a, aaaa).await
}

/// A name server whose answers are not to be kept. `a` gets the number of the query for IPv4 addresses.
async fn answering_names(
    a: impl Fn(usize) -> Option<&'static [Ipv4Addr]> + Send + 'static,
    aaaa: Option<&'static [Ipv6Addr]>,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut query, mut number) = ([0; 512], 0);
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            // The question follows the header of 12 bytes: labels, their end, the type and the class.
            let end = 12 + query[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let addresses: Option<Vec<Vec<u8>>> = match query[end - 3] {
                1 => {
                    number += 1;
                    a(number - 1).map(|a| a.iter().map(|address| address.octets().to_vec()).collect())
                }
                28 => aaaa.map(|aaaa| aaaa.iter().map(|address| address.octets().to_vec()).collect()),
                _ => Some(Vec::new()),
            };
            let Some(addresses) = addresses else { continue };
            let mut answer = [&query[..2], &[0x81, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]].concat();
            answer.extend_from_slice(&query[12..end]);
            for address in addresses {
                answer.extend_from_slice(&[0xc0, 12, 0, query[end - 3], 0, 1, 0, 0, 0, 0, 0, address.len() as u8]);
                answer.extend_from_slice(&address);
            }
            let _ = socket.send_to(&answer, from).await;
        }
    });
    address
}

#[tokio::test]
async fn names_table() {
    use OutcomeKind::{Delivered, NameNotFound};
    const V4: Option<&[Ipv4Addr]> = Some(&[Ipv4Addr::LOCALHOST]);
    const V6: Option<&[Ipv6Addr]> = Some(&[Ipv6Addr::LOCALHOST]);
    const MIXED: Option<&[Ipv4Addr]> = Some(&[Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 0, 0, 1)]);
    for (egress, a, aaaa, want, blocked) in [
        (LOOPBACK, V4, Some(&[][..]), Delivered, 0),
        (LOOPBACK, Some(&[][..]), V6, Delivered, 0),
        (LOOPBACK, V4, V6, Delivered, 0),
        // The name server doesn't answer for one family.
        (LOOPBACK, V4, None, Delivered, 0),
        (LOOPBACK, None, V6, Delivered, 0),
        // One family is forbidden.
        (IPV4_ALONE, V4, V6, Delivered, 0),
        (IPV4_ALONE, Some(&[]), V6, NameNotFound, 1),
        // One forbidden address refuses its family.
        (LOOPBACK, MIXED, V6, Delivered, 0),
        (LOOPBACK, MIXED, Some(&[]), NameNotFound, 1),
        (LOOPBACK, Some(&[]), Some(&[]), NameNotFound, 0),
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
        let start = Instant::now();
        let outcome = tokio::select! {
            outcome = post(&sender, &url) => outcome,
            () = serve => unreachable!(),
        };
        let counted = sender.sender.0.metrics.blocked_attempts.get();
        assert_eq!((outcome.kind, counted), (want, blocked), "{a:?} {aaaa:?} {egress}");
        assert!(outcome.kind == Delivered || start.elapsed() >= NAME_FAILS_AFTER, "the time tells why it failed");
    }
}

#[tokio::test]
async fn a_name_with_an_underscore_is_found() {
    let server = Server::answering(&[OK]).await;
    let dns = DnsSettings { nameservers: vec![name_server(Some(&[Ipv4Addr::LOCALHOST]), Some(&[])).await] };
    let url = format!("http://my_receiver.example.com:{}/", server.address.port());
    let outcome = post(&made(&dns, &ConnectionSettings::default(), LOOPBACK), &url).await;
    assert_eq!(outcome.kind, OutcomeKind::Delivered);
}

/// `localhost` is known without a name server, and has an address of each family.
#[tokio::test]
async fn a_name_that_resolves_to_forbidden_addresses_is_blocked_before_it_is_dialled() {
    let server = Server::answering(&[OK]).await;
    let url = format!("http://localhost:{}/", server.address.port());
    assert_eq!(
        post(&sender(r#"{"allowedPorts": ["1-65535"], "plainHttp": true}"#), &url).await.kind,
        OutcomeKind::NameNotFound
    );
    assert_eq!(server.counts(), (0, 0));
    assert_eq!(post(&sender(IPV4_ALONE), &url).await.kind, OutcomeKind::Delivered);
}

/// A listener that must see nothing: no spelling of its address, and no name that resolves to it at the second look, gets
/// a connection to it.
#[tokio::test]
async fn a_forbidden_listener_sees_nothing() {
    const EGRESS: &str = r#"{"allowedCIDRs": ["127.0.0.2/32"], "allowedPorts": ["1-65535"], "plainHttp": true}"#;
    const ALLOWED: Option<&[Ipv4Addr]> = Some(&[Ipv4Addr::new(127, 0, 0, 2)]);
    const FORBIDDEN: Option<&[Ipv4Addr]> = Some(&[Ipv4Addr::LOCALHOST]);
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            noted.lock().unwrap().push(stream.local_addr().unwrap().ip().to_canonical());
            let _ = stream.read(&mut [0; 8192]).await;
            let _ = stream.write_all(OK.as_bytes()).await;
        }
    });
    let rebinds = answering_names(|number| if number % 2 == 0 { ALLOWED } else { FORBIDDEN }, Some(&[])).await;
    let dns = DnsSettings { nameservers: vec![rebinds] };
    let sends = made(&dns, &ConnectionSettings { max_age: Duration::ZERO }, EGRESS);
    let hosts = [
        "127.0.0.1",
        "127.1",
        "0177.0.0.1",
        "0x7f000001",
        "2130706433",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "localhost",
        "localhost.",
        "①②⑦.0.0.1",
        "user@127.0.0.1",
        "127.0.0.2@127.0.0.1",
        "127.0.0.2.rebind.example",
        "127.0.0.2.rebind.example",
        "127.0.0.2.rebind.example.",
        "127.0.0.2",
    ];
    for host in hosts {
        let destination = Destination {
            url: format!("http://{host}:{port}/"),
            service: None,
            headers: Vec::new(),
            signing: vec![Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned())],
        };
        let prepared = Endpoint::prepare(&destination, &sends.rules);
        if let Ok(Endpoint { origin: Ok(origin), template: Ok(template), .. }) = prepared {
            let request = Request { head: template.head.clone(), body: "x".into() };
            let clock = Clock::new().unwrap();
            sends.sender.send(&origin, request, TIMEOUT, &clock, || {}).await;
        }
    }
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|ip| *ip == Ipv4Addr::new(127, 0, 0, 2)), "{seen:?}");
}

/// A proxy that connects to `to`, whatever it is asked for, and remembers what it was asked, or gives another answer.
async fn proxy(to: SocketAddr, answer: &'static str) -> (SocketAddr, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(std::sync::Mutex::new(Vec::new())));
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            noted.lock().unwrap().push(String::from_utf8(head).unwrap());
            let _ = stream.write_all(answer.as_bytes()).await;
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn everything_but_a_service_goes_through_the_proxy_by_its_name() {
    use OutcomeKind::{Delivered, NameNotFound, TlsFailed};
    const MADE: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
    let credentials = std::env::temp_dir().join(format!("hookwright-proxy-{:016x}", rand::random::<u64>()));
    std::fs::write(&credentials, "user:hush\n").unwrap();
    let http = Server::answering(&[OK]).await;
    // A server that can't agree on TLS sends such an alert.
    let tls = Server::answering(&["\u{15}\u{3}\u{3}\0\u{2}\u{2}("]).await;
    for (server, answer, url, asked, want, failures) in [
        (&http, MADE, "http://receiver.example.com:8080/", "CONNECT receiver.example.com:8080", Delivered, 0),
        (&http, MADE, "http://[2001:db8::1]:8080/", "CONNECT [2001:db8::1]:8080", Delivered, 0),
        (&tls, MADE, "https://receiver.example.com/", "CONNECT receiver.example.com:443", TlsFailed, 0),
        (&http, "HTTP/1.1 403 X\r\n\r\n", "http://a.example/", "CONNECT a.example:80", NameNotFound, 1),
        (&http, "hello\r\n\r\n", "http://a.example/", "CONNECT a.example:80", NameNotFound, 1),
    ] {
        let (address, heads) = proxy(server.address, answer).await;
        let settings = serde_json::json!({
            "allowedPorts": ["1-65535"], "plainHttp": true,
            "proxy": { "url": format!("http://{address}"), "credentialsFile": credentials },
        });
        let sends = made(&DnsSettings::default(), &ConnectionSettings::default(), &settings.to_string());
        let start = Instant::now();
        let outcome = post(&sends, url).await;
        assert!(outcome.kind != NameNotFound || start.elapsed() >= NAME_FAILS_AFTER, "the time tells why it failed");
        assert_eq!((outcome.kind, sends.sender.0.metrics.proxy_failures.get()), (want, failures), "{url} {answer}");
        let heads = heads.lock().unwrap();
        assert!(heads[0].starts_with(&format!("{asked} HTTP/1.1\r\n")), "{heads:?}");
        assert!(heads[0].contains("\r\nproxy-authorization: Basic dXNlcjpodXNo\r\n"), "{heads:?}");
    }
    std::fs::remove_file(credentials).unwrap();
}
