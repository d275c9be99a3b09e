//! Tells an outage on this side from one of an endpoint. If attempts fail before any byte of an answer in half of the
//! namespaces, this machine or its network is more likely at fault than all those endpoints. Then no attempt is counted: what
//! fails waits in the stream, and is tried again every few seconds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::budget::Held;
use crate::limits::shares::Part;

/// How long an attempt counts.
const LATELY: Duration = Duration::from_secs(10);
/// With fewer namespaces nothing can be told.
const LEAST: usize = 3;

/// When the endpoints of a namespace last answered, and last failed to, and what it holds of what namespaces
/// share.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// The number of the namespace, which is its own.
    pub(crate) number: usize,
    /// The slots that its attempts take up.
    pub(crate) attempts: Part,
    /// Its deliveries that linger in their lanes.
    pub(crate) lingering: Part,
    /// The deliveries of its Producers that are read ahead.
    pub(crate) ahead: AtomicUsize,
    /// The events of its Producers.
    pub(crate) events: Arc<Held>,
    /// Its due deliveries.
    pub(crate) due: Arc<Held>,
    /// The events of its Subscriptions that are behind.
    pub(crate) behind: Arc<Held>,
    origin: Instant,
    /// Milliseconds since the origin, plus one; 0 for never.
    answered: AtomicU64,
    unanswered: AtomicU64,
}

/// All namespaces that have Subscriptions.
#[derive(Debug)]
pub(crate) struct Tenants {
    origin: Instant,
    tenants: Mutex<HashMap<String, Arc<Tenant>>>,
    /// The due deliveries of all namespaces.
    due: Arc<Held>,
}

impl Default for Tenants {
    fn default() -> Self {
        Self { origin: Instant::now(), tenants: Mutex::default(), due: Arc::default() }
    }
}

impl Tenant {
    /// Counts an attempt. It costs one store.
    pub(crate) fn attempted(&self, answered: bool) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        if answered { &self.answered } else { &self.unanswered }.store(now, Ordering::Relaxed);
    }

    /// Whether no endpoint of the namespace has answered lately.
    pub(crate) fn is_silent(&self) -> bool {
        self.answered.load(Ordering::Relaxed) <= lately(self.origin)
    }
}

/// The time, as a namespace keeps it, since which an attempt counts.
fn lately(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().saturating_sub(LATELY).as_millis()).unwrap_or(u64::MAX)
}

impl Tenants {
    /// The namespace of this name.
    pub(crate) fn of(&self, namespace: &str) -> Arc<Tenant> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get(namespace) {
            return Arc::clone(tenant);
        }
        let never = AtomicU64::default;
        let tenant = Arc::new(Tenant {
            number: tenants.len(),
            attempts: Part::default(),
            lingering: Part::default(),
            ahead: AtomicUsize::new(0),
            events: Arc::default(),
            due: Held::within(&self.due),
            behind: Arc::default(),
            origin: self.origin,
            answered: never(),
            unanswered: never(),
        });
        tenants.insert(namespace.to_owned(), Arc::clone(&tenant));
        tenant
    }

    /// Whether attempts fail because of an outage on this side.
    pub(crate) fn is_ours(&self) -> bool {
        let (active, silent) = self.lately();
        active >= LEAST && silent * 2 >= active
    }

    /// Whether there is no outage on this side: some endpoints answer, and not too few of them.
    pub(crate) fn is_over(&self) -> bool {
        let (active, silent) = self.lately();
        silent < active && !self.is_ours()
    }

    /// How many namespaces had attempts lately, and how many of those no answer.
    fn lately(&self) -> (usize, usize) {
        let since = lately(self.origin);
        let lately = |time: &AtomicU64| time.load(Ordering::Relaxed) > since;
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let active = tenants.values().filter(|tenant| lately(&tenant.answered) || lately(&tenant.unanswered));
        active.fold((0, 0), |(active, silent), tenant| (active + 1, silent + usize::from(!lately(&tenant.answered))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn half_of_the_namespaces_without_an_answer_are_no_fault_of_theirs() {
        for (answers, ours, over) in [
            (&[Some(false), Some(false)][..], false, false),
            (&[Some(true), Some(false)], false, true),
            (&[Some(true), Some(false), Some(false)], true, false),
            (&[Some(true), Some(true), Some(false)], false, true),
            (&[Some(true), Some(true), Some(false), Some(false), None, None], true, false),
            (&[Some(true), Some(true), Some(true), Some(false)], false, true),
        ] {
            let tenants = Tenants::default();
            for (n, answer) in answers.iter().enumerate() {
                let tenant = tenants.of(&format!("{n}"));
                answer.iter().for_each(|answered| tenant.attempted(*answered));
            }
            assert_eq!((tenants.is_ours(), tenants.is_over()), (ours, over), "{answers:?}");
            tokio::time::advance(LATELY * 2).await;
            assert!(!tenants.is_ours() && !tenants.is_over(), "that was long ago: nobody knows");
        }
    }
}
