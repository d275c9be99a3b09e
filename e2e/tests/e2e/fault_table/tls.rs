//! Endpoints whose certificates are not to be trusted. What `openssl s_server` decrypts is in its log.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use hookwright_e2e::{Process, wait_for};
use serde_json::json;

use super::table::{Fault, QUIET, Row, row};
use crate::shop::{SOON, Shop, TIMEOUT};

/// An authority that dispatchers trust if `SSL_CERT_FILE` names its certificate.
pub(crate) struct Authority {
    pub(crate) certificate: PathBuf,
    folder: PathBuf,
}

/// What is wrong with a certificate: the days that it is valid, its name, and whether the authority has signed it.
const CERTIFICATES: [(&str, &str, &str, bool); 4] = [
    ("right", "2", "IP:127.0.0.1", true),
    ("expired", "-1", "IP:127.0.0.1", true),
    ("elsewhere", "2", "DNS:elsewhere.test", true),
    ("self-signed", "2", "IP:127.0.0.1", false),
];

fn openssl(folder: &Path, arguments: &str) -> Result<()> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let output = output.context("start openssl")?;
    ensure!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Authority {
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(folder, &format!("req -x509 {new} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"))?;
        for (name, days, host, signed) in CERTIFICATES {
            openssl(folder, &format!("req {new} -new -keyout {name}.key -out {name}.csr -subj /CN={name}"))?;
            std::fs::write(folder.join("ext"), format!("subjectAltName={host}"))?;
            let by = if signed {
                "-CA ca.pem -CAkey ca.key -CAcreateserial".to_owned()
            } else {
                format!("-signkey {name}.key")
            };
            openssl(folder, &format!("x509 -req -in {name}.csr {by} -days {days} -extfile ext -out {name}.pem"))?;
        }
        Ok(Self { certificate: folder.join("ca.pem"), folder: folder.to_owned() })
    }

    /// The files with that certificate and its key.
    pub(crate) fn files(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key")))
    }

    /// A server with that certificate; and its port.
    pub(crate) fn serve(&self, name: &str, log: &Path) -> Result<(Process, u16)> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")]).current_dir(&self.folder);
        command.args(["-cert", &format!("{name}.pem"), "-key", &format!("{name}.key")]);
        Ok((Process::spawn(name, &command, &log.join(format!("{name}.log")))?, port))
    }
}

pub(super) fn fault<'a>(shop: &'a Shop<'a>, authority: &'a Authority, folder: &'a Path) -> (Row, Fault<'a>) {
    let row = row(4, "expired, wrong host, self-signed certificates", "0 bytes of a request sent", QUIET);
    (row, untrusted(shop, authority, folder).boxed_local())
}

async fn untrusted(shop: &Shop<'_>, authority: &Authority, folder: &Path) -> Result<String> {
    const BODY: &str = "a body that only the right one may see";
    let mut servers = Vec::new();
    for (name, ..) in CERTIFICATES {
        let (server, port) = authority.serve(name, folder)?;
        let retry = json!({ "maxAttempts": 2, "backoff": { "type": "Fixed", "delay": "1s" } });
        let endpoint = json!({ "url": format!("https://127.0.0.1:{port}/") });
        shop.subscribe(
            name,
            &["tls"],
            json!({ "endpoint": endpoint, "delivery": { "retry": retry, "timeout": "2s" } }),
        )
        .await;
        servers.push((name, server));
    }
    shop.publish(&shop.event("tls", BODY)).await;
    for (name, _) in &servers {
        let given_up = |status: &serde_json::Value| status["delivery"]["deadLettered"] == 1;
        shop.world.wait_status(&shop.namespace, name, "given up", SOON, given_up).await?;
    }
    wait_for("the right one to see it", SOON, async || {
        ensure!(servers[0].1.logs().contains(BODY));
        Ok(())
    })
    .await?;
    let seen: Vec<_> =
        servers[1..].iter().filter(|(_, server)| server.logs().contains("POST")).map(|(name, _)| name).collect();
    let mut remove = vec!["delete", "subscriptions.hookwright.dev", "-n", &shop.namespace, TIMEOUT];
    remove.extend(CERTIFICATES.map(|(name, ..)| name));
    shop.world.control_plane.kubectl(&remove).await?;
    ensure!(seen.is_empty(), "{seen:?} got a request");
    Ok("0 of 3 got anything, the right one got it".to_owned())
}
