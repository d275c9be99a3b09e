//! Existing streams as people have them: what they store is not always what was published to them.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::{
    Compression, Config, ConsumerLimits, DiscardPolicy, External, Republish, Source, StorageType, SubjectTransform,
};
use hookwright_e2e::{Event, User, wait_for};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::streams::{create_stream, refused};
use crate::shop::{SOON, Shop, condition, shared};

fn source(name: &str, filter: &str) -> Source {
    Source { name: name.to_owned(), filter_subject: Some(filter.to_owned()), ..Source::default() }
}

/// The spec of a Producer that reads this subject of an existing stream.
fn reads(shop: &Shop<'_>, stream: &str, subject: &str) -> Value {
    let stream = format!("{}_{stream}", shop.namespace);
    json!({ "subjects": [subject], "stream": { "name": stream, "policy": "Existing" } })
}

/// The streams, by their names.
fn streams(namespace: &str) -> Vec<(&'static str, Config)> {
    let subject = |rest: &str| format!("{namespace}.{rest}");
    let takes = |rest: &str| Config { subjects: vec![subject(rest)], ..Config::default() };
    let transforms = |taken: &str, source: &str, destination: &str| Config {
        subject_transform: Some(SubjectTransform { source: subject(source), destination: subject(destination) }),
        ..takes(taken)
    };
    let origin = format!("{namespace}_origin");
    let limits = |seconds| {
        let inactive_threshold = Duration::from_secs(seconds);
        Some(ConsumerLimits { inactive_threshold, max_ack_pending: 10 })
    };
    vec![
        ("origin", takes("origin.>")),
        ("transforms", transforms("transforms.in.>", "transforms.in.>", "transforms.out.>")),
        ("wide", transforms("wide.in.>", "wide.>", "wide.out.>")),
        ("parts", transforms("in.*", "in.*", "parts.{{partition(3,1)}}")),
        ("split", transforms("split.in.*", "split.in.*", "split.{{splitFromLeft(1,3)}}.c")),
        ("sourced", Config { sources: Some(vec![source(&origin, &subject("origin.a.>"))]), ..Config::default() }),
        (
            "ahead",
            Config {
                sources: Some(vec![Source {
                    start_sequence: Some(1_000_000),
                    ..source(&origin, &subject("origin.a.>"))
                }]),
                ..Config::default()
            },
        ),
        ("mirrored", Config { mirror: Some(Source { name: origin, ..Source::default() }), ..Config::default() }),
        ("limited", Config { consumer_limits: limits(3600), ..takes("limited.>") }),
        ("brief", Config { consumer_limits: limits(1), ..takes("brief.>") }),
        (
            "republished",
            Config {
                republish: Some(Republish {
                    source: subject("republished.>"),
                    destination: subject("again.>"),
                    headers_only: false,
                }),
                ..takes("republished.>")
            },
        ),
        ("compacted", Config { max_messages_per_subject: 1, ..takes("compacted.>") }),
        (
            "expires",
            Config {
                allow_message_ttl: true,
                subject_delete_marker_ttl: Some(Duration::from_secs(3)),
                ..takes("expires.>")
            },
        ),
        (
            "odd",
            Config {
                storage: StorageType::Memory,
                compression: Some(Compression::S2),
                first_sequence: Some(1_000),
                discard: DiscardPolicy::New,
                max_messages: 1_000,
                max_messages_per_subject: 10,
                discard_new_per_subject: true,
                deny_delete: true,
                deny_purge: true,
                allow_atomic_publish: true,
                ..takes("odd.>")
            },
        ),
        ("counts", Config { allow_message_counter: true, allow_direct: true, ..takes("counts.>") }),
        ("full", Config { max_consumers: 1, ..takes("full.>") }),
        (
            "foreign",
            Config {
                sources: Some(vec![Source {
                    external: Some(External { api_prefix: "$JS.hub.API".to_owned(), delivery_prefix: None }),
                    ..source("ORDERS", "")
                }]),
                ..takes("foreign.a")
            },
        ),
        ("later", Config { allow_message_schedules: true, ..takes("later.>") }),
        ("sealed", takes("sealed.>")),
        (
            "letters",
            Config {
                sources: Some(vec![source("HOOKWRIGHT_DEAD_LETTERS", "hookwright.dead.none")]),
                ..takes("letters")
            },
        ),
    ]
}

