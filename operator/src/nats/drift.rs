//! Compares the configuration of a stream or a consumer with the one that Hookwright would create, all fields of it.
//!
//! A few fields stay as an administrator has them, because any value serves: placement, compression, description and
//! metadata, and files where the settings ask for memory.

use std::collections::BTreeMap;

use async_nats::jetstream::consumer::{self, DeliverPolicy};
use async_nats::jetstream::stream;
use async_nats::jetstream::stream::{PersistenceMode, StorageType};
use serde::Serialize;
use serde_json::Value;

/// What has to be done about a consumer that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ConsumerFix {
    /// The consumer is to be updated to this configuration.
    Update(Box<consumer::Config>),
    /// The consumer has to be deleted and created again, as NATS doesn't change these fields in place.
    Recreate,
}

/// Returns the configuration that sets the stream right, or none if the stream is right.
pub(crate) fn stream(wanted: &stream::Config, live: &stream::Config) -> Option<stream::Config> {
    let right = stream::Config {
        // What is in memory is gone when its servers restart.
        storage: match wanted.storage {
            StorageType::File => StorageType::File,
            StorageType::Memory => live.storage,
        },
        // A message that is stored asynchronously is acknowledged before that.
        persist_mode: live.persist_mode.filter(|mode| *mode == PersistenceMode::Default),
        first_sequence: live.first_sequence,
        template_owner: live.template_owner.clone(),
        placement: live.placement.clone(),
        compression: live.compression.clone(),
        description: live.description.clone(),
        metadata: live.metadata.clone(),
        // NATS doesn't turn these off again, and none of them is in the way.
        deny_delete: wanted.deny_delete || live.deny_delete,
        deny_purge: live.deny_purge && !normal_stream(wanted).allow_rollup,
        allow_message_ttl: wanted.allow_message_ttl || live.allow_message_ttl,
        allow_message_schedules: wanted.allow_message_schedules || live.allow_message_schedules,
        ..wanted.clone()
    };
    (normal_stream(&right) != normal_stream(live)).then_some(right)
}

/// Returns the same configuration with one value for each meaning. NATS has two values for "no limit", 0 and -1.
fn normal_stream(config: &stream::Config) -> stream::Config {
    stream::Config {
        max_bytes: config.max_bytes.max(0),
        max_messages: config.max_messages.max(0),
        max_messages_per_subject: config.max_messages_per_subject.max(0),
        max_message_size: config.max_message_size.max(0),
        max_consumers: config.max_consumers.max(0),
        sources: config.sources.clone().filter(|sources| !sources.is_empty()),
        // With schedules the server turns this on.
        allow_rollup: config.allow_rollup || config.allow_message_schedules,
        ..config.clone()
    }
}

/// Returns what sets the consumer right, or none if it is right. A pause is not looked at: it is no matter of an update.
pub(crate) fn consumer(wanted: &consumer::Config, live: &consumer::Config) -> Option<ConsumerFix> {
    let right = consumer::Config {
        description: live.description.clone(),
        metadata: live.metadata.clone(),
        pause_until: live.pause_until,
        ..wanted.clone()
    };
    let (normal_right, normal_live) = (normal_consumer(&right), normal_consumer(live));
    if normal_right == normal_live {
        return None;
    }
    let updatable = consumer::Config {
        durable_name: live.durable_name.clone(),
        deliver_subject: live.deliver_subject.clone(),
        deliver_group: live.deliver_group.clone(),
        deliver_policy: live.deliver_policy,
        ack_policy: live.ack_policy,
        replay_policy: live.replay_policy,
        memory_storage: live.memory_storage,
        flow_control: live.flow_control,
        idle_heartbeat: live.idle_heartbeat,
        max_waiting: live.max_waiting,
        ..right.clone()
    };
    Some(if updatable == right { ConsumerFix::Update(Box::new(right)) } else { ConsumerFix::Recreate })
}

/// Returns whether the ack floor of this consumer says which events are done. It says nothing if the consumer is of
/// another kind than Hookwright creates.
pub(crate) fn has_own_floor(live: &consumer::Config) -> bool {
    live.deliver_subject.is_none()
        && live.ack_policy == consumer::AckPolicy::Explicit
        && matches!(live.deliver_policy, DeliverPolicy::All | DeliverPolicy::ByStartSequence { .. })
}

fn normal_consumer(config: &consumer::Config) -> consumer::Config {
    // NATS has a field for one subject and a field for a list.
    let one = (!config.filter_subject.is_empty()).then(|| config.filter_subject.clone());
    let mut filter_subjects: Vec<String> = config.filter_subjects.iter().cloned().chain(one).collect();
    filter_subjects.sort();
    consumer::Config { filter_subject: String::new(), filter_subjects, ..config.clone() }
}

