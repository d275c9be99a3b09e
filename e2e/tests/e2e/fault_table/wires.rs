//! Receivers that answer without end, byte by byte or with much too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// What a receiver does with each request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answers {
    /// A body without an end.
    Endless,
    /// One byte a second.
    Drop,
    /// 32 MiB that say of themselves that they are compressed.
    Bomb,
    /// 1 MB of headers.
    Headers,
    /// 503, and half of the body that it promises.
    Half,
    /// The connection is reset.
    Reset,
}

/// A receiver on the wire. Each request is told by the time that its connection took from the request to its end.
pub(super) struct Wire {
    pub(super) url: String,
    pub(super) requests: Arc<AtomicUsize>,
    pub(super) ends: mpsc::UnboundedReceiver<Duration>,
}

impl Wire {
    pub(super) async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, requests) = (format!("http://{}/", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
        let ((ended, ends), counted) = (mpsc::unbounded_channel(), requests.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (ended, counted) = (ended.clone(), counted.clone());
                tokio::spawn(async move {
                    if stream.read(&mut [0; 64 * 1024]).await.is_ok_and(|length| length > 0) {
                        counted.fetch_add(1, Ordering::SeqCst);
                        let start = Instant::now();
                        answer(&mut stream, answers).await;
                        let _ = ended.send(start.elapsed());
                    }
                });
            }
        });
        Self { url, requests, ends }
    }
}

/// Answers until the other side ends the connection.
async fn answer(stream: &mut TcpStream, answers: Answers) {
    let (head, piece, pause, pieces) = match answers {
        Answers::Endless => ("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 1 << 14], Duration::ZERO, usize::MAX),
        Answers::Drop => {
            ("HTTP/1.1 500 No\r\ncontent-length: 100000\r\n\r\n", vec![b'x'], Duration::from_secs(1), 100_000)
        }
        Answers::Bomb => {
            let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 33554432\r\n\r\n";
            (head, vec![0; 1 << 20], Duration::ZERO, 32)
        }
        Answers::Headers => ("HTTP/1.1 200 OK\r\n", b"x-header: 0123456789\r\n".repeat(1000), Duration::ZERO, 50),
        Answers::Half => ("HTTP/1.1 503 No\r\ncontent-length: 10\r\n\r\nhalf", Vec::new(), Duration::ZERO, 0),
        Answers::Reset => {
            // What is unread when the socket closes makes the kernel reset the connection.
            let _ = stream.set_zero_linger();
            return;
        }
    };
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    for _ in 0..pieces {
        if stream.write_all(&piece).await.is_err() {
            return;
        }
        if let Ok(Ok(0) | Err(_)) = timeout(pause, stream.read(&mut [0; 1024])).await {
            return;
        }
    }
    if matches!(answers, Answers::Half) {
        return;
    }
    // Nothing more is sent, and the connection is left open.
    while !matches!(stream.read(&mut [0; 1024]).await, Ok(0) | Err(_)) {
        sleep(Duration::from_millis(1)).await;
    }
}
