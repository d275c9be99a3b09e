//! EventSchemas: what is refused and where, and what becomes of events that are not as their schema says.

mod counts;
mod fairness;
mod outside;
mod together;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_e2e::{Event, wait_for};
use serde_json::{Value, json};

use crate::shop::{EVENT_SCHEMAS, SOON, Shop, condition, merge, shared};

/// An EventSchema of `orders` for the type, with these versions; `spec` is laid over it.
pub(crate) fn schema(shop: &Shop<'_>, name: &str, kind: &str, versions: &[(&str, Value)], spec: Value) -> Value {
    let versions: Vec<Value> =
        versions.iter().map(|(v, schema)| json!({ "version": v, "jsonSchema": schema })).collect();
    let mut object = json!({
        "apiVersion": "hookwright.dev/v1alpha1",
        "kind": "EventSchema",
        "metadata": { "name": name, "namespace": shop.namespace },
        "spec": { "producerRef": { "name": "orders" }, "type": kind, "versions": versions },
    });
    merge(&mut object["spec"], spec);
    object
}

/// Applies an EventSchema and waits until it is Ready.
pub(crate) async fn declare(shop: &Shop<'_>, object: &Value) {
    shop.world.control_plane.apply_json(object).await.unwrap();
    let name = object["metadata"]["name"].as_str().unwrap();
    shop.world.control_plane.wait_ready(&shop.namespace, "eventschemas", name, SOON).await.unwrap();
}

/// Applies it, and waits until this generation is refused. Returns the condition Accepted.
async fn refused(shop: &Shop<'_>, object: &Value) -> Value {
    shop.world.control_plane.apply_json(object).await.unwrap();
    let name = object["metadata"]["name"].as_str().unwrap();
    let is_refused = |object: &Value| {
        let accepted = condition(&object["status"], "Accepted");
        accepted["status"] == "False" && accepted["observedGeneration"] == object["metadata"]["generation"]
    };
    let plane = &shop.world.control_plane;
    let found = plane.wait_until(&shop.namespace, "eventschemas", name, "refused", SOON, is_refused).await.unwrap();
    assert_eq!(condition(&found["status"], "Ready")["status"], "False");
    condition(&found["status"], "Accepted").clone()
}

async fn validation(shop: &Shop<'_>, mode: &str) {
    let patch = json!({ "spec": { "validation": mode } }).to_string();
    let plane = &shop.world.control_plane;
    let arguments = ["patch", "-n", &shop.namespace, "producers.hookwright.dev/orders", "--type=merge", "-p", &patch];
    plane.kubectl(&arguments).await.unwrap();
    shop.world.wait_ready(&shop.namespace, "producers", "orders").await.unwrap();
}

async fn violations(shop: &Shop<'_>, n: i64) -> Value {
    let plane = &shop.world.control_plane;
    // One that comes again after a dispatcher was slow counts again.
    let counted = |object: &Value| object["status"]["violations"].as_i64().is_some_and(|found| found >= n);
    plane.wait_until(&shop.namespace, "producers", "orders", "counted", SOON, counted).await.unwrap()
}

fn order() -> Value {
    json!({ "type": "object", "required": ["id"], "properties": { "id": { "type": "integer" } } })
}