#[tokio::test]
async fn what_a_stream_stores_is_delivered_or_the_producer_is_told_why_not() {
    let (shop, _machine) = shared().await;
    let subject = |rest: &str| format!("{}.{rest}", shop.namespace);
    for (name, config) in streams(&shop.namespace) {
        create_stream(shop.world, Config { name: format!("{}_{name}", shop.namespace), ..config }).await;
    }
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    let sealed = format!("{}_sealed", shop.namespace);
    let config = jetstream.get_stream(&sealed).await.unwrap().cached_info().config.clone();
    jetstream.update_stream(Config { sealed: true, ..config }).await.unwrap();

    let full = jetstream.get_stream(format!("{}_full", shop.namespace)).await.unwrap();
    full.create_consumer(pull::Config { durable_name: Some("other".to_owned()), ..pull::Config::default() })
        .await
        .unwrap();

    for (name, read, reason) in [
        ("full", "full.>", "NatsLimitReached"),
        ("transforms", "transforms.in.>", "SubjectNotInStream"),
        ("wide", "wide.out.other.>", "SubjectNotInStream"),
        ("parts", "parts.3", "SubjectNotInStream"),
        ("split", "split.x.y", "SubjectNotInStream"),
        ("sourced", "origin.b", "SubjectNotInStream"),
        ("brief", "brief.>", "StreamConsumerLimits"),
        ("sealed", "sealed.>", "StreamSealed"),
        ("letters", "letters", "StreamSourceNotAllowed"),
    ] {
        let spec = reads(&shop, name, &subject(read));
        refused(shop.world, &shop.namespace, &format!("{name}-refused"), spec, reason).await;
    }

    let served = [
        ("transforms", "transforms.out.>", "transforms.in.x"),
        ("wide", "wide.out.in.>", "wide.in.x"),
        ("parts", "parts.*", "in.x"),
        ("split", "split.>", "split.in.abcdef"),
        ("sourced", "origin.a.>", "origin.a.x"),
        ("mirrored", "origin.>", "origin.a.x"),
        ("limited", "limited.>", "limited.x"),
        ("republished", "republished.>", "republished.x"),
        ("compacted", "compacted.>", "compacted.x"),
        ("expires", "expires.>", "expires.x"),
        ("later", "later.>", "later.x"),
        ("odd", "odd.>", "odd.x"),
        ("counts", "counts.>", "counts.x"),
    ];
    for (name, read, _) in served {
        shop.produce(name, name, reads(&shop, name, &subject(read))).await;
        shop.subscribe(name, &[">"], json!({ "producerRef": { "name": name } })).await;
    }
    // What clients of a bucket leave in place of a key.
    for operation in ["DEL", "PURGE"] {
        shop.publish(&Event::new(subject("limited.gone"), "").header("KV-Operation", operation)).await;
    }
    for publish in served.map(|(_, _, publish)| publish).into_iter().collect::<BTreeSet<_>>() {
        let event = Event::new(subject(publish), "first");
        // The stream deletes it after as long as the mark stays that it leaves in its place.
        let event = match publish {
            "expires.x" => event.header("Nats-TTL", "1s"),
            "counts.x" => Event::new(subject(publish), "").header("Nats-Incr", "+1"),
            _ => event,
        };
        shop.publish(&event).await;
    }
    // A message that the server is to publish later is no event; what it publishes is one.
    let at = Timestamp::now() + SignedDuration::from_secs(2);
    let scheduled = Event::new(subject("later.plan"), "second").header("Nats-Schedule", &format!("@at {at:.0}"));
    shop.publish(&scheduled.header("Nats-Schedule-Target", &subject("later.done"))).await;
    wait_for("the mark", SOON, async || {
        let info = jetstream.get_stream(format!("{}_expires", shop.namespace)).await?.cached_info().clone();
        anyhow::ensure!(info.state.last_sequence == 2, "{:?}", info.state);
        Ok(())
    })
    .await
    .unwrap();
    shop.publish(&Event::new(subject("expires.x"), "second")).await;
    for (name, ..) in served {
        let count = if matches!(name, "expires" | "later") { 2 } else { 1 };
        let requests = shop.requests(name, count).await;
        let bodies: Vec<_> = requests.iter().map(|request| String::from_utf8_lossy(&request.body)).collect();
        let want = if name == "counts" { [r#"{"val":"1"}"#, ""] } else { ["first", "second"] };
        assert_eq!(bodies, want[..count], "{name}");
    }

    // What these are filled from can't be looked at.
    for name in ["orphan", "stray"] {
        let sources = Some(vec![source(&format!("{}_of_{name}", shop.namespace), "")]);
        let name = format!("{}_{name}", shop.namespace);
        create_stream(shop.world, Config { name, sources, ..Config::default() }).await;
    }
    for (name, read, reason) in [
        ("orphan", "orphan.>", "SourceNotFound"),
        ("stray", "stray.>", "SourceNotFound"),
        ("foreign", "foreign.>", "SourceElsewhere"),
        ("ahead", "origin.a.>", "SourceInFuture"),
    ] {
        shop.produce(name, name, reads(&shop, name, &subject(read))).await;
        let told = |object: &Value| condition(&object["status"], "SubjectsUnknown")["reason"] == reason;
        let plane = &shop.world.control_plane;
        plane.wait_until(&shop.namespace, "producers", name, reason, SOON, told).await.unwrap();
    }
    let narrow = json!({ "spec": { "subjects": [subject("foreign.a")] } }).to_string();
    let plane = &shop.world.control_plane;
    plane.kubectl(&["patch", "hprod", "foreign", "-n", &shop.namespace, "--type=merge", "-p", &narrow]).await.unwrap();
    let known = |object: &Value| condition(&object["status"], "SubjectsUnknown").is_null();
    plane.wait_until(&shop.namespace, "producers", "foreign", "known subjects", SOON, known).await.unwrap();

    a_source_that_appears_is_looked_at(&shop).await;
}

/// Once the source is there that one was missing, its subjects are known, and its events come or the Producer is told why
/// not.
async fn a_source_that_appears_is_looked_at(shop: &Shop<'_>) {
    let plane = &shop.world.control_plane;
    shop.subscribe("orphan", &[">"], json!({ "producerRef": { "name": "orphan" } })).await;
    for (name, subjects) in [("orphan", "orphan.>"), ("stray", "elsewhere.>")] {
        let subjects = vec![format!("{}.{subjects}", shop.namespace)];
        let source = format!("{}_of_{name}", shop.namespace);
        create_stream(shop.world, Config { name: source, subjects, ..Config::default() }).await;
        // The operator looks by itself, once a minute.
        plane.kubectl(&["annotate", "hprod", name, "-n", &shop.namespace, "look=again"]).await.unwrap();
    }
    let known = |object: &Value| condition(&object["status"], "SubjectsUnknown").is_null();
    plane.wait_until(&shop.namespace, "producers", "orphan", "known subjects", SOON, known).await.unwrap();
    shop.publish(&Event::new(format!("{}.orphan.x", shop.namespace), "found")).await;
    assert_eq!(shop.requests("orphan", 1).await[0].body, "found");
    let refused = |object: &Value| condition(&object["status"], "Accepted")["reason"] == "SubjectNotInStream";
    plane.wait_until(&shop.namespace, "producers", "stray", "its refusal", SOON, refused).await.unwrap();
}
