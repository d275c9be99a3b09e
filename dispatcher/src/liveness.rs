//! The liveness lease, from the dispatcher's side. The rule is in `hookwright_core::record::lease`.
//!
//! To join, a dispatcher loads the config up to the leader's last revision, writes its lease, and loads up to the last
//! revision once more. So it has loaded each record that was written before the operator could see the lease. For each
//! later record, the operator waits for this dispatcher. After a lapse the dispatcher joins as new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::{context, kv};
use hookwright_core::nats::names::{CONFIG_BUCKET, LEASES_BUCKET, POSITIONS_BUCKET};
use hookwright_core::record::lease::{BucketRevision, DispatcherLease, Keeps, RENEW, TRUST};
use hookwright_core::record::{RecordError, VERSION, encode};
use hookwright_runtime::bucket::{Bucket, BucketError};
use hookwright_runtime::leases;
use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::Nats;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::features;
use crate::config::index::Index;
use crate::position::cells::Cells;

/// How long one try to renew may take.
const RENEWAL: Duration = Duration::from_millis(1500);
/// How long the config may take to be loaded, and when the leader is asked again how far it goes.
const CATCH_UP: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(1);
/// The wait between a failed try and the next.
const RETRY: Duration = Duration::from_millis(200);

/// Whether this dispatcher may match events and start attempts.
#[derive(Debug)]
pub(crate) struct Liveness {
    origin: Instant,
    /// The start of the last confirmed renewal, in milliseconds after `origin`, plus one; 0 if there is none.
    confirmed: AtomicU64,
    joined: AtomicBool,
    changed: watch::Sender<bool>,
}

