//! How many events violated their schema. Dispatchers count them in the state bucket; Producers show the counts in
//! status.

use std::collections::HashMap;

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::names::parse_violations_key;
use hookwright_core::record::{self, Violations as Record};
use hookwright_runtime::logging;
use hookwright_runtime::mirror::Change;
use tracing::warn;

use crate::cache::shared::Shared;

/// The counts as the mirror reports them.
#[derive(Default)]
pub(crate) struct SchemaViolations(Shared<HashMap<ProducerUid, u64>>);

impl SchemaViolations {
    /// Returns how many events of the Producer violated their schema; none before the count was read.
    pub(crate) fn of(&self, producer: &ProducerUid) -> Option<i64> {
        let counts = self.0.lock();
        counts.get(producer).map(|count| i64::try_from(*count).unwrap_or(i64::MAX))
    }

    /// Takes a change of the state bucket. Returns the Producer if its count has changed.
    pub(crate) fn apply(&self, change: Change) -> Option<ProducerUid> {
        let mut counts = self.0.lock();
        match change {
            Change::Put { key, value, .. } => {
                let uid = parse_violations_key(&key)?;
                match record::decode::<Record>(&value) {
                    Ok(Record { count, .. }) => (counts.insert(uid.clone(), count) != Some(count)).then_some(uid),
                    Err(error) => {
                        warn!(key, error = logging::chain(&error), "can't read a count of schema violations");
                        None
                    }
                }
            }
            Change::Delete { key } | Change::Vanished { key } => {
                counts.remove(&parse_violations_key(&key)?);
                None
            }
            Change::Loaded(_) | Change::Behind => None,
        }
    }
}
