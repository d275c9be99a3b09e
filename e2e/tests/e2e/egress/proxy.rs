//! The egress proxy: what goes through it, and what follows if it fails.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use hookwright_e2e::{Options, Scratch, World, wait_for};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::behind::{delivered, publish, reason};
use crate::fault_table::tls::Authority;
use crate::shop::{SOON, Shop, TIMEOUT, beside, condition, metric};

/// An egress proxy on loopback that is reached over TLS. It ends when it is dropped.
struct EgressProxy {
    address: SocketAddr,
    state: Arc<State>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct State {
    /// The ports to which it connects nobody.
    refused: Mutex<HashSet<u16>>,
    /// What it has passed on from clients.
    passed: Mutex<Vec<u8>>,
}

impl EgressProxy {
    async fn start(authority: &Authority) -> Self {
        let (certificate, key) = authority.files("right");
        let certificates = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let tls = TlsAcceptor::from(Arc::new(config.with_single_cert(certificates, key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<State>::default());
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (client, state) = (tls.accept(client), Arc::clone(&shared));
                tokio::spawn(async move { serve(client.await?, state).await });
            }
        });
        Self { address, state, accepting: accepting.abort_handle() }
    }

    fn refuse(&self, ports: impl IntoIterator<Item = u16>) {
        *self.state.refused.lock().unwrap() = ports.into_iter().collect();
    }

    fn has_seen(&self, text: &str) -> bool {
        let passed = self.state.passed.lock().unwrap();
        passed.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

impl Drop for EgressProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut client: TlsStream<TcpStream>, state: Arc<State>) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let target: SocketAddr = target.parse()?;
    if state.refused.lock().unwrap().contains(&target.port()) {
        client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await?;
        return Ok(client.shutdown().await?);
    }
    let server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    client.flush().await?;
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move {
        tokio::io::copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    });
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from_client.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        state.passed.lock().unwrap().extend(&buffer[..read]);
        to_server.write_all(&buffer[..read]).await?;
    }
}

/// TLS is between the dispatcher and the endpoint: the proxy sees no event.
async fn tls_end_to_end(shop: &Shop<'_>, proxy: &EgressProxy, authority: &Authority, scratch: &Scratch) {
    const SECRET: &str = "a body that the proxy may not see";
    let (server, port) = authority.serve("right", scratch.path()).unwrap();
    // The server decrypts, and answers nothing.
    let delivery = json!({ "timeout": "2s", "retry": { "maxAttempts": 1 } });
    let endpoint = json!({ "url": format!("https://127.0.0.1:{port}/") });
    shop.subscribe("tls", &["tls"], json!({ "endpoint": endpoint, "delivery": delivery })).await;
    shop.subscribe("plain", &["plain"], json!({})).await;
    shop.publish(&shop.event("tls", SECRET)).await;
    shop.publish(&shop.event("plain", "a body that it sees")).await;
    wait_for("the endpoint to see the event", SOON, async || {
        ensure!(server.logs().contains(SECRET), "{}", server.logs());
        Ok(())
    })
    .await
    .unwrap();
    delivered(shop, "/plain", 1).await;
    assert!(proxy.has_seen("a body that it sees") && !proxy.has_seen(SECRET));
    let plane = &shop.world.control_plane;
    plane.kubectl(&["delete", "hsub", "tls", "-n", &shop.namespace, TIMEOUT]).await.unwrap();
}

/// A namespace with rules of its own may not use the port that others may.
async fn port_forbidden(shop: &Shop<'_>, namespace: &str) {
    let plane = &shop.world.control_plane;
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
    plane.apply_json(&object).await.unwrap();
    let mut subscription = shop.subscription("walled", &["plain"], json!({}));
    subscription["metadata"]["namespace"] = json!(namespace);
    plane.apply_json(&subscription).await.unwrap();
    let refused = |status: &Value| condition(status, "Accepted")["reason"] == "EndpointNotAllowed";
    shop.world.wait_status(namespace, "walled", "refused", SOON, refused).await.unwrap();
}

#[tokio::test]
async fn a_proxy_sees_no_event_and_uses_up_no_attempts_if_it_fails_for_half_of_the_namespaces() {
    let _machine = beside().await;
    let scratch = Scratch::new().unwrap();
    let authority = Authority::create(scratch.path()).unwrap();
    let proxy = EgressProxy::start(&authority).await;
    let walled = format!("walled-{:08x}", rand::random::<u32>());
    let egress = json!({
        "proxy": { "url": format!("https://{}", proxy.address) },
        "namespaces": { &walled: { "allowedPorts": [443] } },
    });
    let dispatcher = json!({ "environment": { "SSL_CERT_FILE": authority.certificate } });
    let options = Options { dispatchers: 1, egress, dispatcher, ..Options::default() };
    let world = World::start(options).await.unwrap();
    let mut shops = Vec::new();
    for _ in 0..3 {
        shops.push(Shop::open(&world, json!({})).await);
    }
    let (cut_off, healthy) = (&shops[..2], &shops[2]);
    tls_end_to_end(healthy, &proxy, &authority, &scratch).await;
    port_forbidden(healthy, &walled).await;

    // So few events alone open no breaker, and would be given up after some seconds.
    let retry = json!({ "maxAttempts": 3, "backoff": { "type": "Fixed", "delay": "1s" } });
    for shop in &shops {
        shop.subscribe("all", &["order.*"], json!({ "delivery": { "retry": retry } })).await;
    }
    proxy.refuse(cut_off.iter().map(|shop| shop.receiver.address().port()));
    for shop in &shops {
        publish(shop, 0..1).await;
    }
    wait_for("the outage to be told", SOON, async || {
        let metrics = world.dispatchers[0].metrics().await?;
        ensure!(metric(&metrics, "hookwright_dispatcher_outage 1") == 1, "it is not");
        ensure!(metric(&metrics, "hookwright_dispatcher_proxy_failures_total") > 0, "no failure is counted");
        Ok(())
    })
    .await
    .unwrap();
    wait_for("a line of log", SOON, async || {
        let lines = world.dispatchers[0].logs().matches("attempts in half of the namespaces get no answer").count();
        ensure!(lines == 1, "{lines}");
        Ok(())
    })
    .await
    .unwrap();
    for shop in &shops {
        publish(shop, 1..5).await;
    }
    delivered(healthy, "/all", 5).await;
    for shop in cut_off {
        let waits = |status: &Value| reason(status) == "False EndpointFailing";
        let status = shop.status("all", "waiting", waits).await;
        assert_ne!(condition(&status, "EndpointHealthy")["status"], "False", "nobody's health turns: {status}");
        let message = condition(&status, "Delivering")["message"].as_str().unwrap_or_default();
        assert!(message.contains("on Hookwright's side"), "{message}");
    }

    proxy.refuse([]);
    for shop in cut_off {
        delivered(shop, "/all", 5).await;
        let status = shop.status("all", "live", |status| reason(status) == "True Live").await;
        assert_eq!(status["delivery"]["deadLettered"].as_u64().unwrap_or_default(), 0);
    }
}
