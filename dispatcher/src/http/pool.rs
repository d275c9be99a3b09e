//! Idle connections that wait for the next request to their origin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookwright_core::destination::egress::Egress;
use tokio::time::Instant;

use crate::http::connection::Connection;
use crate::http::endpoint::Origin;

/// The number of idle connections that are kept for each origin.
const MOST: usize = 64;
/// For how long an idle connection is kept.
pub(crate) const IDLE: Duration = Duration::from_secs(30);

/// The idle connections of a dispatcher.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Arc<Origin>, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    until: Instant,
}

impl Pool {
    /// Takes out the connection that was used last, if it is still open.
    pub(crate) fn take(&self, origin: &Arc<Origin>) -> Option<Connection> {
        loop {
            // The lock is not held while a connection is looked at or closed.
            let mut idle = self.idle().get_mut(origin)?.pop()?;
            let now = Instant::now();
            if now < idle.until && now < idle.connection.retires && idle.connection.is_quiet() {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put(&self, origin: &Arc<Origin>, connection: Connection, time: Duration) {
        let idle = Idle { connection, until: Instant::now() + time };
        let mut all = self.idle();
        match all.get_mut(origin) {
            Some(waiting) if waiting.len() < MOST => waiting.push(idle),
            Some(_) => {
                drop(all);
                drop(idle);
            }
            None => drop(all.insert(Arc::clone(origin), vec![idle])),
        }
    }

    /// Closes the connections that are not used again: old ones, and those that were opened under rules which are not in
    /// force any more. To be called often.
    pub(crate) fn sweep(&self, now: Instant, egress: &Egress) {
        let mut closed = Vec::new();
        self.idle().retain(|origin, waiting| {
            let is_former = !egress.has(&origin.rules.0);
            let is_old = |idle: &Idle| now >= idle.until || now >= idle.connection.retires;
            let is_over = |idle: &mut Idle| is_former || is_old(idle) || !idle.connection.is_quiet();
            closed.extend(waiting.extract_if(.., is_over));
            !waiting.is_empty()
        });
    }

    // A poisoned lock means a panic between two changes of the map, where nothing panics.
    fn idle(&self) -> MutexGuard<'_, HashMap<Arc<Origin>, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
