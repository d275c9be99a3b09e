//! EventSchemas and the Producer that enforces them, applied together.

use hookwright_e2e::wait_for;
use serde_json::{Value, json};

use super::{order, schema};
use crate::shop::{SOON, Shop, condition, merge, shared};

/// Enough that putting them in place takes longer than making the Producer ready.
const TYPES: usize = 50;

/// EventSchemas of the types `<prefix>0` and on for a Producer, each with a version that is large enough to be work.
fn schemas(shop: &Shop<'_>, producer: &str, prefix: &str) -> Vec<Value> {
    let large = |i: usize| {
        let names =
            (0..30).map(|n| (format!("p{n}"), json!({ "type": "string", "pattern": format!("^[a-z]{{{n},40}}$") })));
        let mut schema = order();
        merge(&mut schema["properties"], names.collect());
        schema["description"] = json!(format!("Event {i}."));
        schema
    };
    let one = |i: usize| {
        let spec = json!({ "producerRef": { "name": producer } });
        schema(shop, &format!("{prefix}{i}"), &format!("{prefix}{i}"), &[("1.0", large(i)), ("2.0", order())], spec)
    };
    (0..TYPES).map(one).collect()
}

fn producer(shop: &Shop<'_>, name: &str, validation: &str) -> Value {
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

/// Publishes one event of each type, the moment that the Producer is Ready, and sees each of them delivered.
async fn each_is_delivered(shop: &Shop<'_>, name: &str, prefix: &str, path: &str) {
    shop.world.wait_ready(&shop.namespace, "producers", name).await.unwrap();
    for i in 0..TYPES {
        let subject = format!("{}.{name}.{prefix}{i}", shop.namespace);
        shop.publish(&hookwright_e2e::Event::new(subject, format!(r#"{{"id":{i}}}"#))).await;
    }
    shop.requests(path, TYPES).await;
    let found = shop.world.control_plane.get(&shop.namespace, "producers", name).await.unwrap();
    assert_eq!(found["status"]["violations"], Value::Null);
}

#[tokio::test]
async fn no_event_is_dead_for_want_of_a_schema_that_was_applied_with_its_producer() {
    let (shop, _machine) = shared().await;
    let mut objects = schemas(&shop, "burst", "a");
    // One that is refused keeps nobody waiting.
    let broken = json!({ "type": "nothing" });
    objects.push(schema(&shop, "broken", "broken", &[("1", broken)], json!({ "producerRef": { "name": "burst" } })));
    objects.push(producer(&shop, "burst", "Enforce"));
    objects.push(shop.subscription("all", &[">"], json!({ "producerRef": { "name": "burst" } })));
    apply(&shop, &objects).await;
    shop.world.wait_ready(&shop.namespace, "subscriptions", "all").await.unwrap();
    each_is_delivered(&shop, "burst", "a", "all").await;
}

#[tokio::test]
async fn a_producer_that_turns_to_enforce_waits_for_the_schemas_that_came_with_it() {
    let (shop, _machine) = shared().await;
    apply(&shop, &[producer(&shop, "burst", "Ignore")]).await;
    shop.world.wait_ready(&shop.namespace, "producers", "burst").await.unwrap();
    shop.subscribe("all", &[">"], json!({ "producerRef": { "name": "burst" } })).await;
    let mut objects = schemas(&shop, "burst", "a");
    objects.push(producer(&shop, "burst", "Enforce"));
    apply(&shop, &objects).await;
    each_is_delivered(&shop, "burst", "a", "all").await;

    // Now it is enforced, and says so: an event of a type without a schema is dead.
    shop.publish(&hookwright_e2e::Event::new(format!("{}.burst.unknown", shop.namespace), "{}")).await;
    wait_for("a dead letter", SOON, async || {
        let (letter, _) = shop.dead_event("burst").await;
        anyhow::ensure!(letter.event.event_type == "unknown", "{}", letter.event.event_type);
        Ok(())
    })
    .await
    .unwrap();
    let found = shop.world.control_plane.get(&shop.namespace, "producers", "burst").await.unwrap();
    assert_eq!(condition(&found["status"], "Ready")["status"], "True");
}
