//! Step 3: the stream, the consumer and the record that should be there.

use std::collections::HashMap;

use async_nats::jetstream::consumer::{self, DeliverPolicy};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use hookwright_core::names;
use hookwright_core::record::{Checkpoint, ProducerRecord, StreamRef, VERSION};
use hookwright_crds::{Discard, Storage};
use jiff::Timestamp;

use super::validate::ValidatedProducer;
use crate::system::{ACK_WAIT, MAX_ACK_PENDING, shared_consumer};

/// What should be there. What depends on when the server created the stream is made from it later.
pub(crate) struct Plan {
    pub(crate) producer: ValidatedProducer,
    pub(crate) stream: Config,
}

pub(crate) fn build(producer: ValidatedProducer) -> Plan {
    let stream = Config {
        name: producer.stream.clone(),
        subjects: producer.subjects.clone(),
        storage: match producer.storage {
            Storage::File => StorageType::File,
            Storage::Memory => StorageType::Memory,
        },
        num_replicas: producer.replicas,
        max_age: producer.max_age.unwrap_or_default(),
        max_bytes: producer.max_bytes.unwrap_or(-1),
        max_message_size: producer.max_message_size,
        discard: match producer.discard {
            Discard::Old => DiscardPolicy::Old,
            Discard::New => DiscardPolicy::New,
        },
        duplicate_window: producer.duplicate_window,
        allow_direct: true,
        metadata: HashMap::from([(names::STREAM_OWNER.to_owned(), producer.uid.to_string())]),
        ..Config::default()
    };
    Plan { producer, stream }
}

impl Plan {
    /// Whether a stream is this Producer's.
    pub(crate) fn owns(&self, live: &Config) -> bool {
        live.metadata.get(names::STREAM_OWNER).is_some_and(|owner| owner == self.producer.uid.as_str())
    }

    /// The live configuration with our fields set right; none if they are. Fields that the Producer doesn't know stay
    /// as an administrator set them.
    pub(crate) fn changed(&self, live: &Config) -> Option<Config> {
        let mut wanted = live.clone();
        wanted.subjects.clone_from(&self.stream.subjects);
        wanted.storage = self.stream.storage;
        wanted.num_replicas = self.stream.num_replicas;
        wanted.max_age = self.stream.max_age;
        if live.max_bytes > 0 || self.stream.max_bytes > 0 {
            wanted.max_bytes = self.stream.max_bytes;
        }
        wanted.max_message_size = self.stream.max_message_size;
        wanted.discard = self.stream.discard;
        wanted.duplicate_window = self.stream.duplicate_window;
        (wanted != *live).then_some(wanted)
    }

    pub(crate) fn stream_ref(&self, created: Timestamp) -> StreamRef {
        StreamRef { name: self.producer.stream.clone(), created }
    }

    pub(crate) fn record(&self, created: Timestamp) -> ProducerRecord {
        ProducerRecord {
            version: VERSION,
            uid: self.producer.uid.clone(),
            generation: self.producer.generation,
            namespace: self.producer.namespace.clone(),
            name: self.producer.name.clone(),
            stream: self.stream_ref(created),
            consumer: names::shared_consumer(&self.producer.uid, created),
            event_type: self.producer.event_type.clone(),
        }
    }

    /// The shared consumer to create. It starts where one that vanished had come to, else with the first event.
    pub(crate) fn consumer(&self, created: Timestamp, checkpoint: Option<&Checkpoint>) -> consumer::Config {
        let deliver = match checkpoint {
            Some(Checkpoint { stream_created, ack_floor, .. }) if *stream_created == created && *ack_floor > 0 => {
                DeliverPolicy::ByStartSequence { start_sequence: ack_floor + 1 }
            }
            _ => DeliverPolicy::All,
        };
        shared_consumer(names::shared_consumer(&self.producer.uid, created), deliver)
    }
}

/// The live configuration of a shared consumer with our fields set right; none if they are.
pub(crate) fn consumer_changed(live: &consumer::Config) -> Option<consumer::Config> {
    let right = live.ack_wait == ACK_WAIT && live.max_deliver == -1 && live.max_ack_pending == MAX_ACK_PENDING;
    let fix =
        || consumer::Config { ack_wait: ACK_WAIT, max_deliver: -1, max_ack_pending: MAX_ACK_PENDING, ..live.clone() };
    (!right).then(fix)
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::validated;
    use super::*;
    use serde_json::json;

    fn plan(spec: &serde_json::Value) -> Plan {
        build(validated(spec).unwrap())
    }

    #[test]
    fn changes_only_what_is_managed() {
        let plan = plan(&json!({ "subjects": ["shop.a"] }));
        let mut live = plan.stream.clone();
        live.max_messages = -1;
        live.description = Some("kept".into());
        live.metadata.insert("_nats.ver".into(), "2.15.2".into());
        assert!(plan.owns(&live));
        assert_eq!(plan.changed(&live), None);
        live.max_bytes = 5;
        live.subjects = vec!["shop.b".into()];
        let fixed = plan.changed(&live).unwrap();
        assert_eq!((fixed.max_bytes, fixed.subjects.as_slice()), (-1, ["shop.a".to_owned()].as_slice()));
        assert_eq!(fixed.description.as_deref(), Some("kept"));
        live.metadata.insert(names::STREAM_OWNER.into(), "p-2".into());
        assert!(!plan.owns(&live));
    }

    #[test]
    fn a_vanished_consumer_goes_on_where_it_was() {
        let plan = plan(&json!({ "subjects": ["shop.a"] }));
        let at = |second| Timestamp::from_second(second).unwrap();
        let checkpoint = |created, ack_floor| Checkpoint { version: VERSION, stream_created: at(created), ack_floor };
        let start = |checkpoint: Option<&Checkpoint>| plan.consumer(at(1), checkpoint).deliver_policy;
        assert_eq!(start(None), DeliverPolicy::All);
        assert_eq!(start(Some(&checkpoint(1, 9))), DeliverPolicy::ByStartSequence { start_sequence: 10 });
        assert_eq!(start(Some(&checkpoint(1, 0))), DeliverPolicy::All);
        assert_eq!(start(Some(&checkpoint(2, 9))), DeliverPolicy::All, "another stream of the same name");
    }
}
