//! What receivers do on the wire, and what is told of it. The table of all answers is the sender's, in the dispatcher.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use hookwright_core::delivery::outcome::OutcomeKind;
use hookwright_core::delivery::parked::{PARKED_HEADER, ParkedDelivery};
use hookwright_core::nats::names::{PARKED_STREAM, parked_at_all};
use hookwright_e2e::{Answer, User, wait_for};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::shop::{SOON, Shop, fixed, metric, shared};

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
        ("headless", Does::Answers("HTTP/1.1 200 OK\r\nx: y")),
        ("content", Does::Answers("HTTP/1.1 204 No Content\r\ncontent-length: 11\r\n\r\nhello world")),
    ];
    let mut receivers = Vec::new();
    for (name, does) in answers {
        let (url, seen) = receiver(does).await;
        shop.subscribe(name, &[">"], once(&url)).await;
        receivers.push((name, seen));
    }
    let (url, seen) = receiver(Does::Answers("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    // A name of both families, of which the receiver listens on one.
    shop.subscribe("localhost", &[">"], once(&url.replace("127.0.0.1", "localhost"))).await;
    receivers.push(("localhost", seen));
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let failures = [
        ("closes", receiver(Does::Ends("")).await.0, OutcomeKind::ConnectionReset),
        ("ssh", receiver(Does::Answers("SSH-2.0-OpenSSH_9.6\r\n")).await.0, OutcomeKind::AnswerUnreadable),
        ("refuses", format!("http://{refused}/"), OutcomeKind::ConnectionRefused),
        ("nameless", "http://no-such-name.invalid/".to_owned(), OutcomeKind::NameNotFound),
    ];
    let mut uids = Vec::new();
    for (name, url, _) in &failures {
        uids.push(shop.subscribe(name, &[">"], once(url)).await);
    }
    shop.subscribe("lengths", &[">"], json!({})).await;
    for body in ["", "body"] {
        shop.publish(&shop.event("a", body)).await;
    }
    let requests = shop.requests("lengths", 2).await;
    let mut lengths: Vec<_> = requests.iter().map(|request| request.header("content-length")).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, ["0", "4"], "also without a body");
    let count = |status: &Value, field: &str| status["delivery"][field].as_u64().unwrap_or_default();
    for (name, seen) in receivers {
        let status = shop.status(name, "both delivered", |status| count(status, "delivered") == 2).await;
        assert_eq!((count(&status, "failedAttempts"), seen.load(Ordering::SeqCst)), (0, 2), "{name}");
        if matches!(name, "endless" | "headless") {
            // The rest of the response gets a second, not all of the attempt's fifteen.
            let took = status["delivery"]["lastAttempt"]["duration"].as_str().unwrap().to_owned();
            let took: u64 = took.strip_suffix("ms").unwrap().parse().unwrap();
            assert!((1_000..15_000).contains(&took), "{took} ms");
        }
    }
    for ((name, _, outcome), uid) in failures.iter().zip(&uids) {
        let status = shop.status(name, "given up", |status| count(status, "deadLettered") == 2).await;
        assert_eq!(status["delivery"]["lastAttempt"]["outcome"], outcome.name());
        let (letter, _) = shop.dead_letter(uid).await;
        assert_eq!(letter.detail.as_deref(), Some(outcome.detail()), "{name}");
        assert_eq!(letter.progress.history.last().map(|attempt| attempt.outcome), Some(*outcome), "{name}");
        let (mut counted, attempts) = (0, format!("attempts_total{{outcome=\"{}\"}}", outcome.name()));
        for dispatcher in &shop.world.dispatchers {
            counted += metric(&dispatcher.metrics().await.unwrap(), &attempts);
        }
        assert!(counted >= 2, "{name}: {counted} in the metric");
    }
    // The log has the full cause, of each turn at each dispatcher once.
    for (name, cause) in [
        ("closes", "the connection ended before an answer"),
        ("ssh", "the answer can't be read as HTTP"),
        ("refuses", "can't connect to 127.0.0.1:"),
        ("nameless", "the name was not resolved: "),
    ] {
        let subscription = format!("{}/{name}\"", shop.namespace);
        let is_turn = |line: &&str| line.contains(&subscription) && line.contains("deliveries to an endpoint fail");
        let logs: Vec<String> = shop.world.dispatchers.iter().map(|dispatcher| dispatcher.logs()).collect();
        let lines: Vec<&str> = logs.iter().flat_map(|log| log.lines().filter(is_turn)).collect();
        assert!((1..=2).contains(&lines.len()) && lines.iter().all(|line| line.contains(cause)), "{name}: {lines:?}");
    }
}

