//! Step 2: checks what the API server can't check. The API server's rules are checked again where a violation would
//! harm NATS, as an object may be older than a rule.

use std::time::Duration;

use hookwright_core::event::event_type::{EventTypeRule, EventTypeSource};
use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::nats::subject::overlap;
use hookwright_core::record::Validation;
use hookwright_crds::{
    DeletionPolicy, Discard, EventType, EventTypeFrom, Producer, Quantity, Reason, Storage, Stream, StreamPolicy,
};
use kube::{Resource, ResourceExt};

use crate::cache::references::stream_name;
use crate::payload_policies;
use crate::quotas::Quota;
use crate::refusal::Refusal;
use crate::tenancy::{Tenancy, is_stream_name, is_subject};

/// The bytes that a message may need for Hookwright's headers when its event is parked or kept as a dead letter.
const HEADROOM: usize = 32 * 1024;
/// The default of NATS.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// How long a stream keeps an event that says nothing of it. Without a bound every installation fills up one day.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A Producer that is valid and keeps to its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValidatedProducer {
    pub(crate) uid: ProducerUid,
    pub(crate) generation: i64,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) policy: StreamPolicy,
    pub(crate) stream: String,
    pub(crate) subjects: Vec<String>,
    pub(crate) storage: Storage,
    pub(crate) replicas: usize,
    pub(crate) max_age: Duration,
    pub(crate) max_bytes: i64,
    pub(crate) max_message_size: i32,
    pub(crate) discard: Discard,
    pub(crate) duplicate_window: Duration,
    pub(crate) deletion_policy: DeletionPolicy,
    pub(crate) event_type: EventTypeRule,
    pub(crate) validation: Validation,
}

/// Returns whether the Producer's stream is managed, or exists already.
pub(crate) fn policy(producer: &Producer) -> StreamPolicy {
    producer.spec.stream.as_ref().and_then(|stream| stream.policy).unwrap_or_default()
}

pub(crate) fn validate(
    producer: &Producer,
    uid: &ProducerUid,
    max_payload: usize,
    tenancy: &Tenancy,
    quota: &Quota,
) -> Result<ValidatedProducer, Refusal> {
    payload_policies::check(producer.spec.payload_policies.as_ref())?;
    let namespace = producer.namespace().unwrap_or_default();
    let default = Stream::default();
    let stream = producer.spec.stream.as_ref().unwrap_or(&default);
    let max_age = within("stream.maxAge", stream.max_age.as_ref(), MAX_AGE, quota.max_age)?;
    let window = stream.duplicate_window.as_ref();
    let window = within("stream.duplicateWindow", window, DUPLICATE_WINDOW.min(max_age), quota.duplicate_window)?;
    Ok(ValidatedProducer {
        uid: uid.clone(),
        generation: producer.meta().generation.unwrap_or_default(),
        policy: policy(producer),
        stream: allowed_stream(producer, &namespace, tenancy)?,
        subjects: allowed_subjects(producer, &namespace, tenancy)?,
        storage: stream.storage.unwrap_or_default(),
        replicas: replicas(stream.replicas.unwrap_or(1), quota)?,
        max_age,
        max_bytes: match &stream.max_bytes {
            Some(bytes) => limit("stream.maxBytes", bytes)?,
            None => i64::try_from(quota.default_max_bytes).unwrap_or(i64::MAX),
        },
        max_message_size: message_size(stream.max_message_size.as_ref(), max_payload)?,
        discard: stream.discard.unwrap_or_default(),
        deletion_policy: stream.deletion_policy.unwrap_or_default(),
        duplicate_window: window,
        event_type: event_type(producer.spec.event_type.as_ref())?,
        validation: match producer.spec.validation.unwrap_or_default() {
            hookwright_crds::Validation::Ignore => Validation::Ignore,
            hookwright_crds::Validation::Warn => Validation::Warn,
            hookwright_crds::Validation::Enforce => Validation::Enforce,
        },
        name: producer.name_any(),
        namespace,
    })
}

fn invalid(message: String) -> Refusal {
    Refusal::new(Reason::Invalid, message)
}

