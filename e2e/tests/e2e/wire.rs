//! What receivers do on the wire, and what is told of it. The table of all answers is the sender's, in the dispatcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hookwright_core::delivery::outcome::OutcomeKind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::shop::shared;

/// What a receiver does with each request.
enum Does {
    /// It answers, and leaves the connection open.
    Answers(&'static str),
    /// It answers and closes the connection.
    Ends(&'static str),
}

/// A receiver. Returns its URL, and the number of requests that it has seen.
async fn receiver(does: Does) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, seen) = (format!("http://{}/", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let (count, does) = (seen.clone(), Arc::new(does));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (count, does) = (count.clone(), does.clone());
            tokio::spawn(async move {
                while stream.read(&mut [0; 8192]).await.is_ok_and(|length| length > 0) {
                    count.fetch_add(1, Ordering::SeqCst);
                    let (Does::Answers(answer) | Does::Ends(answer)) = *does;
                    if stream.write_all(answer.as_bytes()).await.is_err() || matches!(*does, Does::Ends(_)) {
                        break;
                    }
                }
            });
        }
    });
    (url, seen)
}

#[tokio::test]
async fn odd_receivers_get_each_event_once_and_failures_have_their_names() {
    let (shop, _machine) = shared().await;
    let once = |url: &str| json!({ "endpoint": { "url": url }, "delivery": { "retry": { "maxAttempts": 1 } } });
    let answers = [
        ("folded", Does::Answers("HTTP/1.1 200 OK\r\nX-Long: one\r\n two\r\ncontent-length: 0\r\n\r\n")),
        ("old", Does::Ends("HTTP/1.0 200 OK\r\n\r\n")),
        ("endless", Does::Answers("HTTP/1.1 200 OK\r\n\r\nok")),
        ("content", Does::Answers("HTTP/1.1 204 No Content\r\ncontent-length: 11\r\n\r\nhello world")),
    ];
    let mut receivers = Vec::new();
    for (name, does) in answers {
        let (url, seen) = receiver(does).await;
        shop.subscribe(name, &[">"], once(&url)).await;
        receivers.push((name, seen));
    }
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let failures = [
        ("closes", receiver(Does::Ends("")).await.0, OutcomeKind::ConnectionReset),
        ("ssh", receiver(Does::Ends("SSH-2.0-OpenSSH_9.6\r\n")).await.0, OutcomeKind::AnswerUnreadable),
        ("refuses", format!("http://{refused}/"), OutcomeKind::ConnectionRefused),
        ("nameless", "http://no-such-name.invalid/".to_owned(), OutcomeKind::NameNotFound),
    ];
    let mut uids = Vec::new();
    for (name, url, _) in &failures {
        uids.push(shop.subscribe(name, &[">"], once(url)).await);
    }
    for n in 0..2 {
        shop.publish(&shop.event("a", format!("{n}"))).await;
    }
    let count = |status: &Value, field: &str| status["delivery"][field].as_u64().unwrap_or_default();
    for (name, seen) in receivers {
        let status = shop.status(name, "both delivered", |status| count(status, "delivered") == 2).await;
        assert_eq!((count(&status, "failedAttempts"), seen.load(Ordering::SeqCst)), (0, 2), "{name}");
    }
    for ((name, _, outcome), uid) in failures.iter().zip(&uids) {
        let status = shop.status(name, "given up", |status| count(status, "deadLettered") == 2).await;
        assert_eq!(status["delivery"]["lastAttempt"]["outcome"], outcome.name());
        let (letter, _) = shop.dead_letter(uid).await;
        assert_eq!(letter.detail.as_deref(), Some(outcome.detail()), "{name}");
        assert_eq!(letter.progress.history.last().map(|attempt| attempt.outcome), Some(*outcome), "{name}");
    }
}
