//! The ways to log in at a NATS with TLS, and what happens when the files change.

use std::path::{Path, PathBuf};
use std::process::Command;

use hookwright_e2e::{Process, Scratch, Tools, wait_for, workspace};
use hookwright_runtime::nats::{NatsSettings, connect};
use nkeys::KeyPair;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::shop::SOON;

/// A nats-server with TLS that asks clients for a certificate, and has one user.
struct Server {
    process: Process,
    folder: PathBuf,
    port: u16,
}

impl Server {
    async fn start(folder: &Path, user: &str) -> Self {
        let script = ". tools/pki.sh; make_ca; issue_certificate client /CN=client; \
                      issue_certificate server /CN=nats subjectAltName=IP:127.0.0.1";
        let mut pki = Command::new("bash");
        pki.args(["-euc", script]).env("STATE", folder).current_dir(workspace());
        assert!(pki.status().unwrap().success());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(Tools::locate().await.unwrap().tool("nats-server").unwrap());
        command.arg("--config").arg(folder.join("nats.conf"));
        write_configuration(folder, port, user);
        let process = Process::spawn("nats", &command, &folder.join("nats.log")).unwrap();
        let server = Self { process, folder: folder.to_owned(), port };
        wait_for("nats-server", SOON, async || {
            anyhow::ensure!(server.process.logs().contains("Server is ready"), "{}", server.process.log_tail());
            Ok(())
        })
        .await
        .unwrap();
        server
    }

    /// Replaces the user; the server ends connections of the former one.
    fn reload(&self, user: &str) {
        write_configuration(&self.folder, self.port, user);
        self.process.signal(rustix::process::Signal::HUP).unwrap();
    }

    fn settings(&self, login: &str) -> NatsSettings {
        let pki = self.folder.join("pki");
        let pki = pki.display();
        let port = self.port;
        serde_saphyr::from_str(&format!(
            "url: nats://127.0.0.1:{port}\ninboxPrefix: _INBOX\ncaFile: {pki}/ca.crt\n\
             clientCertificateFile: {pki}/client.crt\nclientKeyFile: {pki}/client.key\n{login}"
        ))
        .unwrap()
    }
}

fn write_configuration(folder: &Path, port: u16, user: &str) {
    let at = folder.display();
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{at}/store\" }}\n\
         tls {{ cert_file: \"{at}/pki/server.crt\", key_file: \"{at}/pki/server.key\", ca_file: \"{at}/pki/ca.crt\", verify: true }}\n\
         accounts {{ A {{ jetstream: enabled, users: [{user}] }} }}\n"
    );
    std::fs::write(folder.join("nats.conf"), text).unwrap();
}

#[tokio::test]
async fn a_login_is_read_anew_at_each_connection() {
    let scratch = Scratch::new().unwrap();
    let file = scratch.path().join("login");
    let password = |word: &str| (word.to_owned(), format!("{{ user: app, password: {word} }}"));
    let nkey = || {
        let pair = KeyPair::new_user();
        (pair.seed().unwrap(), format!("{{ nkey: {} }}", pair.public_key()))
    };
    let at = file.display();
    for (name, login, [first, second]) in [
        ("password", format!("user: app\npasswordFile: {at}"), [password("one"), password("two")]),
        ("nkey", format!("nkeyFile: {at}"), [nkey(), nkey()]),
    ] {
        let folder = scratch.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&file, &first.0).unwrap();
        let server = Server::start(&folder, &first.1).await;
        let nats = connect(&server.settings(&login), "test").await.unwrap();
        let before = *nats.connected.borrow();
        std::fs::write(&file, &second.0).unwrap();
        server.reload(&second.1);
        wait_for(&format!("a connection with the new {name}"), SOON, async || {
            anyhow::ensure!(*nats.connected.borrow() > before, "{}", server.process.log_tail());
            nats.jetstream.query_account().await?;
            Ok(())
        })
        .await
        .unwrap();
    }
}

/// With a CA, a server that answers without TLS gets no password: not even the beginning of a login.
#[tokio::test]
async fn a_server_without_tls_is_told_nothing() {
    let scratch = Scratch::new().unwrap();
    let (ca, password) = (scratch.path().join("ca.crt"), scratch.path().join("password"));
    let made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ca -keyout /dev/null -out \"$CA\"";
    assert!(Command::new("bash").args(["-c", made]).env("CA", &ca).output().unwrap().status.success());
    std::fs::write(&password, "hush").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let settings = format!(
        "url: {url}\ninboxPrefix: _INBOX\nuser: app\npasswordFile: {}\ncaFile: {}",
        password.display(),
        ca.display()
    );
    let settings: NatsSettings = serde_saphyr::from_str(&settings).unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let info = "INFO {\"server_id\":\"x\",\"version\":\"2.15.0\",\"max_payload\":1048576,\"headers\":true}\r\n";
        stream.write_all(info.as_bytes()).await.unwrap();
        stream.read_u8().await.unwrap()
    };
    let first = tokio::select! {
        _ = connect(&settings, "test") => None,
        byte = server => Some(byte),
    };
    assert_eq!(first, Some(0x16), "the first byte of a TLS handshake");
}