fn allowed_stream(producer: &Producer, namespace: &str, tenancy: &Tenancy) -> Result<String, Refusal> {
    let name = stream_name(producer);
    tenancy.allows_stream(namespace, &name)?;
    if !is_stream_name(&name) {
        return Err(invalid(format!("stream.name {name:?} may have letters, digits, '_' and '-' only.")));
    }
    Ok(name)
}

fn allowed_subjects(producer: &Producer, namespace: &str, tenancy: &Tenancy) -> Result<Vec<String>, Refusal> {
    let subjects = &producer.spec.subjects;
    for (i, subject) in subjects.iter().enumerate() {
        if !is_subject(subject) {
            return Err(invalid(format!("subject {subject:?} is not a NATS subject.")));
        }
        tenancy.allows_subject(namespace, subject)?;
        if let Some(other) = subjects[..i].iter().find(|other| overlap(subject, other)) {
            return Err(invalid(format!("subjects {other:?} and {subject:?} overlap.")));
        }
    }
    if subjects.is_empty() {
        return Err(invalid("subjects is empty.".to_owned()));
    }
    Ok(subjects.clone())
}

/// Returns the duration, or the default as far as it is allowed.
fn within(
    field: &str,
    value: Option<&hookwright_crds::Duration>,
    default: Duration,
    most: Duration,
) -> Result<Duration, Refusal> {
    let Some(value) = value else { return Ok(default.min(most)) };
    let read = value.to_std().filter(|duration| !duration.is_zero() && u64::try_from(duration.as_nanos()).is_ok());
    match read {
        None => Err(invalid(format!("{field} {value} can't be used as a duration."))),
        Some(read) if read > most => {
            let message =
                format!("{field} {value} is longer than the {} s that the namespace may have.", most.as_secs());
            Err(Refusal::new(Reason::QuotaExceeded, message))
        }
        Some(read) => Ok(read),
    }
}

fn replicas(given: i32, quota: &Quota) -> Result<usize, Refusal> {
    let replicas = usize::try_from(given).map_err(|_| invalid("stream.replicas is negative.".to_owned()))?;
    if replicas > quota.replicas {
        let message =
            format!("stream.replicas {given} is more than the {} that the namespace may have.", quota.replicas);
        return Err(Refusal::new(Reason::QuotaExceeded, message));
    }
    Ok(replicas)
}

fn limit(field: &str, value: &Quantity) -> Result<i64, Refusal> {
    let bytes = value.to_bytes().and_then(|bytes| i64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| invalid(format!("{field} {value} is not a number of bytes.")))
}

fn message_size(value: Option<&Quantity>, max_payload: usize) -> Result<i32, Refusal> {
    let largest = i32::try_from(max_payload.saturating_sub(HEADROOM)).unwrap_or(i32::MAX).max(1);
    let Some(value) = value else { return Ok(largest) };
    let bytes = limit("stream.maxMessageSize", value)?;
    i32::try_from(bytes).ok().filter(|bytes| *bytes <= largest).ok_or_else(|| {
        invalid(format!(
            "stream.maxMessageSize {value} is more than the {largest} bytes that this NATS server allows: its max_payload \
             of {max_payload}, less {HEADROOM} for headers."
        ))
    })
}

