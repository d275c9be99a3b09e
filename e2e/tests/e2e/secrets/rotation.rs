//! Keys that take the place of others under load, and that no key or token is written anywhere in the clear.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::jetstream::consumer;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hookwright_core::nats::names::{CONFIG_BUCKET, DEAD_LETTER_STREAM, PARKED_STREAM, dead_delivery};
use hookwright_e2e::{Answer, Component, Options, Signed, User, World, verify_python, wait_for};
use serde_json::{Value, json};

use super::{key, secret};
use crate::shop::{SOON, Shop, beside, condition, shared};

const SIGNING: &str = "whsec_Q0FOQVJZLW9mLXRoZS1zaWduaW5nLWtleS0wMTIzNDU2Nzg5";
const TOKEN: &str = "canary-of-the-token-0123456789";
const MALFORMED: &str = "canary-that-is-no-signing-key-0123456789";

/// Asks for a new key with this value, and waits until these Secrets sign.
async fn rotate(shop: &Shop<'_>, value: &str, secrets: &[&str]) -> Value {
    let annotation = format!("hookwright.dev/rotate-signing-key={value}");
    let command = ["annotate", "-n", &shop.namespace, "--overwrite", "subscriptions.hookwright.dev/keys", &annotation];
    shop.world.control_plane.kubectl(&command).await.unwrap();
    shop.status("keys", "rotated", |status| names(status) == secrets).await
}

