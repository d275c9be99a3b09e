//! Secrets: named when they are missing, used only when labelled, picked up when they change.

mod outdated;
mod rights;
mod rotation;
mod stops;

use hookwright_e2e::{Signed, verify_python};
use serde_json::{Value, json};

use crate::shop::{condition, shared};

const KEY_A: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const KEY_B: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn secret(namespace: &str, name: &str, label: &str, data: Value) -> Value {
    let labels = json!({ "hookwright.dev/use": label });
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "stringData": data,
    })
}

fn key(name: &str) -> Value {
    json!({ "secretKeyRef": { "name": name, "key": "secret" } })
}

#[tokio::test]
async fn a_missing_secret_is_named_and_creating_it_heals() {
    let (shop, _machine) = shared().await;
    let plane = &shop.world.control_plane;
    let spec = json!({ "signing": { "keys": [key("mine")] } });
    plane.apply_json(&shop.subscription("waiting", &[">"], spec)).await.unwrap();
    let unresolved = |status: &Value| condition(status, "ResolvedRefs")["status"] == "False";
    let status = shop.status("waiting", "unresolved", unresolved).await;
    let refs = condition(&status, "ResolvedRefs");
    assert_eq!(refs["reason"], "SecretNotFound");
    assert!(refs["message"].as_str().unwrap().contains("mine"), "{refs}");
    assert_ne!(condition(&status, "Ready")["status"], "True");

    // Not labelled: anyone who may create a Subscription could send any Secret to a URL of theirs.
    plane.apply_json(&secret(&shop.namespace, "mine", "other", json!({ "secret": KEY_A }))).await.unwrap();
    let unlabelled = |status: &Value| condition(status, "ResolvedRefs")["reason"] == "SecretNotLabelled";
    let status = shop.status("waiting", "unlabelled", unlabelled).await;
    let message = condition(&status, "ResolvedRefs")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("hookwright.dev/use=signing"), "{message}");
    let command: Vec<&str> = message.split_once("kubectl ").unwrap().1.split_whitespace().collect();
    let command: Vec<&str> = command.iter().map(|word| word.trim_matches(['`', '"', '\'', '.'])).take(7).collect();
    plane.kubectl(&command).await.unwrap();
    shop.world.wait_ready(&shop.namespace, "subscriptions", "waiting").await.unwrap();

    shop.publish(&shop.event("order.created", r#"{"n":1}"#)).await;
    let got = shop.requests("waiting", 1).await;
    let verdicts = verify_python(&shop.world.tools, &[Signed::new(&got[0], KEY_A)]).await.unwrap();
    assert!(verdicts[0].ok, "{verdicts:?}");
}

#[tokio::test]
async fn all_keys_sign_and_secret_headers_are_sent_and_a_change_is_picked_up() {
    let (shop, _machine) = shared().await;
    let plane = &shop.world.control_plane;
    plane.apply_json(&secret(&shop.namespace, "a", "signing", json!({ "secret": KEY_A }))).await.unwrap();
    let token = |token: &str| secret(&shop.namespace, "token", "endpoint", json!({ "token": token }));
    plane.apply_json(&token("Bearer one")).await.unwrap();
    plane.apply_json(&secret(&shop.namespace, "b", "signing", json!({ "secret": KEY_B }))).await.unwrap();
    let headers = json!([
        { "name": "Authorization", "valueFrom": { "secretKeyRef": { "name": "token", "key": "token" } } },
        { "name": "X-Team", "value": "billing" },
    ]);
    let spec = json!({ "signing": { "keys": [key("a"), key("b")] }, "endpoint": { "headers": headers } });
    shop.subscribe("keys", &[">"], spec).await;
    shop.publish(&shop.event("order.created", r#"{"n":1}"#)).await;
    let got = shop.requests("keys", 1).await;
    assert_eq!((got[0].header("authorization"), got[0].header("x-team")), ("Bearer one", "billing"));
    let signed = [KEY_A, KEY_B].map(|key| Signed::new(&got[0], key));
    let verdicts = verify_python(&shop.world.tools, &signed).await.unwrap();
    assert!(verdicts.iter().all(|verdict| verdict.ok), "{verdicts:?}");

    plane.apply_json(&token("Bearer two")).await.unwrap();
    hookwright_e2e::wait_for("the new token", crate::shop::SOON, async || {
        shop.publish(&shop.event("order.created", "{}")).await;
        let last = shop.receiver.requests("/keys").last().map(|request| request.header("authorization").to_owned());
        anyhow::ensure!(last.as_deref() == Some("Bearer two"), "{last:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_secret_that_may_no_longer_be_used_stops_delivery_and_what_waits_goes_out_once_it_may() {
    let (shop, _machine) = shared().await;
    let plane = &shop.world.control_plane;
    plane.apply_json(&secret(&shop.namespace, "mine", "signing", json!({ "secret": KEY_A }))).await.unwrap();
    let spec = json!({ "signing": { "keys": [key("mine")] } });
    shop.subscribe("revoked", &[">"], spec).await;
    let label = async |label: &str| {
        plane.kubectl(&["label", "secret", "mine", "-n", &shop.namespace, "--overwrite", label]).await.unwrap();
    };
    label("hookwright.dev/use-").await;
    let refused = |status: &Value| {
        condition(status, "ResolvedRefs")["reason"] == "SecretNotLabelled"
            && condition(status, "Delivering")["reason"] == "Refused"
    };
    shop.status("revoked", "refused", refused).await;
    shop.publish(&shop.event("order.created", "{}")).await;
    shop.status("revoked", "behind", |status| status["delivery"]["behind"]["reason"] == "Refused").await;
    // An edit doesn't bring the former destination back.
    let other = shop.receiver.url("/other");
    let edited = json!({ "signing": { "keys": [key("mine")] }, "endpoint": { "url": other } });
    plane.apply_json(&shop.subscription("revoked", &[">"], edited)).await.unwrap();
    label("hookwright.dev/use=signing").await;
    shop.requests("other", 1).await;
    assert_eq!(shop.receiver.count("/revoked"), 0);
}

#[tokio::test]
async fn a_generated_key_is_never_put_over_a_secret_of_somebody_else() {
    let (shop, _machine) = shared().await;
    let plane = &shop.world.control_plane;
    plane.apply_json(&secret(&shop.namespace, "taken-signing", "endpoint", json!({ "secret": KEY_A }))).await.unwrap();
    plane.apply_json(&shop.subscription("taken", &[">"], json!({}))).await.unwrap();
    let taken = |status: &Value| condition(status, "ResolvedRefs")["reason"] == "SecretNameTaken";
    shop.status("taken", "refused", taken).await;
    assert_eq!(shop.world.signing_secret(&shop.namespace, "taken").await.unwrap(), KEY_A);

    // A generated one goes with its Subscription.
    shop.subscribe("own", &[">"], json!({})).await;
    let own = plane.get(&shop.namespace, "secrets", "own-signing").await.unwrap();
    assert_eq!(own["metadata"]["ownerReferences"][0]["name"], "own");
    // And nobody else uses it.
    let taken = json!([{ "name": "x", "valueFrom": { "secretKeyRef": { "name": "own-signing", "key": "secret" } } }]);
    let thief = shop.subscription("thief", &[">"], json!({ "endpoint": { "headers": taken } }));
    plane.apply_json(&thief).await.unwrap();
    let forger = shop.subscription("forger", &[">"], json!({ "signing": { "keys": [key("own-signing")] } }));
    plane.apply_json(&forger).await.unwrap();
    for name in ["thief", "forger"] {
        shop.status(name, "refused", |status| condition(status, "ResolvedRefs")["reason"] == "SecretReserved").await;
    }
    let status = shop.status("own", "shown", |status| status["signing"]["keys"].is_array()).await;
    assert_eq!(status["signing"]["keys"][0]["secretKeyRef"]["name"], "own-signing");
}

#[tokio::test]
async fn secrets_are_sealed_in_the_config_bucket() {
    let (shop, _machine) = shared().await;
    let uid = shop.subscribe("sealed", &[">"], json!({})).await;
    let secret = shop.world.signing_secret(&shop.namespace, "sealed").await.unwrap();
    let jetstream = shop.world.nats.jetstream(hookwright_e2e::User::Admin).await.unwrap();
    let stream = jetstream.get_stream("KV_HOOKWRIGHT_CONFIG").await.unwrap();
    let subject = format!("$KV.HOOKWRIGHT_CONFIG.subscription.*.{uid}");
    let mut info = stream.info_with_subjects(&subject).await.unwrap();
    let (subject, _) = futures::TryStreamExt::try_next(&mut info).await.unwrap().unwrap();
    let record = stream.get_last_raw_message_by_subject(&subject).await.unwrap();
    let text = String::from_utf8(record.payload.to_vec()).unwrap();
    assert!(text.contains("ciphertext") && !text.contains(secret.trim_start_matches("whsec_")), "{text}");
}
