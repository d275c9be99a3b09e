//! The connections over which events are read.
//!
//! The client library ends a connection on which a message comes whose headers it can't read, and connects again; at some
//! headers its task panics, and the connection is gone for good. The pulls that were under way are lost, and what the
//! server had sent comes again after the consumer's `ack_wait`. Any publisher of a Producer can cause that as often as it
//! likes. So nothing but the reading of events uses these connections.
//!
//! A Producer's reader whose connection is cut twice within two minutes gets one of its own. If that stays whole, the
//! reader comes back to the shared connection. If it is cut as well, the reader cuts it itself: it never comes back to the
//! shared one before its own stays whole, and shares a number of connections with others of its kind, in turns.
//!
//! Dedicated readers share another connection. After a cut they ask the leader for one message at a time, which cuts
//! nothing, and so they find whose stream has such messages.

use std::sync::Arc;
use std::time::Duration;

use hookwright_runtime::logging::chain;
use hookwright_runtime::nats::{self, Nats, NatsError, NatsSettings};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::intake::unreadable_streams::UnreadableStreams;

/// How many readers may have a connection of their own because the shared one is cut.
const ALONE: usize = 32;
/// How many readers that cut their connection themselves may read at the same time.
const IN_TURN: usize = 32;
/// A reader goes over to another connection if its own was cut this often...
const CUTS: u64 = 2;
/// ...within this time. It comes back to the shared connection after the same time without a cut.
const WINDOW: Duration = Duration::from_secs(120);
/// The wait before a connection that is gone is opened again.
const RETRY: Duration = Duration::from_secs(1);

/// A connection, and how often those before it were made.
#[derive(Clone)]
struct Made {
    nats: Nats,
    before: u64,
}

impl Made {
    fn connects(&self) -> u64 {
        self.before + *self.nats.connected.borrow()
    }
}

/// The shared connections, and the right to further ones.
pub(crate) struct Connections {
    settings: NatsSettings,
    name: String,
    /// For the readers of Producers.
    shared: watch::Sender<Made>,
    /// For dedicated readers.
    dedicated: watch::Sender<Made>,
    alone: Arc<Semaphore>,
    in_turn: Arc<Semaphore>,
    /// The streams that dedicated readers read one message at a time.
    pub(crate) unreadable: UnreadableStreams,
}

impl Connections {
    pub(crate) async fn open(settings: NatsSettings, name: String) -> Result<Arc<Self>, NatsError> {
        let shared = Made { nats: nats::connect(&settings, &name).await?, before: 0 };
        let dedicated = Made { nats: nats::connect(&settings, &name).await?, before: 0 };
        let (shared, dedicated) = (watch::Sender::new(shared), watch::Sender::new(dedicated));
        let (alone, in_turn) = (Arc::new(Semaphore::new(ALONE)), Arc::new(Semaphore::new(IN_TURN)));
        let unreadable = UnreadableStreams::default();
        Ok(Arc::new(Self { settings, name, shared, dedicated, alone, in_turn, unreadable }))
    }

    /// Replaces the shared connections when they are gone, for as long as the process runs.
    pub(crate) async fn keep(self: Arc<Self>) {
        tokio::join!(self.keep_one(&self.shared), self.keep_one(&self.dedicated));
    }

    async fn keep_one(&self, shared: &watch::Sender<Made>) {
        loop {
            let gone = shared.borrow().clone();
            gone.nats.ended().await;
            warn!("a connection over which events are read is gone; opening another one");
            let nats = self.connect().await;
            shared.send_replace(Made { nats, before: gone.connects() });
        }
    }

