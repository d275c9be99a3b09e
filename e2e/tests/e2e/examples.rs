//! Every file of `examples/` is accepted by a real API server, and some are exercised here.

use std::path::{Path, PathBuf};

use hookwright_e2e::{Event, workspace};
use serde_json::{Value, json};

use crate::behind::delivered;
use crate::shop::{SOON, plane, shared};

#[tokio::test]
async fn the_api_server_accepts_every_example() {
    let (plane, _machine) = plane().await;
    for folder in std::fs::read_dir(workspace().join("examples")).unwrap() {
        let folder = folder.unwrap().path();
        let applied = plane.kubectl(&["apply", "-f", &folder.to_string_lossy()]).await.unwrap();
        let files = std::fs::read_dir(&folder).unwrap().filter_map(Result::ok);
        let files = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "yaml")).count();
        assert!(files > 0 && applied.lines().count() >= files, "{}: {applied}", folder.display());
    }
}

/// What `examples/suspend` and `examples/start-from` deliver: what was published before, and after they were applied.
#[tokio::test]
async fn what_waits_and_what_came_before_is_delivered_as_the_examples_say() {
    let (shop, _machine) = shared().await;
    let plane = &shop.world.control_plane;
    for (name, its_own, before, receivers) in [
        ("suspend", "shop-suspend", 0, &[("billing", "shop", 2)][..]),
        ("start-from", "shop-history", 3, &[("audit", "audit", 5), ("reporting", "reporting", 5)]),
    ] {
        let namespace = shop.world.namespace(name).await.unwrap();
        let file = workspace().join(format!("examples/{name}/{name}.yaml"));
        let mut text = std::fs::read_to_string(file).unwrap().replace(its_own, &namespace);
        for (path, host, _) in receivers {
            let url = shop.receiver.url(&format!("/{path}"));
            text = text.replace(&format!("https://{host}.example.com/hooks"), &url);
        }
        let mut objects: Vec<Value> =
            text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect();
        let subscriptions = objects.split_off(2);
        let publish = async |n: usize| {
            for _ in 0..n {
                shop.publish(&Event::new(format!("{namespace}.events.order.created"), "{}")).await;
            }
        };
        plane.apply_json(&objects[1]).await.unwrap();
        shop.world.wait_ready(&namespace, "producers", "orders").await.unwrap();
        publish(before).await;
        for mut object in subscriptions {
            plane.apply_json(&object).await.unwrap();
            let named = object["metadata"]["name"].as_str().unwrap().to_owned();
            shop.world.wait_ready(&namespace, "subscriptions", &named).await.unwrap();
            if object["spec"]["suspend"] == true {
                publish(2).await;
                let waits = |status: &Value| status["delivery"]["behind"]["events"] == 2;
                shop.world.wait_status(&namespace, &named, "suspended", SOON, waits).await.unwrap();
                assert_eq!(shop.receiver.count(&format!("/{named}")), 0);
                object["spec"]["suspend"] = json!(false);
                plane.apply_json(&object).await.unwrap();
            }
        }
        if before > 0 {
            publish(2).await;
        }
        for (path, _, events) in receivers {
            delivered(&shop, &format!("/{path}"), *events).await;
            assert_eq!(shop.deliveries(&format!("/{path}")).len(), *events, "{path}");
        }
    }
}

/// Every command in a document that publishes does so as the user `app`, who reads answers under its own prefix only; and
/// names Subscriptions so that no other kind is meant.
#[test]
fn the_commands_in_documents_work_as_they_are() {
    let mut files = vec![workspace().join("README.md")];
    for folder in ["docs/reference", "docs/operations", "examples", "manifests"] {
        files.extend(documents(&workspace().join(folder)));
    }
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.lines() {
            let publishes = line.starts_with("nats ") && (line.contains(" pub ") || line.contains(" publish "));
            assert!(!publishes || line.contains("--inbox-prefix _INBOX_app"), "{}: {line}", file.display());
            assert!(!line.contains(" subscription/"), "{}: {line}", file.display());
        }
    }
}

/// The documents below a folder.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = paths.flat_map(|path| if path.is_dir() { documents(&path) } else { vec![path] });
    below.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}