/// With how many attempts the lanes of an endpoint begin, of both dispatchers together.
const FIRST: usize = 2 * 512 / 64;

/// When the failed deliveries of a Subscription are due that wait in NATS.
async fn due_times(shop: &Shop<'_>, uid: &str) -> anyhow::Result<Vec<Timestamp>> {
    let stream = shop.world.nats.jetstream(User::Admin).await?.get_stream(PARKED_STREAM).await?;
    let subjects = stream.info_with_subjects(parked_at_all(&uid.to_owned().try_into()?)).await?;
    let subjects: Vec<(String, usize)> = subjects.try_collect().await?;
    let mut times = Vec::new();
    for (subject, _) in subjects {
        let message = stream.get_last_raw_message_by_subject(&subject).await?;
        let header = |name| message.headers.get(name).map_or("", |value| value.as_str());
        if serde_json::from_str::<ParkedDelivery>(header(PARKED_HEADER))?.progress.attempts > 0 {
            times.push(header("Nats-Schedule").trim_start_matches("@at ").parse()?);
        }
    }
    Ok(times)
}

#[tokio::test]
async fn a_receiver_that_gets_too_much_says_so_a_few_times_and_gets_everything_later() {
    const EVENTS: usize = 200;
    let (shop, _machine) = shared().await;
    let too_much = |seconds: &str| Answer::status(429).header("Retry-After", seconds);
    // All attempts with which its lanes begin are under way before the first is answered.
    shop.receiver.answer("/long", too_much("600").after(Duration::from_secs(1)));
    let (first, short) = (OnceLock::new(), too_much("2"));
    shop.receiver.script("/short", move |_| {
        let open = first.get_or_init(Instant::now).elapsed() >= Duration::from_secs(2);
        if open { Answer::status(200) } else { short.clone() }
    });
    shop.subscribe("short", &[">"], fixed("1s")).await;
    let long = shop.subscribe("long", &[">"], fixed("1s")).await;
    let start = Timestamp::now();
    let events: Vec<_> = (0..EVENTS).map(|n| shop.event("a", format!("{n}"))).collect();
    shop.publish_all(&events).await;

    wait_for("each to arrive once", SOON, async || {
        let arrived = shop.deliveries("/short");
        anyhow::ensure!(arrived.len() == EVENTS, "{} did", arrived.len());
        assert!(arrived.values().all(|n| *n == 1), "{arrived:?}");
        Ok(())
    })
    .await
    .unwrap();
    let all_stored = |producer: &Value| producer["status"]["stream"]["messages"] == EVENTS;
    let plane = &shop.world.control_plane;
    plane.wait_until(&shop.namespace, "producers", "orders", "MESSAGES", SOON, all_stored).await.unwrap();
    let sent_away = shop.receiver.requests("/short").iter().filter(|request| !request.succeeded()).count();
    assert!((1..=FIRST).contains(&sent_away), "{sent_away}");

    let behind = |status: &Value| status["delivery"]["behind"]["reason"] == "RetryAfter";
    shop.status("long", "behind", behind).await;
    let attempts = shop.receiver.count("/long");
    assert!((1..=FIRST).contains(&attempts), "{attempts}");
    let due = wait_for("what failed to wait", SOON, async || {
        let due = due_times(&shop, &long).await?;
        anyhow::ensure!(due.len() == attempts, "{} of {attempts}", due.len());
        Ok(due)
    })
    .await
    .unwrap();
    let (earliest, latest) = (due.iter().min().unwrap(), due.iter().max().unwrap());
    assert!(earliest.duration_since(start) >= SignedDuration::from_secs(600), "{due:?}");
    let spread = latest.duration_since(*earliest);
    assert!(due.len() >= 4 && spread > SignedDuration::from_secs(1), "{due:?}");
    assert_eq!(shop.receiver.count("/long"), attempts, "it is left alone");
}
