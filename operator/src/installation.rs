//! Whose the streams and buckets in the NATS account are.
//!
//! To an operator of another cluster, all that is in the buckets would belong to no object: it would remove the records,
//! and the streams with their events. So an operator writes nothing before it has read in the config bucket that the
//! installation is its cluster's. It looks again every 5 s and at each reconnect, and ends if that has changed.

mod take_over;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use hookwright_core::nats::names::{CONFIG_BUCKET, INSTALLATION_KEY};
use hookwright_core::record::{self, Installation, RecordError, VERSION};
use hookwright_runtime::logging;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::cache::identities::Identities;
use crate::lenient::Metadata;
use crate::metrics::Metrics;
use crate::nats::configs;
use crate::nats::jetstream::{JetStream, JsError, JsResult, found};
use crate::readiness::{Part, Readiness};
use crate::settings::{Settings, SystemStreams};

const AGAIN: Duration = Duration::from_secs(5);
/// The namespace that every cluster has, and whose uid is the cluster's for as long as it lives.
const KUBE_SYSTEM: &str = "kube-system";

/// It is not known that the installation is this cluster's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallationError {
    #[error("can't read whose the installation in the NATS account is")]
    Nats(#[from] JsError),
    #[error(
        "it can't be read whose the installation in the NATS account is, so nothing is written: if the account is this \
         cluster's, remove the key {INSTALLATION_KEY} from the bucket of the config"
    )]
    Unreadable(#[source] RecordError),
    #[error("the record of the installation can't be written")]
    Record(#[from] RecordError),
    #[error("can't read the namespace {KUBE_SYSTEM}, whose uid tells clusters apart")]
    Cluster(#[source] kube::Error),
    #[error("the cluster has no namespace {KUBE_SYSTEM}, whose uid tells clusters apart")]
    NoCluster,
    #[error("the system gives no random bytes")]
    Random,
    #[error(
        "the NATS account holds the installation {id} of another Kubernetes cluster (its namespace {KUBE_SYSTEM} has the \
         uid {theirs}, this cluster's has {ours}), so nothing is written: give this cluster a NATS account of its own. If it \
         replaces that cluster, whose operator will not run again, set installation.takeOver to {id}"
    )]
    Foreign { id: String, theirs: String, ours: String },
}

/// The cluster of this operator, and its installation once that is known.
pub(crate) struct Owner {
    js: JetStream,
    client: Client,
    streams: SystemStreams,
    /// The installation to take over, if there is it.
    take_over: Option<String>,
    identities: Arc<Identities>,
    cluster: Option<String>,
    id: Option<String>,
}

impl Owner {
    pub(crate) fn new(js: JetStream, client: Client, settings: &Settings, identities: Arc<Identities>) -> Self {
        let (streams, take_over) = (settings.system_streams, settings.installation.take_over.clone());
        Self { js, client, streams, take_over, identities, cluster: None, id: None }
    }

    /// Waits until the installation is this cluster's.
    pub(crate) async fn claim(&mut self, readiness: &Readiness, metrics: &Metrics) {
        let mut last: Option<String> = None;
        while let Err(failure) = self.begin().await {
            metrics.foreign_installation.set(i64::from(matches!(failure, InstallationError::Foreign { .. })));
            let text = logging::chain(&failure);
            readiness.missing(Part::Installation, text.clone());
            if last.as_ref() != Some(&text) {
                error!("{text}");
                last = Some(text);
            }
            tokio::time::sleep(AGAIN).await;
        }
        metrics.foreign_installation.set(0);
        info!(installation = self.id, "the installation is this cluster's");
        readiness.there(Part::Installation);
    }

    async fn begin(&mut self) -> Result<(), InstallationError> {
        self.check().await?;
        self.identities.load(take_over::noted(&self.js).await?);
        Ok(())
    }

