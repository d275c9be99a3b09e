//! How much the managed streams of each namespace take of NATS: those of its Producers, as NATS has them, and those
//! that stayed when their Producers were deleted.
//!
//! What a Producer asks for says nothing of that: an edit may not be admitted, and its stream stays as it was.

use std::collections::HashMap;

use async_nats::jetstream::stream::{Config, StorageType};
use hookwright_core::nats::names::{STREAM_NAMESPACE_UID, STREAM_OWNER, STREAM_PRODUCER};
use hookwright_crds::Storage;
use serde::Deserialize;
use tokio::time::Instant;

use crate::cache::shared::Shared;

/// What a stream takes: its bytes times its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) storage: Storage,
    pub(crate) bytes: u64,
}

/// What is needed of a stream's configuration.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StreamConfig {
    pub(crate) name: String,
    storage: StorageType,
    #[serde(default)]
    max_bytes: i64,
    #[serde(default)]
    num_replicas: usize,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

/// How much the managed streams of namespaces take, by the names of the streams.
#[derive(Default)]
pub(crate) struct StreamSizes(Shared<HashMap<String, Known>>);

struct Known {
    namespace: String,
    /// The uid in NATS of the Producer that the stream belongs to.
    owner: String,
    taken: Taken,
    noted: Instant,
}

impl From<&Config> for StreamConfig {
    fn from(config: &Config) -> Self {
        let Config { name, storage, max_bytes, num_replicas, metadata, .. } = config;
        Self {
            name: name.clone(),
            storage: *storage,
            max_bytes: *max_bytes,
            num_replicas: *num_replicas,
            metadata: metadata.clone(),
        }
    }
}

impl StreamConfig {
    /// Returns the namespace of the Producer that the stream belongs to, or belonged to, and the namespace's uid.
    pub(crate) fn namespace(&self) -> Option<(&str, &str)> {
        let (namespace, _) = self.metadata.get(STREAM_PRODUCER)?.split_once('/')?;
        Some((namespace, self.metadata.get(STREAM_NAMESPACE_UID)?))
    }

    fn known(&self, noted: Instant) -> Option<Known> {
        let (namespace, _) = self.namespace()?;
        let copies = u64::try_from(self.num_replicas.max(1)).unwrap_or(u64::MAX);
        // Without a bound, it may take everything.
        let bytes = u64::try_from(self.max_bytes).ok().filter(|bytes| *bytes > 0).unwrap_or(u64::MAX);
        let storage = match self.storage {
            StorageType::File => Storage::File,
            StorageType::Memory => Storage::Memory,
        };
        let taken = Taken { storage, bytes: bytes.saturating_mul(copies) };
        let owner = self.metadata.get(STREAM_OWNER)?.clone();
        Some(Known { namespace: namespace.to_owned(), owner, taken, noted })
    }
}

impl StreamSizes {
    /// Notes a managed stream as NATS has it.
    pub(crate) fn note(&self, stream: &StreamConfig) {
        if let Some(known) = stream.known(Instant::now()) {
            self.0.lock().insert(stream.name.clone(), known);
        }
    }

    /// Notes that there is no stream of this name.
    pub(crate) fn forget(&self, stream: &str) {
        self.0.lock().remove(stream);
    }

    /// Notes that the stream of a Producer was deleted with it.
    pub(crate) fn forget_of(&self, owner: &str) {
        self.0.lock().retain(|_, known| known.owner != owner);
    }

    /// Takes all managed streams of this cluster's namespaces, as they were listed from `since` on. What was noted
    /// since then is newer.
    pub(crate) fn listed(&self, streams: &[StreamConfig], since: Instant) {
        let mut all = self.0.lock();
        all.retain(|_, known| known.noted >= since);
        for stream in streams {
            if let Some(known) = stream.known(since) {
                all.entry(stream.name.clone()).or_insert(known);
            }
        }
    }

