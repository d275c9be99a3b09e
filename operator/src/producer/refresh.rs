//! When the numbers of a stream may go into status again: they change all the time, and a write each time is too much.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two writes of the same stream's numbers.
const EVERY: Duration = Duration::from_secs(30);

/// The last writes, by the Producer's uid.
#[derive(Default)]
pub(crate) struct Refresh(Mutex<HashMap<String, Instant>>);

impl Refresh {
    /// Whether it is time to write the numbers again; if so, counts this as a write.
    pub(crate) fn is_due(&self, uid: &str) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.get(uid).is_none_or(|last| last.elapsed() >= EVERY);
        if due {
            last.insert(uid.to_owned(), Instant::now());
        }
        due
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}
