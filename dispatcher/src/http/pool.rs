//! Idle connections that wait for the next request to their origin. Each takes up a socket and memory, as an attempt does.
//! So there may be as many of them as there may be attempts, however many origins there are: those that were used last.

use std::collections::{HashMap, HashSet};
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
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Arc<Origin>, Vec<Idle>>>,
    /// How many of them a sweep leaves.
    most: usize,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
    until: Instant,
}

impl Pool {
    pub(crate) fn new(most: usize) -> Self {
        Self { idle: Mutex::default(), most }
    }

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
        let now = Instant::now();
        let idle = Idle { connection, since: now, until: now + time };
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

    /// Closes the connections that are not used again: old ones, those that were opened under rules which are not in force
    /// any more, and those beyond the bound that have been idle for longest. To be called often.
    pub(crate) fn sweep(&self, now: Instant, egress: &Egress) {
        let mut closed = Vec::new();
        // Gathered without the lock, as there may be thousands. An origin holds its rules, so no others are in their place.
        let in_force: HashSet<_> = egress.policies().map(Arc::as_ptr).collect();
        let mut all = self.idle();
        all.retain(|origin, waiting| {
            let is_former = !in_force.contains(&Arc::as_ptr(&origin.rules.0));
            let is_old = |idle: &Idle| now >= idle.until || now >= idle.connection.retires;
            let is_over = |idle: &mut Idle| is_former || is_old(idle) || !idle.connection.is_quiet();
            closed.extend(waiting.extract_if(.., is_over));
            !waiting.is_empty()
        });
        let mut since: Vec<Instant> = all.values().flatten().map(|idle| idle.since).collect();
        if let Some(last) = since.len().checked_sub(self.most + 1) {
            let (_, last, _) = since.select_nth_unstable(last);
            let last = *last;
            all.retain(|_, waiting| {
                closed.extend(waiting.extract_if(.., |idle| idle.since <= last));
                !waiting.is_empty()
            });
        }
        // They are closed without the lock.
        drop(all);
    }

    // A poisoned lock means a panic between two changes of the map, where nothing panics.
    fn idle(&self) -> MutexGuard<'_, HashMap<Arc<Origin>, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use url::Url;

    use super::*;
    use crate::http::connection::Stream;

    #[tokio::test(start_paused = true)]
    async fn of_all_origins_together_the_connections_are_kept_that_were_used_last() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (pool, egress) = (Pool::new(3), Egress::default());
        let (mut origins, mut peers) = (Vec::new(), Vec::new());
        for n in 0..5 {
            let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            peers.push(listener.accept().await.unwrap());
            let connection = Connection::new(Stream::Plain(tcp), Instant::now() + IDLE);
            let url = Url::parse(&format!("http://origin-{n}.example/")).unwrap();
            let origin = Arc::new(Origin::of(&url, egress.of("shop")).unwrap());
            pool.put(&origin, connection, IDLE);
            origins.push(origin);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        pool.sweep(Instant::now(), &egress);
        let kept: Vec<bool> = origins.iter().map(|origin| pool.take(origin).is_some()).collect();
        assert_eq!(kept, [false, false, true, true, true]);
    }
}