#[tokio::test]
async fn what_can_not_be_accepted_says_where_and_what_was_published_stays() {
    let (shop, _machine) = shared().await;
    let broken = json!({ "type": "object", "properties": { "id": { "type": "integr" } } });
    let accepted = refused(&shop, &schema(&shop, "created", "order.created", &[("1.0", broken)], json!({}))).await;
    assert_eq!(accepted["reason"], "Invalid");
    let message = accepted["message"].as_str().unwrap();
    assert!(message.starts_with("Version 1.0: /properties/id/type: not a valid JSON Schema"), "{message}");

    // An edit heals it: nothing was published.
    let good = schema(&shop, "created", "order.created", &[("1.0", order())], json!({}));
    declare(&shop, &good).await;
    let mut narrower = order();
    narrower["required"] = json!(["id", "total"]);
    let minors = [("1.0", order()), ("1.1", narrower.clone())];
    let accepted = refused(&shop, &schema(&shop, "created", "order.created", &minors, json!({}))).await;
    assert_eq!(accepted["reason"], "IncompatibleVersion");
    let message = accepted["message"].as_str().unwrap();
    assert!(message.starts_with("Version 1.1 is not compatible with 1.0: /required: \"total\""), "{message}");

    // Nor in place of it.
    let next = [("1.1", narrower.clone())];
    let accepted = refused(&shop, &schema(&shop, "created", "order.created", &next, json!({}))).await;
    assert_eq!(accepted["reason"], "IncompatibleVersion");

    let edited = [("1.0", narrower)];
    let accepted = refused(&shop, &schema(&shop, "created", "order.created", &edited, json!({}))).await;
    assert_eq!(accepted["reason"], "VersionPublished");

    // What was published is in force meanwhile.
    validation(&shop, "Enforce").await;
    shop.subscribe("all", &[">"], json!({})).await;
    shop.publish(&shop.event("order.created", r#"{"id":1}"#)).await;
    assert_eq!(shop.requests("all", 1).await[0].body, r#"{"id":1}"#);

    let rival = schema(&shop, "rival", "order.created", &[("1", json!({}))], json!({}));
    assert_eq!(refused(&shop, &rival).await["reason"], "TypeConflict");
    let plane = &shop.world.control_plane;
    plane.kubectl(&["delete", "-n", &shop.namespace, "eventschemas.hookwright.dev/created"]).await.unwrap();
    plane.wait_ready(&shop.namespace, "eventschemas", "rival", SOON).await.unwrap();
    let found = plane.get(&shop.namespace, "eventschemas", "rival").await.unwrap();
    assert_eq!((&found["status"]["latest"], &found["status"]["versions"][0]["version"]), (&json!("1"), &json!("1")));
}

#[tokio::test]
async fn enforced_violations_become_dead_letters_with_the_place_and_the_others_are_delivered() {
    let (shop, _machine) = shared().await;
    declare(&shop, &schema(&shop, "created", "order.created", &[("1.0", order())], json!({}))).await;
    validation(&shop, "Enforce").await;
    shop.subscribe("all", &[">"], json!({})).await;
    shop.publish(&shop.event("order.created", r#"{"id":1}"#)).await;
    shop.publish(&shop.event("order.created", r#"{"id":"HUSH"}"#)).await;
    let (letter, body) = shop.dead_event("orders").await;
    assert_eq!((letter.reason, letter.subscription), (DeadLetterReason::SchemaViolation, None));
    assert_eq!(letter.event.event_type, "order.created");
    assert_eq!(letter.detail.unwrap(), "/id: violates: type (schema version 1.0)");
    assert_eq!(body, r#"{"id":"HUSH"}"#);

    let next = async |body: &str, event: Event, wanted: &str| {
        shop.publish(&event).await;
        wait_for(&format!("a dead letter for {body}"), SOON, async || {
            let (letter, kept) = shop.dead_event("orders").await;
            let detail = letter.detail.unwrap();
            anyhow::ensure!(kept == body && detail.contains(wanted), "{kept}: {detail}");
            Ok(())
        })
        .await
        .unwrap();
    };
    next("not json", shop.event("order.created", "not json"), "be read as JSON").await;
    next("{}", shop.event("order.undeclared", "{}"), "no EventSchema").await;
    let structured = r#"{"specversion":"1.0","id":"1","source":"/s","type":"order.created","data":{"id":null}}"#;
    let subject = format!("{}.events.x", shop.namespace);
    let event = Event::new(&subject, structured).header("content-type", "application/cloudevents+json");
    next(structured, event, "/id: violates: type").await;

    shop.publish(&shop.event("order.created", r#"{"id":2}"#)).await;
    let got = shop.requests("all", 2).await;
    let bodies: Vec<_> = got.iter().map(|request| request.body.clone()).collect();
    assert!(bodies.iter().any(|body| body == r#"{"id":1}"#) && bodies.iter().any(|body| body == r#"{"id":2}"#));
    let producer = violations(&shop, 4).await;
    assert_eq!(producer["status"]["schemas"], 1);
    assert_eq!(shop.receiver.count("/all"), 2);
}

#[tokio::test]
async fn an_event_is_held_against_the_version_that_it_names() {
    let (shop, _machine) = shared().await;
    let of = |kind: &str| json!({ "type": "object", "properties": { "id": { "type": kind } } });
    let versions = [("1.9", of("integer")), ("1.10", of("number")), ("2", of("string"))];
    let mut object = schema(&shop, "created", "order.created", &versions, json!({}));
    object["spec"]["versions"][0]["uri"] = json!("https://schemas.invalid/order/1.9");
    declare(&shop, &object).await;
    validation(&shop, "Enforce").await;
    shop.subscribe("all", &[">"], json!({})).await;
    let event = |body: &str| shop.event("order.created", body.to_owned());
    let uri = ("ce-dataschema", "https://schemas.invalid/order/1.9");
    // A header decides; without any, the highest version by number.
    shop.publish(&event(r#"{"id":"a"}"#)).await;
    shop.publish(&event(r#"{"id":1.5}"#).header("ce-schemaversion", "1.10.0")).await;
    shop.publish(&event(r#"{"id":3}"#).header(uri.0, uri.1)).await;
    shop.publish(&event(r#"{"id":2.5}"#).header(uri.0, uri.1).header("ce-schemaversion", "1.10")).await;
    shop.requests("all", 4).await;
    for (wrong, wanted) in [
        (event(r#"{"id":1}"#), "(schema version 2)"),
        (event(r#"{"id":1.5}"#).header("ce-schemaversion", "1.9"), "(schema version 1.9)"),
        (event(r#"{"id":3.5}"#).header(uri.0, uri.1), "(schema version 1.9)"),
        (event("{}").header("ce-schemaversion", "3"), "lacks"),
    ] {
        shop.publish(&wrong).await;
        wait_for(&format!("a dead letter that says {wanted}"), SOON, async || {
            let detail = shop.dead_event("orders").await.0.detail.unwrap();
            anyhow::ensure!(detail.contains(wanted), "{detail}");
            Ok(())
        })
        .await
        .unwrap();
    }
    violations(&shop, 4).await;
    assert_eq!(shop.receiver.count("/all"), 4);
}

#[tokio::test]
async fn a_producer_has_so_many_schemas_and_the_next_one_takes_the_place_of_one_that_goes() {
    let (shop, _machine) = shared().await;
    let plane = &shop.world.control_plane;
    let named = |name: &str| schema(&shop, name, name, &[("1", order())], json!({}));
    for i in 0..EVENT_SCHEMAS {
        plane.apply_json(&named(&format!("s{i}"))).await.unwrap();
    }
    for i in 0..EVENT_SCHEMAS {
        plane.wait_ready(&shop.namespace, "eventschemas", &format!("s{i}"), SOON).await.unwrap();
    }
    for late in ["late", "later"] {
        let accepted = refused(&shop, &named(late)).await;
        assert_eq!(accepted["reason"], "TooManyEventSchemas");
        assert!(accepted["message"].as_str().unwrap().contains("has 20 other"), "{accepted}");
    }
    // What is in force can be edited.
    declare(&shop, &schema(&shop, "s7", "s7", &[("1", order()), ("2", json!({}))], json!({}))).await;
    plane.kubectl(&["delete", "-n", &shop.namespace, "eventschemas.hookwright.dev/s3"]).await.unwrap();
    let accepted = async |name: &str| {
        let object = plane.get(&shop.namespace, "eventschemas", name).await?;
        anyhow::Ok(condition(&object["status"], "Accepted")["status"] == "True")
    };
    wait_for("one of the two to take the place", SOON, async || {
        let (late, later) = (accepted("late").await?, accepted("later").await?);
        anyhow::ensure!(late != later, "late: {late}, later: {later}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_schema_may_come_before_its_producer_and_goes_with_nothing_left() {
    let (shop, _machine) = shared().await;
    let late = schema(&shop, "late", "t", &[("1", json!({}))], json!({ "producerRef": { "name": "late" } }));
    let plane = &shop.world.control_plane;
    plane.apply_json(&late).await.unwrap();
    let missing = |object: &Value| condition(&object["status"], "ResolvedRefs")["reason"] == "ProducerNotFound";
    plane.wait_until(&shop.namespace, "eventschemas", "late", "unresolved", SOON, missing).await.unwrap();
    shop.produce("late", "late", json!({})).await;
    plane.wait_ready(&shop.namespace, "eventschemas", "late", SOON).await.unwrap();
    let columns = plane.kubectl(&["get", "hschema", "-n", &shop.namespace]).await.unwrap();
    assert!(columns.contains("LATEST") && columns.contains("late"), "{columns}");
    plane.kubectl(&["delete", "-n", &shop.namespace, "eventschemas.hookwright.dev/late"]).await.unwrap();
}
