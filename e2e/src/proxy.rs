//! A TCP proxy that cuts, delays and half-opens connections.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What the proxy does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It passes everything on.
    Pass,
    /// It ends all connections, and each new one at once.
    Cut,
    /// It passes everything on, each piece this much later.
    Delay(Duration),
    /// It keeps connections open and passes nothing on.
    HalfOpen,
}

/// A running proxy; it ends when it is dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Starts a proxy to this address.
    pub async fn start(target: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mode, modes) = watch::channel(Mode::Pass);
        let accept = async move {
            while let Ok((client, _)) = listener.accept().await {
                if *modes.borrow() != Mode::Cut
                    && let Ok(server) = TcpStream::connect(&target).await
                {
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::spawn(pass(from_client, to_server, modes.clone()));
                    tokio::spawn(pass(from_server, to_client, modes.clone()));
                }
            }
        };
        let accepting = tokio::spawn(accept).abort_handle();
        Ok(Self { address, mode, accepting })
    }

    /// Does this from now on, also with connections that are there.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Passes on in one direction until one side ends. Both directions of a connection see a cut.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut modes: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            cut = modes.wait_for(|mode| *mode == Mode::Cut) => { drop(cut); 0 }
        };
        let mode = *modes.borrow();
        if let Mode::Delay(delay) = mode {
            tokio::time::sleep(delay).await;
        }
        let Ok(mode) = modes.wait_for(|mode| *mode != Mode::HalfOpen).await.map(|mode| *mode) else { return };
        if read == 0 || mode == Mode::Cut || to.write_all(&buffer[..read]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}