#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("can't ask how far the config or the positions go")]
    Config(#[source] BucketError),
    #[error("can't create the bucket of leases")]
    Leases(#[source] context::CreateKeyValueError),
    #[error("NATS did not store the lease")]
    Renew(#[source] kv::PutError),
    #[error("can't encode the lease")]
    Encode(#[source] RecordError),
    #[error("no answer in time")]
    Late(#[source] tokio::time::error::Elapsed),
    #[error("the last renewal is too old")]
    Lapsed,
}

impl Liveness {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            confirmed: AtomicU64::new(0),
            joined: AtomicBool::new(false),
            changed: watch::Sender::new(false),
        })
    }

    /// Whether the last confirmed renewal is young enough to match events and start attempts.
    pub(crate) fn is_live(&self) -> bool {
        self.joined.load(Ordering::Acquire) && self.is_trusted()
    }

    fn is_trusted(&self) -> bool {
        let confirmed = self.confirmed.load(Ordering::Acquire);
        confirmed > 0 && self.elapsed().saturating_sub(confirmed - 1) < millis(TRUST)
    }

    /// Waits until [`Self::is_live`].
    pub(crate) async fn live(&self) {
        let mut changed = self.changed.subscribe();
        while !self.is_live() {
            // The sender is a field of `self`, so the channel stays open.
            let _ = timeout(RENEW, changed.changed()).await;
        }
    }

    /// A receiver that is notified when the dispatcher joins or lapses.
    pub(crate) fn subscribe(&self) -> watch::Receiver<bool> {
        self.changed.subscribe()
    }

    fn elapsed(&self) -> u64 {
        millis(self.origin.elapsed())
    }

    fn set_joined(&self, joined: bool) {
        self.joined.store(joined, Ordering::Release);
        self.changed.send_replace(joined);
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The task that renews the lease.
pub(crate) struct Renewer {
    pub(crate) nats: Nats,
    pub(crate) liveness: Arc<Liveness>,
    pub(crate) index: Arc<Index>,
    pub(crate) positions: Arc<Cells>,
    /// The config revision that is loaded; `None` while the index may be out of date.
    pub(crate) loaded: watch::Receiver<Option<BucketRevision>>,
    /// The revision of the positions that is loaded; `None` while they may be out of date.
    pub(crate) loaded_positions: watch::Receiver<Option<BucketRevision>>,
    /// The digest of the egress rules by which all endpoints were judged.
    pub(crate) judged: watch::Receiver<String>,
    /// How much this dispatcher keeps in NATS, by its settings.
    pub(crate) keeps: Keeps,
    pub(crate) incarnation: String,
}

impl Renewer {
    /// Joins, renews, and joins again after a lapse, for as long as the process runs.
    pub(crate) async fn run(mut self) {
        loop {
            // Counted, because the index may be up to date again before anybody looks.
            let behinds = self.behinds();
            match self.join().await {
                Ok(confirmed) => {
                    info!(revision = self.loaded.borrow().map(|loaded| loaded.revision), "joined");
                    self.liveness.set_joined(true);
                    self.keep(confirmed, behinds).await;
                    self.liveness.set_joined(false);
                    warn!("the lease has lapsed; nothing is delivered until this dispatcher has joined again");
                }
                Err(error) => {
                    warn!(error = chain(&error), "can't join yet; retrying");
                    tokio::time::sleep(RETRY * 5).await;
                }
            }
        }
    }

    /// Removes the lease, so that the operator does not wait for this dispatcher.
    pub(crate) async fn leave(nats: &Nats, incarnation: &str) {
        if let Ok(bucket) = nats.bucket(LEASES_BUCKET).await {
            // If the removal fails, the lease expires.
            let _ = bucket.delete(incarnation).await;
        }
    }

    async fn join(&mut self) -> Result<u64, LeaseError> {
        self.catch_up().await?;
        self.renew(None).await?;
        self.catch_up().await?;
        self.renew(None).await
    }

    /// How often config or positions were out of date.
    fn behinds(&self) -> (u64, u64) {
        (self.index.loaded.behinds(), self.positions.loaded.behinds())
    }

    /// Waits until config and positions are loaded up to the last records that their leaders have now.
    async fn catch_up(&mut self) -> Result<(), LeaseError> {
        let nats = self.nats.clone();
        for (bucket, loaded) in [(CONFIG_BUCKET, &mut self.loaded), (POSITIONS_BUCKET, &mut self.loaded_positions)] {
            let caught_up = async {
                let bucket = Bucket::named(&nats, bucket).await.map_err(LeaseError::Config)?;
                loop {
                    let created = bucket.state().await.map_err(LeaseError::Config)?.created;
                    let revision = bucket.last(">").await.map_err(LeaseError::Config)?;
                    let goal = BucketRevision { created, revision };
                    let reached =
                        |loaded: &Option<BucketRevision>| loaded.is_some_and(|loaded| loaded.has_reached(goal));
                    // Asked again after a while: the mark of a removed record may have been the last, and expire.
                    if timeout(AGAIN, loaded.wait_for(reached)).await.is_ok() {
                        return Ok(());
                    }
                }
            };
            timeout(CATCH_UP, caught_up).await.map_err(LeaseError::Late)??;
        }
        Ok(())
    }

    /// Renews until the last confirmed renewal, which started at `confirmed`, is too old, or config or positions are
    /// behind.
    async fn keep(&mut self, mut confirmed: u64, behinds: (u64, u64)) {
        let mut due = Duration::ZERO;
        loop {
            tokio::select! {
                _ = self.loaded.changed() => {}
                _ = self.loaded_positions.changed() => {}
                _ = self.judged.changed() => {}
                () = tokio::time::sleep(due) => {}
            }
            if self.behinds() != behinds {
                return;
            }
            due = match self.renew(Some(confirmed)).await {
                Ok(renewed) => {
                    confirmed = renewed;
                    RENEW
                }
                Err(LeaseError::Lapsed) => return,
                Err(error) => {
                    warn!(error = chain(&error), "can't renew the lease; retrying");
                    RETRY
                }
            };
        }
    }

    /// Writes the lease and returns when the renewal began. A dispatcher that was paused for a while finds out here
    /// that its lease has lapsed.
    async fn renew(&mut self, previous: Option<u64>) -> Result<u64, LeaseError> {
        let before = self.liveness.elapsed();
        if previous.is_some_and(|previous| before.saturating_sub(previous) >= millis(TRUST)) {
            return Err(LeaseError::Lapsed);
        }
        let revision = self.loaded.borrow_and_update().map_or(0, |loaded| loaded.revision);
        let positions = *self.loaded_positions.borrow_and_update();
        let features = features::read().iter().map(|feature| feature.name().to_owned()).collect();
        let (unserved, keeps) = (self.index.unserved(), Some(self.keeps));
        let egress = Some(self.judged.borrow_and_update().clone());
        let lease = DispatcherLease { version: VERSION, revision, positions, unserved, features, keeps, egress };
        let value = encode(&lease).map_err(LeaseError::Encode)?;
        let put = async {
            let nats = &self.nats;
            let bucket = match nats.bucket(LEASES_BUCKET).await {
                Ok(bucket) => bucket,
                Err(_) => {
                    let config = leases::bucket(&nats.names);
                    nats.jetstream.create_key_value(config).await.map_err(LeaseError::Leases)?
                }
            };
            bucket.put(&self.incarnation, value.into()).await.map_err(LeaseError::Renew)
        };
        timeout(RENEWAL, put).await.map_err(LeaseError::Late)??;
        self.liveness.confirmed.store(before + 1, Ordering::Release);
        Ok(before)
    }
}
