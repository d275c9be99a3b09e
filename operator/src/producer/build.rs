//! Step 3: the stream, the consumer and the record that should be there.

use std::time::Duration;

use async_nats::jetstream::consumer::{self, DeliverPolicy};
use async_nats::jetstream::stream::{Config, ConsumerLimits, DiscardPolicy, RetentionPolicy, StorageType};
use hookwright_core::nats::names;
use hookwright_core::record::{Checkpoint, ProducerRecord, StreamRef, VERSION};
use hookwright_crds::{DeletionPolicy, Discard, Reason, Storage, StreamPolicy};
use jiff::Timestamp;

use super::stored::{self, Origins};
use super::validate::ValidatedProducer;
use crate::nats::configs::shared_consumer;
use crate::nats::drift;
use crate::refusal::Refusal;

/// The shortest time without a reader after which a stream may have NATS remove consumers. It is longer than the
/// dispatchers are away when they are replaced.
const LEAST_INACTIVE: Duration = Duration::from_secs(60);

/// The stream, the consumer and the record that should be there. What depends on the stream's creation time is made
/// from the plan later.
pub(crate) struct Plan {
    pub(crate) producer: ValidatedProducer,
    /// The stream to keep in place. With policy Existing, only its name and subjects count.
    pub(crate) stream: Config,
}

pub(crate) fn build(producer: ValidatedProducer, namespace_uid: Option<String>) -> Plan {
    let identity = [
        (names::STREAM_OWNER, Some(producer.uid.to_string())),
        (names::STREAM_PRODUCER, Some(format!("{}/{}", producer.namespace, producer.name))),
        (names::STREAM_NAMESPACE_UID, namespace_uid),
        (names::STREAM_DELETION_POLICY, Some(deletion_policy(producer.deletion_policy).to_owned())),
    ];
    let stream = Config {
        name: producer.stream.clone(),
        subjects: producer.subjects.clone(),
        storage: match producer.storage {
            Storage::File => StorageType::File,
            Storage::Memory => StorageType::Memory,
        },
        num_replicas: producer.replicas,
        max_age: producer.max_age,
        max_bytes: producer.max_bytes,
        max_message_size: producer.max_message_size,
        discard: match producer.discard {
            Discard::Old => DiscardPolicy::Old,
            Discard::New => DiscardPolicy::New,
        },
        duplicate_window: producer.duplicate_window,
        allow_direct: true,
        metadata: identity.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect(),
        ..Config::default()
    };
    Plan { producer, stream }
}

/// Returns whether the name is that of a stream of Hookwright's own.
fn is_reserved(stream: &str) -> bool {
    stream.strip_prefix("KV_").unwrap_or(stream).starts_with(names::STREAM_PREFIX)
}

/// Returns the value of [`names::STREAM_DELETION_POLICY`].
pub(super) fn deletion_policy(policy: DeletionPolicy) -> &'static str {
    match policy {
        DeletionPolicy::Retain => "Retain",
        DeletionPolicy::Delete => "Delete",
    }
}

impl Plan {
    /// Returns whether this Producer owns the stream.
    pub(crate) fn owns(&self, live: &Config) -> bool {
        live.metadata.get(names::STREAM_OWNER).is_some_and(|owner| owner == self.producer.uid.as_str())
    }

    /// Returns the live configuration with the Producer's fields set right, or none if they are right. Fields that the
    /// Producer doesn't know stay as an administrator set them.
    pub(crate) fn changed(&self, live: &Config) -> Option<Config> {
        let mut wanted = live.clone();
        wanted.subjects.clone_from(&self.stream.subjects);
        wanted.storage = self.stream.storage;
        wanted.num_replicas = self.stream.num_replicas;
        wanted.max_age = self.stream.max_age;
        wanted.max_bytes = self.stream.max_bytes;
        wanted.max_message_size = self.stream.max_message_size;
        wanted.discard = self.stream.discard;
        wanted.duplicate_window = self.stream.duplicate_window;
        // With another retention, events go before dispatchers have seen them. Limits on consumers would end ours. With a
        // transform, events have subjects that the Producer doesn't name, and types that nobody has asked for.
        wanted.retention = self.stream.retention;
        wanted.consumer_limits.clone_from(&self.stream.consumer_limits);
        wanted.subject_transform.clone_from(&self.stream.subject_transform);
        wanted.metadata.extend(self.stream.metadata.clone());
        wanted.metadata.remove(names::STREAM_DONE);
        (wanted != *live).then_some(wanted)
    }

