//! The sink as a child process.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use hookwright_e2e::{Process, wait_for};
use http::Request;
use http_body_util::Full;

use super::{Behaviour, Receipt};
use crate::client::Client;
use crate::cpu::Watched;

/// The name under which the sink is watched.
pub(crate) const SINK: &str = "sink";

/// A running sink.
pub(crate) struct Sink {
    process: Process,
    base: String,
    client: Client,
}

impl Sink {
    /// Starts a sink whose log is in `folder`.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let process = crate::role::spawn("sink", &["sink"], &folder.join("sink.log"))?;
        let address = wait_for("the sink to listen", Duration::from_secs(10), async || {
            let logs = process.logs();
            let address = logs.trim_end().strip_prefix("listening on ").with_context(|| format!("it said {logs:?}"))?;
            Ok(address.to_owned())
        });
        let base = format!("http://{}", address.await?);
        Ok(Self { process, base, client: Client::new()? })
    }

    /// The URL of an endpoint.
    pub(crate) fn url(&self, endpoint: u32, behaviour: Behaviour) -> String {
        format!("{}/{endpoint}/{behaviour}", self.base)
    }

    /// How many different webhooks were accepted since the last [`Self::take`].
    pub(crate) async fn accepted(&self) -> Result<usize> {
        self.count("accepted").await
    }

    async fn count(&self, path: &str) -> Result<usize> {
        let request = Request::get(format!("{}/{path}", self.base)).body(Full::default())?;
        Ok(std::str::from_utf8(&self.client.exchange(request).await?)?.parse()?)
    }

    /// Takes the receipts of all requests since the last call.
    pub(crate) async fn take(&self) -> Result<Vec<Receipt>> {
        Ok(Receipt::read_all(&self.post("receipts").await?))
    }

    /// Opens or closes the gate of [`Behaviour::Gate`].
    pub(crate) async fn set_gate(&self, open: bool) -> Result<()> {
        self.post(if open { "gate/open" } else { "gate/closed" }).await.map(drop)
    }

    async fn post(&self, path: &str) -> Result<bytes::Bytes> {
        self.client.exchange(Request::post(format!("{}/{path}", self.base)).body(Full::default())?).await
    }

    pub(crate) fn watched(&self) -> Result<Watched> {
        Watched::new(SINK, self.process.id())
    }
}