/// Names the fields in which `live` differs from `right`, each with its value in `live`.
pub(crate) fn differences(right: &stream::Config, live: &stream::Config) -> String {
    let (right, live) = (fields(&normal_stream(right)), fields(&normal_stream(live)));
    let differing = right.keys().chain(live.keys()).filter(|field| right.get(*field) != live.get(*field));
    let mut texts: Vec<String> = differing.map(|field| told(field, live.get(field))).collect();
    texts.sort();
    texts.dedup();
    texts.join(", ")
}

fn told(field: &str, value: Option<&Value>) -> String {
    value.map_or_else(|| format!("no {field}"), |value| format!("{field}: {value}"))
}

fn fields(config: &impl Serialize) -> BTreeMap<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(map)) => map.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::configs;
    use crate::settings::SystemStreams;
    use async_nats::jetstream::consumer::{AckPolicy, PriorityPolicy};
    use async_nats::jetstream::stream::{
        Config, ConsumerLimits, DiscardPolicy, Republish, RetentionPolicy, Source, SubjectTransform,
    };
    use hookwright_core::nats::installation::Names;
    use std::time::Duration;

    /// An edit that has to be put right.
    type Edit<T> = (&'static str, fn(&mut T));

    #[test]
    fn every_edit_of_a_stream_is_put_right() {
        let edits: [Edit<Config>; 21] = [
            ("subjects", |c| c.subjects = vec!["other.>".into()]),
            ("max_msgs", |c| c.max_messages = 5),
            ("max_bytes", |c| c.max_bytes = 5),
            ("max_msgs_per_subject", |c| c.max_messages_per_subject = 7),
            ("max_msg_size", |c| c.max_message_size = 5),
            ("max_age", |c| c.max_age = Duration::from_secs(7)),
            ("max_consumers", |c| c.max_consumers = 1),
            ("duplicate_window", |c| c.duplicate_window = Duration::from_secs(1)),
            ("num_replicas", |c| c.num_replicas = 3),
            ("retention", |c| c.retention = RetentionPolicy::Interest),
            ("discard", |c| {
                c.discard = if c.discard == DiscardPolicy::Old { DiscardPolicy::New } else { DiscardPolicy::Old };
            }),
            ("discard_new_per_subject", |c| c.discard_new_per_subject = true),
            ("no_ack", |c| c.no_ack = true),
            ("sealed", |c| c.sealed = true),
            ("allow_direct", |c| c.allow_direct = false),
            ("republish", |c| {
                c.republish = Some(Republish { source: ">".into(), destination: "x.>".into(), headers_only: false });
            }),
            ("subject_transform", |c| {
                c.subject_transform = Some(SubjectTransform { source: ">".into(), destination: "x.>".into() });
            }),
            ("sources", |c| c.sources = Some(vec![Source::default()])),
            ("consumer_limits", |c| {
                c.consumer_limits =
                    Some(ConsumerLimits { inactive_threshold: Duration::from_secs(1), max_ack_pending: 1 });
            }),
            ("allow_msg_counter", |c| c.allow_message_counter = true),
            ("persist_mode", |c| c.persist_mode = Some(PersistenceMode::Async)),
        ];
        for wanted in configs::streams(SystemStreams::default(), &Names::default()) {
            for (field, edit) in &edits {
                let mut live = wanted.clone();
                edit(&mut live);
                let right = stream(&wanted, &live).unwrap_or_else(|| panic!("{}: {field}", wanted.name));
                assert_eq!(right, wanted);
                assert!(differences(&right, &live).contains(field), "{}", differences(&right, &live));
            }
        }
    }

    #[test]
    fn purges_may_be_denied_where_nothing_rolls_up() {
        for wanted in configs::streams(SystemStreams::default(), &Names::default()) {
            let live = Config { deny_purge: true, ..wanted.clone() };
            let is_dead_letters = wanted.name == hookwright_core::nats::names::DEAD_LETTER_STREAM;
            assert_eq!(stream(&wanted, &live).is_none(), is_dead_letters, "{}", wanted.name);
        }
    }

    #[test]
    fn what_any_value_serves_stays() {
        let edits: [Edit<Config>; 9] = [
            ("the server's values", |c| {
                (c.max_messages, c.max_bytes, c.max_message_size, c.max_consumers) = (-1, -1, -1, -1);
            }),
            ("storage", |c| c.storage = StorageType::File),
            ("description", |c| c.description = Some("ours".into())),
            ("metadata", |c| drop(c.metadata.insert("_nats.ver".into(), "2.15.2".into()))),
            ("compression", |c| c.compression = Some(async_nats::jetstream::stream::Compression::S2)),
            ("persist_mode", |c| c.persist_mode = Some(PersistenceMode::Default)),
            ("deny_delete", |c| c.deny_delete = true),
            ("allow_msg_ttl", |c| c.allow_message_ttl = true),
            ("sources", |c| c.sources = Some(vec![])),
        ];
        for wanted in configs::streams(SystemStreams::default(), &Names::default()) {
            for (field, edit) in &edits {
                let mut live = wanted.clone();
                edit(&mut live);
                assert_eq!(stream(&wanted, &live), None, "{}: {field}", wanted.name);
            }
            let in_memory = Config { storage: StorageType::Memory, ..wanted.clone() };
            let differs = wanted.storage == StorageType::File;
            assert_eq!(stream(&wanted, &in_memory).is_some(), differs, "{} in memory", wanted.name);
        }
        let memory = SystemStreams { storage: crate::settings::Storage::Memory, ..SystemStreams::default() };
        let parked = hookwright_core::nats::names::PARKED_STREAM;
        let wanted =
            configs::streams(memory, &Names::default()).into_iter().find(|config| config.name == parked).unwrap();
        let in_files = Config { storage: StorageType::File, ..wanted.clone() };
        assert_eq!(stream(&wanted, &in_files), None);
        assert_eq!(stream(&wanted, &wanted), None);
    }

    #[test]
    fn every_edit_of_a_consumer_is_put_right() {
        let edits: [Edit<consumer::Config>; 13] = [
            ("ack_wait", |c| c.ack_wait = Duration::from_secs(60)),
            ("max_deliver", |c| c.max_deliver = 3),
            ("max_ack_pending", |c| c.max_ack_pending = 1),
            ("filter", |c| c.filter_subject = "other".into()),
            ("headers_only", |c| c.headers_only = true),
            ("max_batch", |c| c.max_batch = 1),
            ("max_bytes", |c| c.max_bytes = 1),
            ("max_expires", |c| c.max_expires = Duration::from_secs(1)),
            ("rate_limit", |c| c.rate_limit = 1),
            ("sample_frequency", |c| c.sample_frequency = 100),
            ("inactive_threshold", |c| c.inactive_threshold = Duration::from_secs(1)),
            ("backoff", |c| c.backoff = vec![Duration::from_secs(1)]),
            ("priority", |c| {
                (c.priority_policy, c.priority_groups) = (PriorityPolicy::Overflow, vec!["a".into()]);
            }),
        ];
        let wanted = configs::due(&Names::default());
        for (field, edit) in edits {
            let mut live = wanted.clone();
            edit(&mut live);
            assert_eq!(consumer(&wanted, &live), Some(ConsumerFix::Update(Box::new(wanted.clone()))), "{field}");
        }
        let recreated: [Edit<consumer::Config>; 5] = [
            ("deliver_policy", |c| c.deliver_policy = DeliverPolicy::New),
            ("ack_policy", |c| c.ack_policy = AckPolicy::All),
            ("max_waiting", |c| c.max_waiting = 1),
            ("mem_storage", |c| c.memory_storage = true),
            ("deliver_subject", |c| c.deliver_subject = Some("x".into())),
        ];
        for (field, edit) in recreated {
            let mut live = wanted.clone();
            edit(&mut live);
            assert_eq!(consumer(&wanted, &live), Some(ConsumerFix::Recreate), "{field}");
        }
    }

    #[test]
    fn the_same_consumer_in_other_words() {
        let wanted =
            consumer::Config { filter_subjects: vec!["a".into(), "b".into()], ..configs::due(&Names::default()) };
        let wanted = consumer::Config { filter_subject: String::new(), ..wanted };
        let mut live = consumer::Config { filter_subjects: vec!["b".into(), "a".into()], ..wanted.clone() };
        live.metadata.insert("_nats.ver".into(), "2.15.2".into());
        live.pause_until = Some(async_nats::datetime::DateTime::UNIX_EPOCH);
        assert_eq!(consumer(&wanted, &live), None);
        let (one, list) = (configs::due(&Names::default()), |c: consumer::Config| consumer::Config {
            filter_subjects: vec![c.filter_subject],
            filter_subject: String::new(),
            ..c
        });
        assert_eq!(consumer(&one, &list(one.clone())), None);
    }

    #[test]
    fn a_floor_is_trusted_only_of_our_own_kind_of_consumer() {
        let own = configs::due(&Names::default());
        assert!(has_own_floor(&own));
        let from = DeliverPolicy::ByStartSequence { start_sequence: 7 };
        assert!(has_own_floor(&consumer::Config { deliver_policy: from, ..own.clone() }));
        assert!(!has_own_floor(&consumer::Config { deliver_policy: DeliverPolicy::New, ..own.clone() }));
        assert!(!has_own_floor(&consumer::Config { ack_policy: AckPolicy::None, ..own.clone() }));
        assert!(!has_own_floor(&consumer::Config { deliver_subject: Some("x".into()), ..own }));
    }
}
