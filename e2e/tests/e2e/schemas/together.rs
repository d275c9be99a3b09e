//! EventSchemas and the Producer that enforces them, applied together.

use hookwright_core::nats::names::{DEAD_LETTER_STREAM, dead_event};
use hookwright_e2e::{Event, Options, User, World, wait_for};
use serde_json::{Value, json};

use super::{order, schema};
use crate::shop::{SOON, Shop, beside, merge};

/// Enough that putting them in place takes longer than making the Producer ready.
const TYPES: usize = 50;

/// EventSchemas of the types `type0` and on, each with a version that is work to check.
fn schemas(shop: &Shop<'_>) -> Vec<Value> {
    let large = |i: usize| {
        let pattern = |n: usize| json!({ "type": "string", "pattern": format!("^[a-z]{{{n},60}}$") });
        let mut schema = order();
        merge(&mut schema["properties"], (0..50).map(|n| (format!("p{n}"), pattern(n))).collect());
        schema["description"] = json!(format!("Event {i}."));
        schema
    };
    let one = |i: usize| {
        let spec = json!({ "producerRef": { "name": "burst" } });
        let name = format!("type{i}");
        schema(shop, &name, &name, &[("1.0", large(i)), ("2.0", order())], spec)
    };
    (0..TYPES).map(one).collect()
}

fn producer(shop: &Shop<'_>, validation: &str) -> Value {
    let name = "burst";
    json!({
        "apiVersion": "hookwright.dev/v1alpha1",
        "kind": "Producer",
        "metadata": { "name": name, "namespace": shop.namespace },
        "spec": {
            "subjects": [format!("{}.{name}.>", shop.namespace)],
            "stream": { "name": format!("{}_{name}", shop.namespace) },
            "eventType": { "stripPrefix": format!("{}.{name}.", shop.namespace) },
            "validation": validation,
        },
    })
}

async fn apply(shop: &Shop<'_>, objects: &[Value]) {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string();
    shop.world.control_plane.kubectl_stdin(&["apply", "-f", "-"], &list).await.unwrap();
}

/// Applies all while the operator sleeps, so that it finds everything at once; publishes one event of each type the moment
/// that the Producer is Ready; and sees that none of them is dead.
async fn none_is_dead(shop: &Shop<'_>, objects: &[Value]) {
    shop.world.operator.freeze().unwrap();
    apply(shop, objects).await;
    shop.world.operator.thaw().unwrap();
    let producer = shop.world.wait_ready(&shop.namespace, "producers", "burst").await.unwrap();
    for i in 0..TYPES {
        let subject = format!("{}.burst.type{i}", shop.namespace);
        shop.publish(&Event::new(subject, format!(r#"{{"id":{i}}}"#))).await;
    }
    // Once the last one is delivered, the others have been looked at.
    shop.world.wait_ready(&shop.namespace, "subscriptions", "all").await.unwrap();
    let last = r#"{"id":-1}"#;
    shop.publish(&Event::new(format!("{}.burst.type0", shop.namespace), last)).await;
    wait_for("the last event", SOON, async || {
        anyhow::ensure!(shop.receiver.requests("/all").iter().any(|request| request.body == last));
        Ok(())
    })
    .await
    .unwrap();
    let uid = producer["metadata"]["uid"].as_str().unwrap().to_owned();
    let jetstream = shop.world.nats.jetstream(User::Admin).await.unwrap();
    let stream = jetstream.get_stream(DEAD_LETTER_STREAM).await.unwrap();
    let letter = stream.get_last_raw_message_by_subject(&dead_event(&uid.try_into().unwrap())).await;
    assert!(letter.is_err(), "{:?}", letter.map(|letter| letter.headers));

    // Now it is enforced: an event of a type without a schema is dead.
    shop.publish(&Event::new(format!("{}.burst.broken", shop.namespace), "{}")).await;
    assert_eq!(shop.dead_event("burst").await.0.event.event_type, "broken");
}

/// Has a world of its own: its operator sleeps for a while.
#[tokio::test]
async fn no_event_is_dead_for_want_of_a_schema_that_was_applied_with_its_producer() {
    let _machine = beside().await;
    let world = World::start(Options::default()).await.unwrap();
    let with = |shop: &Shop<'_>| {
        let mut objects = schemas(shop);
        // One that is refused keeps nobody waiting.
        let broken = json!({ "type": "nothing" });
        let spec = json!({ "producerRef": { "name": "burst" } });
        objects.push(schema(shop, "broken", "broken", &[("1", broken)], spec.clone()));
        objects.push(producer(shop, "Enforce"));
        objects.push(shop.subscription("all", &[">"], spec));
        objects
    };
    let shop = Shop::open(&world, json!({})).await;
    none_is_dead(&shop, &with(&shop)).await;

    // And one that was there, and enforced nothing.
    let shop = Shop::open(&world, json!({})).await;
    apply(&shop, &[producer(&shop, "Ignore")]).await;
    shop.world.wait_ready(&shop.namespace, "producers", "burst").await.unwrap();
    none_is_dead(&shop, &with(&shop)).await;
}