    /// Has `admit` decide whether the stream of a Producer may take what the Producer asks for. It gets what the streams
    /// of the namespace take, by their names. What it admits counts from then on.
    pub(crate) fn admit<E>(
        &self,
        (namespace, owner, stream): (&str, &str, &str),
        admit: impl FnOnce(&HashMap<String, Taken>) -> Result<Option<Taken>, E>,
    ) -> Result<(), E> {
        let mut all = self.0.lock();
        let own = all.iter().filter(|(_, known)| known.namespace == namespace);
        let own = own.map(|(name, known)| (name.clone(), known.taken)).collect::<HashMap<_, _>>();
        if let Some(taken) = admit(&own)? {
            let more = own.get(stream).is_none_or(|now| now.bytes < taken.bytes);
            let free = all.get(stream).is_none_or(|known| known.namespace == namespace);
            if more && free {
                let (namespace, owner) = (namespace.to_owned(), owner.to_owned());
                all.insert(stream.to_owned(), Known { namespace, owner, taken, noted: Instant::now() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn stream(name: &str, namespace: &str, owner: &str, bytes: i64) -> StreamConfig {
        let metadata = json!({
            STREAM_PRODUCER: format!("{namespace}/{name}"), STREAM_OWNER: owner, STREAM_NAMESPACE_UID: "n-1",
        });
        let config = json!({
            "name": name, "storage": "file", "max_bytes": bytes, "num_replicas": 3, "metadata": metadata, "more": 1,
        });
        serde_json::from_value(config).unwrap()
    }

    fn held(sizes: &StreamSizes, namespace: &str) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        let look = |own: &HashMap<String, Taken>| {
            found = own.iter().map(|(name, taken)| (name.clone(), taken.bytes)).collect();
            Ok::<_, ()>(None)
        };
        sizes.admit((namespace, "", ""), look).unwrap();
        found.sort();
        found
    }

    #[tokio::test(start_paused = true)]
    async fn what_streams_take_is_what_nats_has_and_what_was_admitted() {
        let sizes = StreamSizes::default();
        let of = |list: &[(&str, u64)]| list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Vec<_>>();
        sizes.listed(&[stream("a", "shop", "p-a", 10), stream("b", "shop", "p-b", -1)], Instant::now());
        sizes.note(&stream("c", "other", "p-c", 1));
        assert_eq!(held(&sizes, "shop"), of(&[("a", 30), ("b", u64::MAX)]));

        // A list that began before something was admitted doesn't know of it.
        tokio::time::advance(Duration::from_secs(1)).await;
        let since = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let admit = |bytes| {
            let taken = Taken { storage: Storage::File, bytes };
            sizes.admit(("shop", "p-a", "a"), |_| Ok::<_, ()>(Some(taken))).unwrap();
        };
        admit(60);
        sizes.listed(&[stream("a", "shop", "p-a", 10), stream("c", "other", "p-c", 1)], since);
        assert_eq!(held(&sizes, "shop"), of(&[("a", 60)]));
        admit(45);
        assert_eq!(held(&sizes, "shop"), of(&[("a", 60)]), "less counts once NATS has it");
        sizes.note(&stream("a", "shop", "p-a", 15));
        assert_eq!(held(&sizes, "shop"), of(&[("a", 45)]));
        let refused = sizes.admit(("shop", "p-a", "a"), |own| Err(own.len()));
        assert_eq!(refused, Err(1));
        let taken = Taken { storage: Storage::File, bytes: 9 };
        sizes.admit(("shop", "p-a", "c"), |_| Ok::<_, ()>(Some(taken))).unwrap();
        assert_eq!(held(&sizes, "other"), of(&[("c", 3)]), "it is of another namespace");

        sizes.note(&stream("d", "shop", "p-d", 1));
        sizes.forget_of("p-a");
        assert_eq!(held(&sizes, "shop"), of(&[("d", 3)]));
        sizes.forget("d");
        assert!(held(&sizes, "shop").is_empty());
    }
}