fn names(status: &Value) -> Vec<&str> {
    let keys = status["signing"]["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    keys.iter().filter_map(|key| key["secretKeyRef"]["name"].as_str()).collect()
}

async fn generated(shop: &Shop<'_>, name: &str) -> String {
    let secret = shop.world.control_plane.get(&shop.namespace, "secrets", name).await.unwrap();
    assert_eq!(secret["metadata"]["ownerReferences"][0]["name"], "keys");
    String::from_utf8(BASE64_STANDARD.decode(secret["data"]["secret"].as_str().unwrap()).unwrap()).unwrap()
}

/// Publishes until the last request is signed by exactly these of the keys.
async fn signed_by(shop: &Shop<'_>, keys: &[&str], not: &[&str]) {
    let all: Vec<&str> = keys.iter().chain(not).copied().collect();
    wait_for("the keys to sign", SOON, async || {
        shop.publish(&shop.event("order.created", "{}")).await;
        let requests = shop.receiver.requests("/keys");
        let last = requests.last().ok_or_else(|| anyhow::anyhow!("nothing came"))?;
        let signed: Vec<_> = all.iter().map(|key| Signed::new(last, key)).collect();
        let verdicts = verify_python(&shop.world.tools, &signed).await?;
        let ok: Vec<_> = verdicts.iter().map(|verdict| verdict.ok).collect();
        let want: Vec<_> = keys.iter().map(|_| true).chain(not.iter().map(|_| false)).collect();
        anyhow::ensure!(ok == want, "{ok:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_generated_key_is_replaced_and_the_former_one_signs_beside_it() {
    let (shop, _machine) = shared().await;
    shop.subscribe("keys", &[">"], json!({})).await;
    let first = generated(&shop, "keys-signing").await;
    signed_by(&shop, &[&first], &[]).await;
    let status = rotate(&shop, "1", &["keys-signing-1", "keys-signing"]).await;
    assert!(status["signing"]["keys"][0]["signsUntil"].is_null(), "{status}");
    assert!(status["signing"]["keys"][1]["signsUntil"].is_string(), "{status}");
    let second = generated(&shop, "keys-signing-1").await;
    assert_ne!(first, second);
    signed_by(&shop, &[&first, &second], &[]).await;
    // A former key that leaked is taken away at once by deleting its Secret.
    shop.world.control_plane.kubectl(&["delete", "secret", "-n", &shop.namespace, "keys-signing"]).await.unwrap();
    signed_by(&shop, &[&second], &[&first]).await;
}

/// Changes the sealing settings of one process after another, the operator last.
async fn reseal(world: &World, sealing: &Value) {
    let all = world.dispatchers.iter().map(|dispatcher| -> &Component { dispatcher });
    for component in all.chain([&*world.operator as &Component]) {
        component.configure(&json!({ "sealing": sealing })).unwrap();
        component.terminate().await.unwrap();
        component.restart().unwrap();
        component.wait_ready(SOON).await.unwrap();
    }
}

/// The ids of the keys that sealed what is in the config.
async fn key_ids(world: &World) -> anyhow::Result<String> {
    let bucket = world.nats.jetstream(User::Admin).await?.get_key_value(CONFIG_BUCKET).await?;
    let mut found = std::collections::BTreeSet::new();
    let mut keys = futures::TryStreamExt::try_collect::<Vec<String>>(bucket.keys().await?).await?;
    keys.retain(|key| key.starts_with("subscription."));
    for key in keys {
        let text = bucket.get(key).await?.map(|value| String::from_utf8_lossy(&value).into_owned()).unwrap_or_default();
        let ids = text.split("\"keyId\":\"").skip(1).filter_map(|rest| rest.split('"').next());
        found.extend(ids.map(str::to_owned));
    }
    Ok(found.into_iter().collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn the_sealing_key_is_replaced_under_load_and_no_secret_is_written_in_the_clear() {
    let _beside = beside().await;
    let log = json!({ "log": { "filter": "trace" } });
    let operator = json!({ "secretRefresh": "2s", "signingKeyOverlap": "1s", "log": log["log"] });
    let options = Options { dispatchers: 2, operator, dispatcher: log, ..Options::default() };
    let world = World::start(options).await.unwrap();
    let shop = Shop::open(&world, json!({})).await;
    let plane = &world.control_plane;
    for (name, label, data) in [
        ("given", "signing", json!({ "secret": SIGNING })),
        ("token", "endpoint", json!({ "secret": TOKEN })),
        ("malformed", "signing", json!({ "secret": MALFORMED })),
    ] {
        plane.apply_json(&secret(&shop.namespace, name, label, data)).await.unwrap();
    }
    let header = json!([{ "name": "Authorization", "valueFrom": key("token") }]);
    let spec = json!({ "signing": { "keys": [key("given")] }, "endpoint": { "headers": header } });
    shop.subscribe("given", &[">"], spec.clone()).await;
    shop.subscribe("keys", &[">"], json!({})).await;
    // What fails, too, and what is given up or refused.
    let mut failing = spec;
    failing["delivery"] = json!({ "retry": { "maxAttempts": 1 } });
    shop.receiver.answer("/failing", Answer::status(500));
    let failing = shop.subscribe("failing", &["order.failed"], failing).await;
    let refused = json!({ "signing": { "keys": [key("malformed")] } });
    plane.apply_json(&shop.subscription("refused", &[">"], refused)).await.unwrap();
    shop.status("refused", "refused", |status| condition(status, "ResolvedRefs")["reason"] == "SecretInvalid").await;
    shop.publish(&shop.event("order.failed", "{}")).await;
    shop.dead_letter(&failing).await;
    a_reader_reads_dead_letters_and_nothing_else(&world, &failing).await;

    let (old, new) = (world.folder().join("sealing.key"), world.folder().join("sealing-2.key"));
    std::fs::write(&new, BASE64_STANDARD.encode([7; 32])).unwrap();
    let (old, new) = (json!({ "keyId": "k1", "keyFile": old }), json!({ "keyId": "k2", "keyFile": new }));
    let both = |first: &Value, other: &Value| {
        let mut sealing = first.clone();
        sealing["accepted"] = json!([other]);
        sealing
    };
    let done = AtomicBool::new(false);
    let load = async {
        let mut published = 1;
        while !done.load(Ordering::Relaxed) {
            shop.publish(&shop.event("order.created", format!("{{\"n\":{published}}}"))).await;
            published += 1;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        published
    };
    let replace = async {
        reseal(&world, &both(&old, &new)).await;
        assert_eq!(key_ids(&world).await.unwrap(), "k1");
        reseal(&world, &both(&new, &old)).await;
        let what = "all to be sealed with the new key";
        wait_for(what, SOON, async || {
            let ids = key_ids(&world).await?;
            anyhow::ensure!(ids == "k2", "{ids}");
            Ok(())
        })
        .await
        .unwrap();
        reseal(&world, &{
            let mut last = new.clone();
            last["accepted"] = Value::Null;
            last
        })
        .await;
        rotate(&shop, "1", &["keys-signing-1"]).await;
        done.store(true, Ordering::Relaxed);
    };
    let (published, ()) = tokio::join!(load, replace);
    for path in ["/given", "/keys"] {
        wait_for("all to arrive", SOON, async || {
            let arrived = shop.deliveries(path).len();
            anyhow::ensure!(arrived == published, "{arrived} of {published} at {path}");
            Ok(())
        })
        .await
        .unwrap();
    }
    let signed: Vec<_> = shop.receiver.requests("/given").iter().map(|request| Signed::new(request, SIGNING)).collect();
    let verdicts = verify_python(&world.tools, &signed).await.unwrap();
    assert!(verdicts.iter().all(|verdict| verdict.ok));
    let gone = plane.get(&shop.namespace, "secrets", "keys-signing").await;
    assert!(gone.is_err(), "the Secret of the former key is still there");

    let generated = generated(&shop, "keys-signing-1").await;
    nothing_in_the_clear(&shop, &[SIGNING, TOKEN, MALFORMED, &generated]).await;
}

async fn a_reader_reads_dead_letters_and_nothing_else(world: &World, subscription: &str) {
    let mut reader = world.nats.jetstream(User::Reader).await.unwrap();
    let letters = reader.get_stream(DEAD_LETTER_STREAM).await.unwrap();
    let subject = dead_delivery(&subscription.to_owned().try_into().unwrap());
    let letter = letters.get_last_raw_message_by_subject(&subject).await.unwrap();
    assert_eq!(letter.payload, "{}");
    reader.get_stream(PARKED_STREAM).await.unwrap();
    // What is forbidden is not answered.
    reader.set_timeout(std::time::Duration::from_secs(1));
    assert!(letters.create_consumer(consumer::pull::Config::default()).await.is_err());
    assert!(letters.delete_message(letter.sequence).await.is_err());
    assert!(reader.get_key_value(CONFIG_BUCKET).await.is_err());
    assert!(reader.publish(subject, "".into()).await.unwrap().await.is_err());
}

/// Looks for secrets in all that the system has written: NATS' files, logs, metrics, Events and objects.
async fn nothing_in_the_clear(shop: &Shop<'_>, secrets: &[&str]) {
    let world = shop.world;
    let mut texts = Vec::new();
    for component in world.dispatchers.iter().map(|dispatcher| -> &Component { dispatcher }).chain([&*world.operator]) {
        texts.push(("metrics".to_owned(), component.metrics().await.unwrap().into_bytes()));
    }
    for kind in ["events", "subscriptions.hookwright.dev", "producers.hookwright.dev"] {
        let text = world.control_plane.kubectl(&["get", kind, "-A", "-o", "json"]).await.unwrap();
        texts.push((kind.to_owned(), text.into_bytes()));
    }
    files(&world.folder().join("nats"), &mut texts);
    for entry in std::fs::read_dir(world.folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            texts.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    assert!(texts.iter().any(|(name, _)| name.ends_with(".blk")), "the files of the streams are among them");
    assert!(texts.iter().any(|(name, text)| name.ends_with("operator.log") && !text.is_empty()));
    let passwords = [User::Operator, User::Dispatcher].map(|user| world.nats.password(user));
    for (name, text) in texts {
        let text = String::from_utf8_lossy(&text);
        let has = |secret: &str| text.contains(secret);
        for secret in secrets {
            let found = has(secret) || has(&BASE64_STANDARD.encode(secret)) || has(secret.trim_start_matches("whsec_"));
            assert!(!found, "{secret} is in {name}");
        }
        if !name.contains("nats/") {
            passwords.iter().for_each(|password| assert!(!has(password), "a password of NATS is in {name}"));
        }
    }
}

fn files(folder: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if let Ok(text) = std::fs::read(&path) {
            into.push((path.display().to_string(), text));
        }
    }
}