    /// Returns whether the stream is another's, so that it is only read.
    pub(crate) fn is_existing(&self) -> bool {
        self.producer.policy == StreamPolicy::Existing
    }

    /// Checks whether a stream, its own or an existing one, can be used as it is.
    pub(crate) fn usable(&self, live: &Config, origins: &Origins) -> Result<(), Refusal> {
        let name = &self.producer.stream;
        let mut sources =
            origins.streams.values().flatten().map(|origin| &origin.config).chain([live]).flat_map(stored::sources);
        if let Some(source) = sources.find(|source| is_reserved(&source.name)) {
            let message = format!(
                "Stream {name:?} sources or mirrors {:?}, which is Hookwright's own. Take that source out of the stream.",
                source.name
            );
            return Err(Refusal::new(Reason::StreamSourceNotAllowed, message));
        }
        if live.sealed {
            let message = format!(
                "Stream {name:?} is sealed, so nothing can be published to it, and NATS can't unseal it. What waits in it \
                 for Subscriptions is still delivered. Use another stream, or delete this one (nats stream rm {name})."
            );
            return Err(Refusal::new(Reason::StreamSealed, message));
        }
        Ok(())
    }

    /// Checks whether a stream with policy Existing can be read as it is. Returns why it can't be known whether it stores
    /// one of the subjects, if it can't.
    pub(crate) fn readable(&self, live: &Config, origins: &Origins) -> Result<Option<Refusal>, Refusal> {
        let name = &self.producer.stream;
        if live.metadata.contains_key(names::STREAM_OWNER) {
            let message = format!(
                "Stream {name:?} is or was a Producer's with policy Managed, which shares it with no other Producer. \
                 Subscriptions can refer to that Producer."
            );
            return Err(Refusal::new(Reason::StreamOwnedByAnother, message));
        }
        if live.retention != RetentionPolicy::Limits {
            let message = format!(
                "Stream {name:?} has retention {:?}. Only Limits is supported: with the others, reading an event takes \
                 it from other readers.",
                live.retention
            );
            return Err(Refusal::new(Reason::StreamRetentionUnsupported, message));
        }
        if let Some(ConsumerLimits { inactive_threshold, .. }) = &live.consumer_limits
            && !inactive_threshold.is_zero()
            && *inactive_threshold < LEAST_INACTIVE
        {
            let message = format!(
                "Stream {name:?} has NATS remove consumers that nobody has read for {inactive_threshold:?}, so they would \
                 go whenever dispatchers are replaced. Set inactive_threshold in its consumer_limits to at least \
                 {LEAST_INACTIVE:?}, or to 0."
            );
            return Err(Refusal::new(Reason::StreamConsumerLimits, message));
        }
        self.stored(live, origins)
    }

    /// Checks whether the stream stores the subjects. Returns why that can't be known of one, if it can't.
    fn stored(&self, live: &Config, origins: &Origins) -> Result<Option<Refusal>, Refusal> {
        let (name, stored) = (&self.producer.stream, stored::stored(live, origins));
        let mut unsure = None;
        for subject in &self.producer.subjects {
            let having: Vec<_> = stored.iter().filter(|stored| stored.may_have(subject)).collect();
            if having.is_empty() {
                let known: Vec<_> = stored.iter().map(ToString::to_string).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let message = format!(
                    "Subject {subject:?} is not within one that stream {name:?} stores, after its transforms: {known:.256}."
                );
                return Err(Refusal::new(Reason::SubjectNotInStream, message));
            }
            let unknown = having.iter().map(|stored| stored.unknown.as_ref()).collect::<Option<Vec<_>>>();
            unsure = unsure.or(unknown.map(|unknown| unknown[0].told(name, subject)));
        }
        Ok(unsure)
    }

