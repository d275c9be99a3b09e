//! Filters of each dialect, from their examples: who gets what, what status says, and what is refused.

use std::collections::HashSet;
use std::fs;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_e2e::{Event, workspace};
use serde_json::{Value, json};

use crate::schemas::{declare, schema};
use crate::shop::{condition, shared};

/// The filters of an example.
fn example(name: &str) -> Value {
    let file = workspace().join(format!("examples/filters/subscription-{name}.yaml"));
    let object: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    object["spec"]["filters"].clone()
}

#[tokio::test]
async fn each_dialect_gets_what_its_example_says() {
    let (shop, _machine) = shared().await;
    let namespace = &shop.namespace;
    // The files beside them tell the namespace and the Producer.
    let files = fs::read_dir(workspace().join("examples/filters")).unwrap().map(|file| file.unwrap().file_name());
    let files: HashSet<String> = files
        .filter_map(|file| Some(file.to_str()?.strip_prefix("subscription-")?.strip_suffix(".yaml")?.to_owned()))
        .collect();
    // Each event and who gets it: by binary mode, and by structured mode.
    let event = |kind: &str, attributes: &[(&str, &str)], data: &Value| {
        let mut binary =
            Event::cloud_event(format!("{namespace}.events.x"), kind, "order.created", "/shop/us", data.to_string());
        for (name, value) in attributes {
            let attribute = format!("ce-{name}");
            binary = if *name == "source" {
                Event::cloud_event(format!("{namespace}.events.x"), kind, "order.created", value, data.to_string())
            } else {
                binary.header(&attribute, value)
            };
        }
        let mut all =
            json!({ "specversion": "1.0", "id": kind, "type": "order.created", "source": "/shop/us", "data": data });
        attributes.iter().for_each(|(name, value)| all[*name] = json!(value));
        let structured = Event::new(format!("{namespace}.events.x"), all.to_string());
        [binary, structured.header("content-type", "application/cloudevents+json")]
    };
    let lines = |count: i32| json!({ "total": 120, "lines": [{ "sku": "A-1", "count": count }] });
    let table = [
        (
            "eu",
            event("eu", &[("source", "/shop/eu/1"), ("tenantid", "acme")], &json!({})),
            &["tenant-acme", "prefix", "all"][..],
        ),
        (
            "invoice",
            event("invoice", &[("subject", "7.invoice"), ("tenantid", "globex")], &json!({})),
            &["tenant-globex", "suffix", "any", "not"],
        ),
        (
            "urgent",
            event("urgent", &[("tenantid", "acme"), ("priority", "5")], &lines(1)),
            &["tenant-acme", "sql", "jmespath"],
        ),
        (
            "many",
            event("many", &[("tenantid", "globex"), ("priority", "2")], &lines(2)),
            &["tenant-globex", "any", "not", "jmespath", "cel"],
        ),
    ];
    let expected = |name: &str| {
        table.iter().filter(|(_, _, who)| who.contains(&name)).map(|(kind, _, _)| *kind).collect::<HashSet<_>>()
    };
    for name in &files {
        assert!(!expected(name).is_empty(), "no event shows what {name} gets");
        shop.subscribe(name, &["order.*"], json!({ "filters": example(name) })).await;
    }
    shop.subscribe("marker", &["marker"], json!({})).await;
    for (_, events, _) in &table {
        shop.publish_all(events).await;
    }
    shop.publish(&shop.event("marker", "{}")).await;
    shop.requests("marker", 1).await;
    for name in &files {
        let want = expected(name);
        let got = shop.requests(name, 2 * want.len()).await;
        let kind = |request: &hookwright_e2e::Received| match request.header("ce-id") {
            "" => serde_json::from_slice::<Value>(&request.body).unwrap()["id"].as_str().unwrap().to_owned(),
            id => id.to_owned(),
        };
        let kinds: HashSet<String> = got.iter().map(|request| kind(request)).collect();
        assert_eq!(kinds, want.iter().map(|kind| (*kind).to_owned()).collect(), "{name}");
        assert_eq!(got.len(), 2 * want.len(), "{name} in both modes, once each");
    }
    let counted =
        |filters: &Value, matched: i64, out: &Value| filters["matched"] == matched && filters["filteredOut"] == *out;
    let status =
        shop.status("cel", "its filters to be counted", |status| counted(&status["filters"], 2, &json!([6]))).await;
    assert_eq!(condition(&status, "FiltersHealthy")["status"], "True", "{status}");
    // The index passes tenants over by the events of others, which are counted, too.
    let passed_over = |status: &Value| counted(&status["filters"], 4, &json!([4]));
    shop.status("tenant-acme", "the events of others to be counted", passed_over).await;
    let status = shop.status("sql", "its filters to be counted", |status| status["filters"]["matched"] == 2).await;
    assert_eq!(condition(&status, "FiltersHealthy")["status"], "True", "{status}");
}

