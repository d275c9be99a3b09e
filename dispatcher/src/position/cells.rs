//! What a dispatcher knows about the positions of all Subscriptions: a mirror of their bucket.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::position::Position;
use hookwright_core::record::{RecordError, decode};
use hookwright_runtime::logging::chain;
use hookwright_runtime::mirror::Change;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::loaded::Loaded;
use crate::position::cell::PositionCell;

/// What is known about the positions of all Subscriptions.
#[derive(Debug)]
pub(crate) struct Cells {
    cells: RwLock<HashMap<SubscriptionUid, Arc<PositionCell>>>,
    pub(crate) loaded: Loaded,
    changed: watch::Sender<()>,
}

impl Default for Cells {
    fn default() -> Self {
        Self { cells: RwLock::default(), loaded: Loaded::default(), changed: watch::Sender::new(()) }
    }
}

impl Cells {
    /// The cell of this Subscription.
    pub(crate) fn cell(&self, uid: &SubscriptionUid) -> Arc<PositionCell> {
        let known = self.cells.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned();
        known.unwrap_or_else(|| {
            let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(uid.clone()).or_insert_with(|| Arc::new(PositionCell::new(uid.clone()))))
        })
    }

    /// The Subscriptions that are not live.
    pub(crate) fn behind(&self) -> Vec<Arc<PositionCell>> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.values().filter(|cell| !cell.is_live()).cloned().collect()
    }

    /// Forgets the Subscriptions that nobody else holds and that have no position: they were deleted, or will be found again.
    pub(crate) fn forget_unused(&self) {
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        // Every caller asks for it here, under this lock.
        cells.retain(|_, cell| Arc::strong_count(cell) > 1 || !cell.is_live() || cell.known().position.is_some());
    }

    /// Whether it is known what the position is, or that there is none.
    fn knows(&self, uid: &SubscriptionUid) -> bool {
        self.loaded.number().is_some() && !self.cell(uid).known().unreadable
    }

    /// A receiver that is notified of each change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Publishes that something has changed.
    pub(crate) fn changed(&self) {
        self.changed.send_replace(());
    }

    /// Takes a change of the bucket.
    pub(crate) fn apply(&self, change: Change) {
        match change {
            Change::Put { key, value, revision } => {
                let Ok(uid) = SubscriptionUid::parse(&key) else {
                    return warn!(key, "ignoring an unknown key in the bucket of positions");
                };
                match decode::<Position>(&value) {
                    Ok(position) => self.cell(&uid).learn(Some(position), revision),
                    Err(RecordError::NoRecord(why)) if self.knows(&uid) => {
                        warn!(key, why, "what stands in place of a position is no record; what is known of it holds");
                        self.cell(&uid).learn_removed(Some(revision));
                    }
                    Err(failure) => {
                        error!(
                            key,
                            error = chain(&failure),
                            "can't read a position; the Subscription's new events are parked until it can be read"
                        );
                        self.cell(&uid).learn_unreadable(revision);
                    }
                }
            }
            Change::Delete { key } | Change::Vanished { key } => {
                if let Ok(uid) = SubscriptionUid::parse(&key) {
                    self.cell(&uid).learn_removed(None);
                }
            }
            Change::Loaded(revision) => self.loaded.set(revision),
            Change::Behind => {
                // The bucket may be another one, which counts its revisions anew.
                let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
                cells.values().for_each(|cell| cell.distrust());
                self.loaded.set_behind();
            }
        }
        self.changed();
    }
}

#[cfg(test)]
mod tests {
    use hookwright_core::position::Range;
    use hookwright_core::record::encode;
    use hookwright_core::record::lease::BucketRevision;
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_is_no_position_changes_nothing_about_the_one_that_is_known() {
        let created = Timestamp::UNIX_EPOCH;
        let behind = Position {
            ranges: vec![Range { from: 5, to: None, until: None, begun: false }],
            ..Position::live(created)
        };
        let (behind, cells) = (encode(&behind).unwrap(), Cells::default());
        let put = |uid: &str, value: &[u8], revision| {
            cells.apply(Change::Put { key: uid.into(), value: value.to_vec().into(), revision });
        };
        let known = |uid: &str| {
            let known = cells.cell(&SubscriptionUid::parse(uid).unwrap()).known();
            (known.position.is_some(), known.removed, known.unreadable)
        };
        put("early", b"hostile", 1);
        put("behind", &behind, 2);
        cells.apply(Change::Loaded(BucketRevision { created, revision: 2 }));
        for uid in ["early", "behind", "live"] {
            put(uid, b"hostile", 3);
            put(&format!("{uid}.x"), b"hostile", 4);
        }
        put("newer", br#"{"version":2}"#, 5);
        assert_eq!(known("early"), (false, false, true), "nobody knows what it was");
        assert_eq!(known("behind"), (true, true, false), "it is to be written again");
        assert_eq!(known("live"), (false, false, false));
        assert_eq!(known("newer"), (false, false, true));
    }

    #[test]
    fn only_what_nobody_needs_is_forgotten() {
        let cells = Cells::default();
        let uid = |uid: &str| SubscriptionUid::parse(uid).unwrap();
        let held = cells.cell(&uid("held"));
        cells.cell(&uid("deleted"));
        cells.cell(&uid("live")).learn(Some(Position::live(Timestamp::UNIX_EPOCH)), 7);
        cells.cell(&uid("unreadable")).learn_unreadable(8);
        cells.forget_unused();
        let mut left: Vec<String> = cells.cells.read().unwrap().keys().map(|uid| uid.as_str().to_owned()).collect();
        left.sort();
        assert_eq!(left, ["held", "live", "unreadable"]);
        assert!(Arc::ptr_eq(&held, &cells.cell(&uid("held"))));
    }
}
