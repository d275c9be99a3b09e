//! Benchmarks of the work in `core` for each event and each delivery. Run `cargo bench -p hookwright-core`.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hookwright_core::delivery::backoff::Backoff;
use hookwright_core::delivery::backoff::Jitter;
use hookwright_core::delivery::decide::{Attempt, decide};
use hookwright_core::delivery::millis::Millis;
use hookwright_core::delivery::outcome::Outcome;
use hookwright_core::delivery::policy::RetryPolicy;
use hookwright_core::event::event_type::EventTypePattern;
use hookwright_core::event::event_type::EventTypeRule;
use hookwright_core::event::{Message, Reading, attribute_value, parse};
use hookwright_core::nats::delivery_id::DeliveryKey;
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::select::index::Matcher;
use hookwright_core::sign::hmac::{SigningKey, secret_text, signature_header};
use jiff::Timestamp;

const KIB: usize = 1024;

fn bodies() -> Bytes {
    Bytes::from(format!(r#"{{"text":"{}"}}"#, "x".repeat(KIB - 11)))
}

fn matching(criterion: &mut Criterion) {
    let mut matcher = Matcher::default();
    for n in 0..10_000u32 {
        let pattern = EventTypePattern::parse(&format!("order.type-{}", n / 10)).unwrap();
        matcher.insert(&n, &[pattern], &[], None, &n);
    }
    criterion.bench_function("match: 10 of 10,000 subscriptions", |bencher| {
        bencher.iter(|| matcher.matches(black_box("order.type-500"), None, &()));
    });
    for n in 0..100u32 {
        let pattern = EventTypePattern::parse(&format!("invoice.type-{n}.>")).unwrap();
        matcher.insert(&(10_000 + n), &[pattern], &[], None, &n);
    }
    criterion.bench_function("match: the same beside 100 wildcards", |bencher| {
        bencher.iter(|| matcher.matches(black_box("order.type-500"), None, &()));
    });
}

fn signing(criterion: &mut Criterion) {
    let key = SigningKey::parse(&secret_text(&[7; 32])).unwrap();
    let subscription = SubscriptionUid::parse("3f0a2c9e-0000-4000-8000-000000000000").unwrap();
    let (stream_created, stored) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    let (subscription, stream) = (&subscription, "shop_orders");
    let delivery = DeliveryKey { subscription, stream, stream_created, sequence: 1_000_000, stored };
    criterion.bench_function("id of a delivery", |bencher| bencher.iter(|| black_box(delivery).id()));
    let (id, body) = (delivery.id(), bodies());
    let mut group = criterion.benchmark_group("sign");
    group.throughput(Throughput::Bytes(KIB as u64));
    group.bench_function("1 KiB", |bencher| {
        bencher.iter(|| signature_header(std::slice::from_ref(&key), id.as_str(), 1_700_000_000, black_box(&body)));
    });
    group.finish();
}

fn deciding(criterion: &mut Criterion) {
    let backoff = Backoff::Exponential { delay: Millis::seconds(5), factor: 2, max_delay: Millis::seconds(3600) };
    let policy = RetryPolicy { max_attempts: Some(10), max_duration: None, backoff, jitter_percent: 20 };
    let (attempt, now) = (Attempt { number: 3, deadline: None }, Timestamp::UNIX_EPOCH);
    criterion.bench_function("decide on a 503", |bencher| {
        bencher.iter(|| decide(&policy, black_box(attempt), Outcome::response(503, None), now, Jitter::new(0.3)));
    });
}

fn parsing(criterion: &mut Criterion) {
    let (body, rule) = (bodies(), EventTypeRule::default());
    let cloud_event = [
        ("ce-specversion", "1.0"),
        ("ce-id", "6f2a0c"),
        ("ce-type", "order.created"),
        ("ce-source", "/shop"),
        ("ce-time", "2026-01-02T03:04:05Z"),
        ("content-type", "application/json"),
    ];
    for (name, headers) in [("parse a plain message", &[][..]), ("parse a CloudEvent in binary mode", &cloud_event)] {
        let message = Message {
            subject: "shop.events.order.created",
            headers,
            body: &body,
            stream: "shop_orders",
            sequence: 1_000_000,
            published: Timestamp::UNIX_EPOCH,
        };
        let source = attribute_value("/namespaces/shop/producers/orders");
        let reading = Reading { rule: &rule, source: &source, known_type: None };
        criterion.bench_function(name, |bencher| bencher.iter(|| parse(black_box(&message), reading)));
    }
}

criterion_group!(benches, matching, signing, deciding, parsing);
criterion_main!(benches);
