//! Schemas and events name URLs and files; none of them is touched.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;

use super::{declare, refused, schema, validation};
use crate::shop::shared;

/// A named pipe: opening it to read is noticed, even if nothing is read.
struct Canary {
    path: PathBuf,
    opened: Arc<AtomicUsize>,
}

impl Canary {
    fn new(folder: PathBuf) -> Self {
        let path = folder.join("canary.json");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let opened = Arc::new(AtomicUsize::new(0));
        let (pipe, count) = (path.clone(), opened.clone());
        std::thread::spawn(move || {
            // Waits until someone reads.
            while std::fs::OpenOptions::new().write(true).open(&pipe).is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { path, opened }
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn nothing_outside_the_document_is_touched() {
    let (shop, _machine) = shared().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/schema.json", listener.local_addr().unwrap());
    let touched = tokio::spawn(async move { listener.accept().await });
    let folder = tempfile(&shop.namespace);
    let canary = Canary::new(folder.clone());
    let file = format!("file://{}", canary.path.display());
    let relative = format!("{url}/../other.json");
    for (i, (external, place)) in [
        (json!({ "$ref": url }), "/$ref"),
        (json!({ "properties": { "a": { "$ref": format!("{url}#/a") } } }), "/properties/a/$ref"),
        (json!({ "$schema": url }), "/$schema"),
        (json!({ "$defs": { "a": { "$id": url, "$ref": "b" } } }), "/$defs/a/$ref"),
        (json!({ "$id": relative, "$ref": "other.json" }), "/$ref"),
        (json!({ "items": { "$dynamicRef": url } }), "/items/$dynamicRef"),
        (json!({ "$vocabulary": { url.as_str(): true } }), "/$vocabulary"),
        (json!({ "$ref": file }), "/$ref"),
        (json!({ "$schema": file }), "/$schema"),
        (json!({ "$id": file, "$ref": "canary.json#/a" }), "/$ref"),
        (json!({ "$ref": canary.path.display().to_string() }), "/$ref"),
        (json!({ "pattern": "^(?=a)" }), "/pattern"),
    ]
    .into_iter()
    .enumerate()
    {
        let accepted =
            refused(&shop, &schema(&shop, &format!("s{i}"), &format!("t{i}"), &[("1", external)], json!({}))).await;
        let message = accepted["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("Version 1: {place}: ")), "{message}");
    }
    // An absolute $id is a name, and a uri, too.
    let own = |id: &str| json!({ "$id": id, "$ref": "#/$defs/a", "$defs": { "a": true } });
    for (kind, id) in [("named", &url), ("filed", &file)] {
        declare(&shop, &schema(&shop, kind, kind, &[("1", own(id))], json!({}))).await;
    }
    validation(&shop, "Enforce").await;
    shop.subscribe("all", &[">"], json!({})).await;
    for (kind, uri) in [("named", &url), ("filed", &file)] {
        shop.publish(&shop.event(kind, "{}").header("ce-dataschema", uri)).await;
    }
    shop.requests("all", 2).await;
    tokio::time::timeout(Duration::from_millis(500), touched).await.unwrap_err();
    assert_eq!(canary.opened(), 0);
    // The canary sings.
    tokio::task::spawn_blocking(move || {
        drop(std::fs::File::open(&canary.path).unwrap());
        while canary.opened() == 0 {
            std::thread::yield_now();
        }
    })
    .await
    .unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempfile(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("hookwright-e2e-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