    /// The connection of dedicated readers.
    pub(crate) fn dedicated(&self) -> Nats {
        self.dedicated.borrow().nats.clone()
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

/// Where a Producer's reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Over the connection that readers share.
    Shared,
    /// Over a connection of its own, as the shared one was cut.
    Alone,
    /// Over a connection of its own, as one of those that cut theirs.
    InTurn,
}

impl Place {
    /// Where the reader goes on when its connection is cut that often, if elsewhere. `is_free`: whether one more reader may
    /// read alone.
    fn next(self, cut: Cut, is_free: bool) -> Option<Self> {
        match (self, cut) {
            (Self::Shared, Cut::Often) => is_free.then_some(Self::Alone),
            (Self::Alone | Self::InTurn, Cut::Often) => Some(Self::InTurn),
            (Self::Alone | Self::InTurn, Cut::No) => Some(Self::Shared),
            _ => None,
        }
    }
}

/// The connection of a Producer's reader.
pub(crate) struct Connection {
    all: Arc<Connections>,
    shared: watch::Receiver<Made>,
    own: Option<Own>,
    cuts: Cuts,
    /// Where to go over to; `None` if the connection is gone, and another one takes its place.
    next: Option<Place>,
}

/// A connection that one reader has to itself.
struct Own {
    made: Made,
    place: Place,
    permit: OwnedSemaphorePermit,
}

impl Connection {
    pub(crate) fn new(all: Arc<Connections>) -> Self {
        let shared = all.shared.subscribe();
        let connects = shared.borrow().connects();
        Self { all, shared, own: None, cuts: Cuts::new(connects, Instant::now()), next: None }
    }

    pub(crate) fn nats(&self) -> Nats {
        self.made().nats
    }

    fn made(&self) -> Made {
        self.own.as_ref().map_or_else(|| self.shared.borrow().clone(), |own| own.made.clone())
    }

    /// Whether the reader has to go over to another connection.
    pub(crate) fn is_to_change(&mut self) -> bool {
        let (made, now) = (self.made(), Instant::now());
        self.next = None;
        if made.nats.has_ended() {
            return true;
        }
        let place = self.own.as_ref().map_or(Place::Shared, |own| own.place);
        let cut = self.cuts.see(made.connects(), now);
        self.next = place.next(cut, self.all.alone.available_permits() > 0);
        if cut == Cut::Often && self.next.is_none() {
            self.cuts = Cuts::new(made.connects(), now);
        }
        self.next.is_some()
    }

    /// Goes over to another connection. A reader that cuts its own one waits for its turn.
    pub(crate) async fn change(&mut self, stream: &str) {
        match (self.next.take(), self.own.take()) {
            // The cuts are counted on.
            (None, Some(Own { made, place, permit })) => {
                let made = Made { nats: self.all.connect().await, before: made.connects() };
                self.own = Some(Own { made, place, permit });
                return;
            }
            (None, None) => {
                if self.shared.borrow_and_update().nats.has_ended() {
                    let _ = self.shared.changed().await;
                }
                return;
            }
            (Some(Place::Shared), _) => {}
            (Some(Place::Alone), _) => {
                let Ok(permit) = Arc::clone(&self.all.alone).try_acquire_owned() else { return };
                info!(stream, "reading over a connection of its own: the shared one is cut again and again");
                self.open(Place::Alone, permit).await;
            }
            (Some(Place::InTurn), former) => {
                if former.as_ref().is_some_and(|own| own.place == Place::Alone) {
                    warn!(stream, "events of this stream cut the connection over which they are read");
                }
                drop(former);
                // The semaphore is never closed.
                let Ok(permit) = Arc::clone(&self.all.in_turn).acquire_owned().await else { return };
                self.open(Place::InTurn, permit).await;
            }
        }
        self.cuts = Cuts::new(self.made().connects(), Instant::now());
    }

    async fn open(&mut self, place: Place, permit: OwnedSemaphorePermit) {
        let made = Made { nats: self.all.connect().await, before: 0 };
        self.own = Some(Own { made, place, permit });
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

    #[test]
    fn a_reader_that_cuts_its_own_connection_is_never_beside_others() {
        use Place::{Alone, InTurn, Shared};
        for (place, cut, is_free, want) in [
            (Shared, Cut::Seldom, true, None),
            (Shared, Cut::Often, true, Some(Alone)),
            (Shared, Cut::Often, false, None),
            (Alone, Cut::Seldom, true, None),
            (Alone, Cut::No, false, Some(Shared)),
            (Alone, Cut::Often, false, Some(InTurn)),
            (InTurn, Cut::Often, true, Some(InTurn)),
            (InTurn, Cut::No, false, Some(Shared)),
        ] {
            assert_eq!(place.next(cut, is_free), want, "{place:?} {cut:?} {is_free}");
        }
    }

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
