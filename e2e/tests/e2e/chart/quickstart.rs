//! The quickstart in a cluster: its receiver verifies, and the values that go with it let dispatchers reach the receiver.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use hookwright_core::sign::hmac::{SigningKey, secret_text, signature_header};
use hookwright_e2e::{Process, Scratch, Tools, chart, wait_for, workspace};
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::shop::SOON;

fn object(file: &str, kind: &str) -> Value {
    let objects = chart::objects(&Path::new(workspace()).join(file)).unwrap();
    objects.into_iter().find(|object| object["kind"] == kind).unwrap()
}

#[tokio::test]
async fn its_receiver_verifies_signatures() {
    let (scratch, secret) = (Scratch::new().unwrap(), secret_text(&[7; 32]));
    let files = object("examples/quickstart-cluster/receiver.yaml", "ConfigMap")["data"].clone();
    let mut command = Command::new(Tools::locate().await.unwrap().python());
    command.args(["-B", "-u", "-c", files["receiver.py"].as_str().unwrap()]);
    command.env("SECRET", &secret).env("ADDRESS", "127.0.0.1").env("PORT", "0");
    let receiver = Process::spawn("receiver", &command, &scratch.path().join("receiver.log")).unwrap();
    let port: u16 = wait_for("the receiver to listen", SOON, async || {
        receiver.check_running()?;
        let logs = receiver.logs();
        let port = logs.lines().find_map(|line| line.strip_prefix("listening on port ")).context(logs.clone())?;
        Ok(port.parse()?)
    })
    .await
    .unwrap();

    let (key, now) = (SigningKey::parse(&secret).unwrap(), Timestamp::now().as_second());
    let signature = signature_header(&[key], "id", now, b"{}");
    for (body, want) in [("{}", "204"), ("[]", "401")] {
        let request = format!(
            "POST /webhooks HTTP/1.0\r\ncontent-length: 2\r\nwebhook-id: id\r\nwebhook-timestamp: {now}\r\n\
             webhook-signature: {signature}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(want), "{body}: {answer}");
    }
}

#[test]
fn its_values_let_dispatchers_reach_its_receiver() {
    let values = std::fs::read_to_string(workspace().join("charts/hookwright/ci/quickstart-values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let rule = &values["networkPolicy"]["dispatcher"]["extraEgress"][0];
    let receiver = object("examples/quickstart-cluster/receiver.yaml", "Deployment");
    let pod = &receiver["spec"]["template"];
    assert_eq!(rule["to"][0]["podSelector"]["matchLabels"], pod["metadata"]["labels"]);
    let namespace = &rule["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
    assert_eq!(namespace, &receiver["metadata"]["namespace"]);
    assert_eq!(rule["ports"][0]["port"], pod["spec"]["containers"][0]["ports"][0]["containerPort"]);
    let argo = object("manifests/argo-cd/application.yaml", "Application");
    let argo = &argo["spec"]["source"]["helm"]["valuesObject"];
    assert_eq!(argo["networkPolicy"], values["networkPolicy"], "the same for Argo CD");
    let flux = object("manifests/flux/hookwright.yaml", "HelmRelease");
    assert_eq!(flux["spec"]["values"]["networkPolicy"], values["networkPolicy"], "the same for Flux");
}