    /// Returns the subjects that the shared consumer is restricted to. An empty list means all subjects of the stream.
    pub(crate) fn filter(&self) -> Vec<String> {
        if self.is_existing() { self.producer.subjects.clone() } else { Vec::new() }
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
            validation: self.producer.validation,
        }
    }

    /// Returns the shared consumer to create. It starts after the checkpoint of one that vanished, or with the first
    /// event.
    pub(crate) fn consumer(&self, created: Timestamp, checkpoint: Option<&Checkpoint>) -> consumer::Config {
        let deliver = match checkpoint {
            Some(Checkpoint { stream_created, ack_floor, .. }) if *stream_created == created && *ack_floor > 0 => {
                DeliverPolicy::ByStartSequence { start_sequence: ack_floor + 1 }
            }
            _ => DeliverPolicy::All,
        };
        let config = shared_consumer(names::shared_consumer(&self.producer.uid, created), deliver);
        consumer::Config { filter_subjects: self.filter(), ..config }
    }

    /// Returns how the shared consumer that is there should be. It began where it began.
    pub(crate) fn consumer_like(&self, live: &consumer::Config, created: Timestamp) -> consumer::Config {
        let begun = if drift::has_own_floor(live) { live.deliver_policy } else { DeliverPolicy::All };
        consumer::Config { deliver_policy: begun, ..self.consumer(created, None) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::validate::tests::validated;
    use super::*;
    use async_nats::jetstream::stream::{Source, SubjectTransform};
    use serde_json::json;

    fn plan(spec: &serde_json::Value) -> Plan {
        build(validated(spec).unwrap(), Some("n-1".to_owned()))
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
        live.retention = RetentionPolicy::Interest;
        live.subject_transform = Some(SubjectTransform { source: "shop.>".into(), destination: "v2.>".into() });
        live.subjects = vec!["shop.b".into()];
        let fixed = plan.changed(&live).unwrap();
        assert_eq!((fixed.max_bytes, fixed.subjects.as_slice()), (1 << 30, ["shop.a".to_owned()].as_slice()));
        assert_eq!((fixed.description.as_deref(), fixed.retention), (Some("kept"), RetentionPolicy::Limits));
        assert_eq!(fixed.subject_transform, None);
        live.metadata.insert(names::STREAM_OWNER.into(), "p-2".into());
        assert!(!plan.owns(&live));
    }

    fn existing() -> Plan {
        plan(&json!({ "subjects": ["shop.a.>", "shop.b"], "stream": { "policy": "Existing", "name": "shop_all" } }))
    }

    #[test]
    fn what_can_be_read_of_an_existing_stream() {
        let config = || Config { name: "shop_all".into(), subjects: vec!["shop.>".into()], ..Config::default() };
        let reason = |live: Config| {
            let (plan, origins) = (existing(), Origins::default());
            let usable = plan.readable(&live, &origins).and_then(|_| plan.usable(&live, &origins));
            usable.map_err(|refusal| refusal.reason)
        };
        assert_eq!(reason(config()), Ok(()));
        let narrow = Config { subjects: vec!["shop.a.*".into(), "shop.b".into()], ..config() };
        assert_eq!(reason(narrow), Err(Reason::SubjectNotInStream));
        let source = |name: &str| Source { name: name.to_owned(), ..Source::default() };
        let mirror = |name: &str| Config { subjects: vec![], mirror: Some(source(name)), ..config() };
        assert_eq!(reason(mirror("other")), Ok(()));
        for name in ["HOOKWRIGHT_PARKED", "HOOKWRIGHT_DEAD_LETTERS", "KV_HOOKWRIGHT_CONFIG"] {
            assert_eq!(reason(mirror(name)), Err(Reason::StreamSourceNotAllowed));
            let sources = Some(vec![source("other"), source(name)]);
            assert_eq!(reason(Config { sources, ..config() }), Err(Reason::StreamSourceNotAllowed));
        }
        let transform = SubjectTransform { source: "shop.>".into(), destination: "v2.shop.>".into() };
        let transformed = Config { subject_transform: Some(transform), ..config() };
        let refusal = existing().readable(&transformed, &Origins::default()).unwrap_err();
        assert_eq!(refusal.reason, Reason::SubjectNotInStream);
        assert!(refusal.message.contains("v2.shop.>"), "{}", refusal.message);
        let parts = |subject: &str| {
            let stream = json!({ "policy": "Existing", "name": "shop_all" });
            let transform = SubjectTransform { source: "in.*".into(), destination: "shop.b.{{partition(3,1)}}".into() };
            let live = Config { subjects: vec!["in.*".into()], subject_transform: Some(transform), ..config() };
            plan(&json!({ "subjects": [subject], "stream": stream })).readable(&live, &Origins::default())
        };
        assert_eq!([parts("shop.b.2"), parts("shop.b.*")], [Ok(None), Ok(None)]);
        for subject in ["shop.b.3", "shop.b.02"] {
            let refusal = parts(subject).unwrap_err();
            assert!(refusal.message.contains("shop.b.* (token 3 is a number below 3)"), "{}", refusal.message);
        }
        assert_eq!(reason(Config { sealed: true, ..config() }), Err(Reason::StreamSealed));
        let limits = |seconds| {
            let inactive_threshold = Duration::from_secs(seconds);
            Config { consumer_limits: Some(ConsumerLimits { inactive_threshold, max_ack_pending: 9 }), ..config() }
        };
        assert_eq!([reason(limits(0)), reason(limits(60))], [Ok(()), Ok(())]);
        assert_eq!(reason(limits(59)), Err(Reason::StreamConsumerLimits));
        for retention in [RetentionPolicy::WorkQueue, RetentionPolicy::Interest] {
            assert_eq!(reason(Config { retention, ..config() }), Err(Reason::StreamRetentionUnsupported));
        }
        let metadata = HashMap::from([(names::STREAM_OWNER.to_owned(), "p-2".to_owned())]);
        assert_eq!(reason(Config { metadata, ..config() }), Err(Reason::StreamOwnedByAnother));
    }

    #[test]
    fn subjects_that_cannot_be_known_are_told() {
        let source = |name: &str, filter: &str| Source {
            name: name.to_owned(),
            filter_subject: Some(filter.to_owned()),
            ..Source::default()
        };
        let later: Source =
            serde_json::from_value(json!({ "name": "far", "opt_start_time": "2026-03-01T00:00:00Z" })).unwrap();
        let with = |sources: Vec<Source>, subjects: &[&str]| Config {
            name: "shop_all".into(),
            subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
            sources: Some(sources),
            ..Config::default()
        };
        let streams = HashMap::from([("gone".to_owned(), None)]);
        let origins = Origins { streams, at: Timestamp::UNIX_EPOCH };
        for (live, want) in [
            (with(vec![source("far", "")], &[]), Some(Reason::SourceElsewhere)),
            (with(vec![source("far", "")], &["shop.a.>"]), Some(Reason::SourceElsewhere)),
            (with(vec![source("gone", "")], &["shop.b"]), Some(Reason::SourceNotFound)),
            (with(vec![later.clone()], &["shop.b"]), Some(Reason::SourceInFuture)),
            (with(vec![later], &["shop.>"]), None),
            (with(vec![source("gone", "shop.a.>")], &["shop.b"]), Some(Reason::SourceNotFound)),
            (with(vec![source("far", "")], &["shop.>"]), None),
            (with(vec![source("far", "shop.>")], &[]), None),
            (with(vec![source("far", "other.>")], &["shop.>"]), None),
        ] {
            let plan = existing();
            let unsure = plan.readable(&live, &origins).unwrap();
            assert_eq!(unsure.map(|unsure| unsure.reason), want, "{live:?}");
        }
    }

    #[test]
    fn only_the_consumer_of_an_existing_stream_is_restricted() {
        let at = Timestamp::from_second(1).unwrap();
        assert_eq!(plan(&json!({ "subjects": ["shop.a"] })).consumer(at, None).filter_subjects, Vec::<String>::new());
        let plan = existing();
        assert_eq!(plan.consumer(at, None).filter_subjects, ["shop.a.>", "shop.b"]);
    }

    #[test]
    fn a_consumer_may_have_begun_anywhere_but_not_skip_what_there_was() {
        let (plan, at) = (existing(), Timestamp::from_second(1).unwrap());
        let like = |deliver_policy| {
            let live = consumer::Config { deliver_policy, ..plan.consumer(at, None) };
            drift::consumer(&plan.consumer_like(&live, at), &live)
        };
        assert_eq!(like(DeliverPolicy::All), None);
        assert_eq!(like(DeliverPolicy::ByStartSequence { start_sequence: 9 }), None);
        assert_eq!(like(DeliverPolicy::New), Some(drift::ConsumerFix::Recreate));
    }

    #[test]
    fn a_vanished_consumer_goes_on_where_it_was() {
        let plan = plan(&json!({ "subjects": ["shop.a"] }));
        let at = |second| Timestamp::from_second(second).unwrap();
        let checkpoint = |created, ack_floor| Checkpoint::new(at(created), ack_floor, None);
        let start = |checkpoint: Option<&Checkpoint>| plan.consumer(at(1), checkpoint).deliver_policy;
        assert_eq!(start(None), DeliverPolicy::All);
        assert_eq!(start(Some(&checkpoint(1, 9))), DeliverPolicy::ByStartSequence { start_sequence: 10 });
        assert_eq!(start(Some(&checkpoint(1, 0))), DeliverPolicy::All);
        assert_eq!(start(Some(&checkpoint(2, 9))), DeliverPolicy::All, "another stream of the same name");
    }
}