fn event_type(spec: Option<&EventType>) -> Result<EventTypeRule, Refusal> {
    let Some(spec) = spec else { return Ok(EventTypeRule::default()) };
    let from = match (spec.from, &spec.header) {
        (None, _) => None,
        (Some(EventTypeFrom::CloudEvents), _) => Some(EventTypeSource::CloudEvents),
        (Some(EventTypeFrom::Subject), _) => Some(EventTypeSource::Subject),
        (Some(EventTypeFrom::Header), Some(name)) => Some(EventTypeSource::Header { name: name.clone() }),
        (Some(EventTypeFrom::Header), None) => {
            return Err(invalid("eventType.header is required with from: Header.".to_owned()));
        }
    };
    Ok(EventTypeRule { from, strip_prefix: spec.strip_prefix.clone() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(crate) fn producer(spec: &Value) -> Producer {
        let metadata = json!({ "namespace": "shop", "name": "orders", "uid": "p-1", "generation": 3 });
        let object = json!({
            "apiVersion": "hookwright.dev/v1alpha1", "kind": "Producer", "metadata": metadata, "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }

    fn validated_in(producer: &Producer) -> Result<ValidatedProducer, Refusal> {
        validate(producer, &ProducerUid::parse("p-1").unwrap(), 1 << 20, &Tenancy::default(), &Quota::default())
    }

    pub(crate) fn validated(spec: &Value) -> Result<ValidatedProducer, Refusal> {
        validated_in(&producer(spec))
    }

    #[test]
    fn defaults() {
        let valid = validated(&json!({ "subjects": ["shop.>"] })).unwrap();
        assert_eq!(valid.stream, "shop_orders");
        assert_eq!(valid.max_message_size, (1 << 20) - 32 * 1024);
        assert_eq!((valid.duplicate_window, valid.max_age), (DUPLICATE_WINDOW, MAX_AGE));
        assert_eq!(valid.max_bytes, 1 << 30);
        let valid = validated(&json!({ "subjects": ["shop.>"], "stream": { "maxAge": "30s" } })).unwrap();
        assert_eq!(valid.duplicate_window, Duration::from_secs(30));
    }

    #[test]
    fn refusals() {
        let with = |stream: Value| json!({ "subjects": ["shop.a"], "stream": stream });
        for (spec, want) in [
            (json!({ "subjects": ["other.>"] }), Reason::SubjectNotAllowed),
            (json!({ "subjects": ["shop"] }), Reason::SubjectNotAllowed),
            (json!({ "subjects": ["shopping.>"] }), Reason::SubjectNotAllowed),
            (json!({ "subjects": ["*.a"] }), Reason::SubjectNotAllowed),
            (json!({ "subjects": [">"] }), Reason::SubjectNotAllowed),
            (json!({ "subjects": ["shop.a", "hookwright.parked.>"] }), Reason::SubjectNotAllowed),
            (json!({ "subjects": ["shop..a"] }), Reason::Invalid),
            (json!({ "subjects": ["shop.a\r\nPUB x 0"] }), Reason::Invalid),
            (json!({ "subjects": ["shop.>.a"] }), Reason::Invalid),
            (json!({ "subjects": [] }), Reason::Invalid),
            (json!({ "subjects": ["shop.a.>", "shop.*.b"] }), Reason::Invalid),
            (with(json!({ "name": "other_a" })), Reason::StreamNameNotAllowed),
            (with(json!({ "name": "KV_HOOKWRIGHT_CONFIG" })), Reason::StreamNameNotAllowed),
            (with(json!({ "policy": "Existing", "name": "other_a" })), Reason::StreamNameNotAllowed),
            (with(json!({ "policy": "Existing", "name": "HOOKWRIGHT_PARKED" })), Reason::StreamNameNotAllowed),
            (with(json!({ "name": "shop_a.b" })), Reason::Invalid),
            (with(json!({ "maxAge": "soon" })), Reason::Invalid),
            (with(json!({ "maxBytes": -1 })), Reason::Invalid),
            (with(json!({ "maxMessageSize": "1Mi" })), Reason::Invalid),
            (with(json!({ "replicas": -1 })), Reason::Invalid),
            (with(json!({ "replicas": 6 })), Reason::QuotaExceeded),
            (with(json!({ "maxAge": "9000h" })), Reason::QuotaExceeded),
            (with(json!({ "duplicateWindow": "2h" })), Reason::QuotaExceeded),
        ] {
            assert_eq!(validated(&spec).unwrap_err().reason, want, "{spec}");
        }
        assert!(validated(&with(json!({ "name": "shop_a", "maxMessageSize": "992Ki" }))).is_ok());
    }

    #[test]
    fn hookwright_is_refused_even_in_a_namespace_of_that_name() {
        let mut producer = producer(&json!({ "subjects": ["hookwright.a"] }));
        producer.metadata.namespace = Some("hookwright".into());
        let refusal = validated_in(&producer).unwrap_err();
        assert_eq!(refusal.reason, Reason::SubjectNotAllowed);
    }
}