#[tokio::test]
async fn a_major_version_alone() {
    let (shop, _machine) = shared().await;
    let versions = [("1.0", json!({})), ("1.1", json!({})), ("2.0", json!({}))];
    declare(&shop, &schema(&shop, "created", "order.created", &versions, json!({}))).await;
    let types =
        |version: &str| json!({ "eventTypes": [{ "type": "order.*", "version": version }, { "type": "marker" }] });
    shop.subscribe("one", &[], types("1")).await;
    shop.subscribe("two", &[], types("2")).await;
    let mut acme = types("1");
    acme["filters"] = json!([{ "exact": { "tenantid": "acme" } }]);
    shop.subscribe("acme", &[], acme).await;
    shop.publish(&shop.event("order.created", "1").header("ce-schemaversion", "1.1")).await;
    shop.publish(&shop.event("order.created", "2")).await;
    shop.publish(&shop.event("order.other", "no schema")).await;
    shop.publish(&shop.event("marker", "marker")).await;
    for (name, want) in [("one", ["1", "marker"]), ("two", ["2", "marker"])] {
        let got = shop.requests(name, 2).await;
        let bodies: HashSet<&[u8]> = got.iter().map(|request| &request.body[..]).collect();
        assert_eq!(bodies, want.iter().map(|body| body.as_bytes()).collect(), "{name}");
    }
    // The index passes over the event of version 1 and the marker. An event of another version is not selected.
    let passed_over = |status: &Value| status["filters"]["filteredOut"] == json!([2]);
    shop.status("acme", "what is passed over to be counted", passed_over).await;
}

/// A Subscription with expensive filters goes behind and gets everything, and the others don't wait for it.
#[tokio::test]
async fn filters_that_take_longer_than_events_to_come_keep_no_other_subscription_waiting() {
    let (shop, _machine) = shared().await;
    let list: Vec<i32> = vec![1; 5000];
    let uid = shop.subscribe("slow", &["order.*"], json!({ "filters": [{ "cel": "data.list.all(a, a > 0)" }] })).await;
    shop.subscribe("quick", &["order.*"], json!({})).await;
    for n in 0..150 {
        shop.publish(&shop.event("order.created", json!({ "n": n, "list": list }).to_string())).await;
    }
    shop.requests("quick", 150).await;
    shop.requests("slow", 150).await;
    let logs = shop.world.dispatchers.iter().map(|dispatcher| dispatcher.logs()).collect::<String>();
    let went_behind = logs.lines().any(|line| line.contains(&uid) && line.contains("FiltersSlow"));
    assert!(went_behind, "they were evaluated on the way of the others");
}

#[tokio::test]
async fn what_fails_is_no_match_and_told_and_what_costs_too_much_is_a_dead_letter() {
    let (shop, _machine) = shared().await;
    let list: Vec<i32> = (0..5000).collect();
    let costly = json!([{ "cel": "data.list.all(a, data.list.exists(b, a == b))" }]);
    shop.subscribe("failing", &["order.*"], json!({ "filters": [{ "cel": "data.total > 3" }] })).await;
    let costly = shop.subscribe("costly", &["order.*"], json!({ "filters": costly })).await;
    shop.subscribe("all", &["order.*"], json!({})).await;
    shop.publish(&shop.event("order.created", json!({ "list": list }).to_string()).message_id("e-1")).await;
    shop.requests("all", 1).await;
    let (letter, _) = shop.dead_letter(&costly).await;
    assert_eq!(letter.reason, DeadLetterReason::FilterTooExpensive);
    let failed = |status: &Value| condition(status, "FiltersHealthy")["reason"] == "FilterFailed";
    let status = shop.status("failing", "the failure to be told", failed).await;
    let message = condition(&status, "FiltersHealthy")["message"].as_str().unwrap();
    assert!(message.contains("NoSuchKey") && message.contains("e-1"), "{message}");
    assert_eq!((shop.receiver.count("/failing"), shop.receiver.count("/costly")), (0, 0));

    // A filter that doesn't compile says where, and what was sent before is sent no longer.
    let broken = shop.subscription("failing", &["order.*"], json!({ "filters": [{ "sql": "tenantid = " }] }));
    shop.world.control_plane.apply_json(&broken).await.unwrap();
    let refused = |status: &Value| condition(status, "Accepted")["reason"] == "InvalidFilter";
    let status = shop.status("failing", "the filter to be refused", refused).await;
    let message = condition(&status, "Accepted")["message"].as_str().unwrap();
    assert_eq!(message, "filters[0].sql: expected a value, at line 1, column 12:\ntenantid = \n           ^");
    let fixed = shop.subscription("failing", &["order.*"], json!({ "filters": [{ "cel": "has(data.list)" }] }));
    shop.world.control_plane.apply_json(&fixed).await.unwrap();
    shop.status("failing", "the filter to be right", |status| condition(status, "Ready")["status"] == "True").await;
    shop.publish(&shop.event("order.created", "{\"list\":[]}")).await;
    assert_eq!(shop.requests("failing", 1).await[0].body.as_ref(), b"{\"list\":[]}");
}
