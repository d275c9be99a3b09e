//! Sends a GET to an admin endpoint.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for a busy machine: many a caller asks only once.
const ANSWER: Duration = Duration::from_secs(60);

/// Sends a GET and returns the status and the body. It uses HTTP/1.0, so that the answer ends with the connection.
pub(crate) async fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(ANSWER, exchange)
        .await
        .with_context(|| format!("no answer within {ANSWER:?}"))?
        .with_context(|| format!("GET http://{address}{path}"))?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without a status")?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}
