//! The connections over which the events of Producers are read.
//!
//! The client library ends a connection on which a message comes whose headers it can't read, and connects again; at some
//! headers its task panics, and the connection is gone for good. The pulls that were under way are lost, and what the
//! server had sent comes again after the consumer's `ack_wait`. Any publisher of a Producer can cause that as often as it
//! likes. So nothing but the reading of events uses these connections, and a reader whose connection is cut twice within two
//! minutes gets one of its own. The readers that were beside it come back to the shared connection as soon as theirs stay whole.

use std::sync::Arc;
use std::time::Duration;

use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::{self, Nats, NatsError, NatsSettings};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// How many readers may have a connection of their own.
const OWN: usize = 64;
/// A reader gets a connection of its own if its connection was cut this often...
const CUTS: u64 = 2;
/// ...within this time. It gives its own one up after the same time without a cut.
const WINDOW: Duration = Duration::from_secs(120);
/// The wait before a connection that is gone is opened again.
const RETRY: Duration = Duration::from_secs(1);

/// The connection that readers share, and how often those before it were made.
#[derive(Clone)]
struct Shared {
    nats: Nats,
    before: u64,
}

impl Shared {
    fn connects(&self) -> u64 {
        self.before + *self.nats.connected.borrow()
    }
}

/// The shared connection, and the right to further ones.
pub(crate) struct Connections {
    settings: NatsSettings,
    name: String,
    shared: watch::Sender<Shared>,
    own: Arc<Semaphore>,
}

impl Connections {
    pub(crate) async fn open(settings: NatsSettings, name: String) -> Result<Arc<Self>, NatsError> {
        let nats = nats::connect(&settings, &name).await?;
        let shared = watch::Sender::new(Shared { nats, before: 0 });
        Ok(Arc::new(Self { settings, name, shared, own: Arc::new(Semaphore::new(OWN)) }))
    }

    /// Replaces the shared connection when it is gone, for as long as the process runs.
    pub(crate) async fn keep(self: Arc<Self>) {
        loop {
            let gone = self.shared.borrow().clone();
            gone.nats.ended().await;
            warn!("the connection over which events are read is gone; opening another one");
            let nats = self.connect().await;
            self.shared.send_replace(Shared { nats, before: gone.connects() });
        }
    }

    async fn connect(&self) -> Nats {
        loop {
            match nats::connect(&self.settings, &self.name).await {
                Ok(nats) => return nats,
                Err(error) => {
                    warn!(error = chain(&error), "can't open a connection to NATS; retrying");
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// The connection of one reader.
pub(crate) struct Connection {
    all: Arc<Connections>,
    shared: watch::Receiver<Shared>,
    own: Option<(Nats, OwnedSemaphorePermit)>,
    cuts: Cuts,
}

impl Connection {
    pub(crate) fn new(all: Arc<Connections>) -> Self {
        let shared = all.shared.subscribe();
        let connects = shared.borrow().connects();
        Self { all, shared, own: None, cuts: Cuts::new(connects, Instant::now()) }
    }

    pub(crate) fn nats(&self) -> Nats {
        self.own.as_ref().map_or_else(|| self.shared.borrow().nats.clone(), |(nats, _)| nats.clone())
    }

    fn connects(&self) -> u64 {
        self.own.as_ref().map_or_else(|| self.shared.borrow().connects(), |(nats, _)| *nats.connected.borrow())
    }

    /// Whether the reader has to go over to another connection.
    pub(crate) fn is_to_change(&mut self) -> bool {
        let ended = match &self.own {
            Some((nats, _)) => nats.has_ended(),
            None => self.shared.borrow().nats.has_ended(),
        };
        if ended {
            return true;
        }
        let connects = self.connects();
        match self.cuts.see(connects, Instant::now()) {
            Cut::Often if self.own.is_none() && self.all.own.available_permits() > 0 => true,
            Cut::Often => {
                self.cuts = Cuts::new(connects, Instant::now());
                false
            }
            Cut::No => self.own.is_some(),
            Cut::Seldom => false,
        }
    }

    /// Goes over to a connection of its own, or back to the shared one.
    pub(crate) async fn change(&mut self, stream: &str) {
        match self.own.take() {
            Some((nats, permit)) if nats.has_ended() => self.own = Some((self.all.connect().await, permit)),
            Some(_) => {}
            // The cuts are counted on.
            None if self.shared.borrow_and_update().nats.has_ended() => return drop(self.shared.changed().await),
            None => {
                let Ok(permit) = Arc::clone(&self.all.own).try_acquire_owned() else { return };
                info!(stream, "reading over a connection of its own: the shared one is cut again and again");
                self.own = Some((self.all.connect().await, permit));
            }
        }
        self.cuts = Cuts::new(self.connects(), Instant::now());
    }
}

/// How often a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Not for [`WINDOW`].
    No,
    Seldom,
    /// At least [`CUTS`] times within [`WINDOW`].
    Often,
}

/// Counts the cuts of a connection, by how often it was made.
#[derive(Debug)]
struct Cuts {
    connects: u64,
    since: Instant,
}

impl Cuts {
    fn new(connects: u64, now: Instant) -> Self {
        Self { connects, since: now }
    }

    /// Takes how often the connection has been made by now.
    fn see(&mut self, connects: u64, now: Instant) -> Cut {
        let cuts = connects.saturating_sub(self.connects);
        if cuts >= CUTS {
            return Cut::Often;
        }
        if now.saturating_duration_since(self.since) < WINDOW {
            return Cut::Seldom;
        }
        *self = Self::new(connects, now);
        if cuts == 0 { Cut::No } else { Cut::Seldom }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn cuts_are_counted_within_their_window() {
        let start = Instant::now();
        let mut cuts = Cuts::new(1, start);
        let second = Duration::from_secs(1);
        for (connects, at, want) in [
            (1, second, Cut::Seldom),
            (2, 2 * second, Cut::Seldom),
            (2, WINDOW, Cut::Seldom),
            (2, 2 * WINDOW, Cut::No),
            (3, 2 * WINDOW + second, Cut::Seldom),
            (4, 2 * WINDOW + 2 * second, Cut::Often),
        ] {
            assert_eq!(cuts.see(connects, start + at), want, "{at:?}");
        }
    }
}
