//! The parts that the operator waits for before it is ready.

use std::collections::BTreeMap;

use hookwright_runtime::admin::NotReady;
use tokio::sync::{Notify, watch};

use crate::cache::shared::Shared;

/// A part of the operator that has to be there before it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Definitions,
    Nats,
    Installation,
    SystemStreams,
    Config,
    Leases,
    Health,
    Producers,
    Subscriptions,
    Namespaces,
    Services,
    EventSchemas,
}

/// The parts that are missing, each with the text that the admin endpoint shows.
pub(crate) struct Readiness {
    missing: Shared<BTreeMap<Part, String>>,
    sender: watch::Sender<NotReady>,
    changed: Notify,
}

impl Readiness {
    pub(crate) fn new() -> Self {
        let missing: BTreeMap<Part, String> = [
            (Part::Definitions, "waiting for the CustomResourceDefinitions"),
            (Part::Nats, "waiting for NATS"),
            (Part::Installation, "waiting to know whose the installation in the NATS account is"),
            (Part::SystemStreams, "waiting for Hookwright's own streams and buckets"),
            (Part::Config, "waiting to know how far the config goes"),
            (Part::Leases, "waiting for the dispatchers' leases"),
            (Part::Health, "waiting for the delivery counts"),
            (Part::Producers, "waiting for the list of Producers"),
            (Part::Subscriptions, "waiting for the list of Subscriptions"),
            (Part::Namespaces, "waiting for the list of namespaces"),
            (Part::Services, "waiting for the list of Services"),
            (Part::EventSchemas, "waiting for the list of EventSchemas"),
        ]
        .map(|(part, text)| (part, text.to_owned()))
        .into();
        let first = missing.values().next().cloned();
        Self { missing: Shared::new(missing), sender: watch::Sender::new(first), changed: Notify::new() }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<NotReady> {
        self.sender.subscribe()
    }

    /// Notes that the part is there.
    pub(crate) fn there(&self, part: Part) {
        self.change(|missing| drop(missing.remove(&part)));
    }

    /// Notes that the part is missing, also if it was there before.
    pub(crate) fn missing(&self, part: Part, reason: String) {
        self.change(|missing| drop(missing.insert(part, reason)));
    }

    /// Waits until the part is there.
    pub(crate) async fn until(&self, part: Part) {
        loop {
            let changed = self.changed.notified();
            if !self.missing.lock().contains_key(&part) {
                return;
            }
            changed.await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Part, String>)) {
        let mut missing = self.missing.lock();
        change(&mut missing);
        let first = missing.values().next().cloned();
        self.sender.send_if_modified(|old| std::mem::replace(old, first.clone()) != first);
        self.changed.notify_waiters();
    }
}
