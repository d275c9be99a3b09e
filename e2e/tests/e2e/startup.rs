//! What a dispatcher says when it can't work.

use std::process::Stdio;

use hookwright_e2e::{Process, Scratch, Tools, wait_for, workspace_binary};

use crate::shop::SOON;

/// A nats-server without JetStream.
#[tokio::test]
async fn a_nats_server_without_jetstream_is_refused_in_a_sentence() {
    let tools = Tools::locate().await.unwrap();
    let scratch = Scratch::new().unwrap();
    let mut server = std::process::Command::new(tools.tool("nats-server").unwrap());
    server.args(["--addr", "127.0.0.1", "--port", "-1"]);
    let server = Process::spawn("nats-server", &server, &scratch.path().join("nats.log")).unwrap();
    let port = wait_for("the port", SOON, async || {
        let logs = server.logs();
        let (_, rest) = logs.split_once("connections on 127.0.0.1:").ok_or(anyhow::anyhow!("{logs}"))?;
        Ok(rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u16>()?)
    });
    let port = port.await.unwrap();
    let settings = settings(&scratch, &format!("nats://127.0.0.1:{port}"));
    let (status, said) = run("hookwright-dispatcher", &settings, &[]).await;
    assert!(!status && said.contains("JetStream is not enabled") && said.contains("enable it"), "{said}");
}

#[tokio::test]
async fn wrong_settings_are_named() {
    let scratch = Scratch::new().unwrap();
    let good = settings(&scratch, "nats://127.0.0.1:4222");
    let (status, said) = run("hookwright-dispatcher", &good, &["--check-config"]).await;
    assert!(status, "{said}");
    for (from, to, named) in [
        ("nats:", "natz:", "natz"),
        ("keyId: k1", "keyId: k1\n  keyNote: x", "keyNote"),
        ("key\"", "none\"", "none"),
        ("inFlight: 64", "inFlight: 0", "limits.inFlight"),
    ] {
        let wrong = scratch.path().join("wrong.yaml");
        std::fs::write(&wrong, std::fs::read_to_string(&good).unwrap().replace(from, to)).unwrap();
        let (status, said) = run("hookwright-dispatcher", &wrong, &["--check-config"]).await;
        assert!(!status && said.contains(named), "{named}: {said}");
    }
}

fn settings(scratch: &Scratch, url: &str) -> std::path::PathBuf {
    let (path, key) = (scratch.path().join("settings.yaml"), scratch.path().join("key"));
    std::fs::write(&key, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
    let text = format!(
        "nats:\n  url: {url}\n  inboxPrefix: _INBOX_dispatcher\nhttp:\n  listen: 127.0.0.1:0\nsealing:\n  keyId: k1\n  \
         keyFile: \"{}\"\nlimits: {{ inFlight: 64 }}\n",
        key.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// Whether it ended well, and what it said.
async fn run(binary: &str, settings: &std::path::Path, arguments: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(workspace_binary(binary).unwrap());
    command.arg("--config").arg(settings).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(SOON, command.output()).await.unwrap().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}