    /// Looks again and again. Returns the error when the installation has become another cluster's.
    pub(crate) async fn keep(mut self, mut connected: watch::Receiver<u64>) -> InstallationError {
        loop {
            tokio::select! {
                _ = connected.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
            match self.check().await {
                Ok(()) => {}
                Err(foreign @ InstallationError::Foreign { .. }) => return foreign,
                Err(InstallationError::Nats(error)) if error.is_unavailable() => {}
                Err(error) => {
                    warn!(error = logging::chain(&error), "can't check the installation; trying again in 5 s")
                }
            }
        }
    }

    /// Returns an error unless the installation is this cluster's. Writes the record if there is none.
    async fn check(&mut self) -> Result<(), InstallationError> {
        let ours = match &self.cluster {
            Some(cluster) => cluster.clone(),
            None => self.cluster.insert(cluster(&self.client).await?).clone(),
        };
        loop {
            let newest = found(self.js.newest(CONFIG_BUCKET, INSTALLATION_KEY).await, ErrorCode::STREAM_NOT_FOUND)?;
            let revision = newest.as_ref().map_or(0, |newest| newest.revision);
            let value = newest.as_ref().and_then(|newest| newest.value.as_ref());
            if let Some(Installation { id, cluster: theirs, .. }) = self.read(value.map(|value| &**value))? {
                if theirs == ours {
                    self.id = Some(id);
                    return Ok(());
                }
                // An operator that has run here is not asked to take over what another cluster took over from it.
                if self.id.is_some() || self.take_over.as_ref() != Some(&id) {
                    return Err(InstallationError::Foreign { id, theirs, ours });
                }
                let objects = take_over::note(&self.js).await?;
                info!(from = id, objects, "taking over the installation of another cluster");
            }
            if newest.is_none() {
                create_bucket(&self.js, self.streams).await?;
            }
            // If NATS has lost everything, the installation stays what it was, and so do the uids under which objects go
            // on.
            take_over::note_again(&self.js, &self.identities).await?;
            let id = self.id.clone().map_or_else(random_id, Ok)?;
            let record = Installation { version: VERSION, id, cluster: ours.clone() };
            // If another operator was quicker, its record is there now.
            self.js.put_at(CONFIG_BUCKET, INSTALLATION_KEY, record::encode(&record)?, revision).await?;
        }
    }

    /// Reads the record. If it is none any more since this operator has read it, it is to be written again.
    fn read(&self, value: Option<&[u8]>) -> Result<Option<Installation>, InstallationError> {
        match value.map(record::decode).transpose() {
            Err(RecordError::NoRecord(why)) if self.id.is_some() => {
                warn!(why, "the record of the installation is none any more; it is written again");
                Ok(None)
            }
            read => read.map_err(InstallationError::Unreadable),
        }
    }
}

async fn create_bucket(js: &JetStream, settings: SystemStreams) -> JsResult<()> {
    let installation = js.names()?;
    let name = format!("KV_{}", installation.stream(CONFIG_BUCKET));
    for config in configs::streams(settings, installation).into_iter().filter(|config| config.name == name) {
        match js.create_stream(&config).await {
            // Another operator was quicker, with other settings.
            Err(error) if error.code() == Some(ErrorCode::STREAM_NAME_EXIST) => {}
            answer => drop(answer?),
        }
    }
    Ok(())
}

/// Returns the uid of the cluster. The operator may list namespaces anyway.
async fn cluster(client: &Client) -> Result<String, InstallationError> {
    let namespaces: Api<Metadata<Namespace>> = Api::all(client.clone());
    let parameters = ListParams::default().fields(&format!("metadata.name={KUBE_SYSTEM}"));
    let found = namespaces.list(&parameters).await.map_err(InstallationError::Cluster)?;
    found.items.into_iter().find_map(|namespace| namespace.meta.uid).ok_or(InstallationError::NoCluster)
}

fn random_id() -> Result<String, InstallationError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| InstallationError::Random)?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}
