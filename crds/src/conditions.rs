//! Conditions: their types, their reasons, and how one is written.
//!
//! The vocabulary is the Gateway API's (Accepted, ResolvedRefs, Programmed), with Ready as the summary, and kstatus'
//! Reconciling and Stalled. EndpointHealthy stays outside Ready: an outage of a receiver is not a fault of the object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Types of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The spec is valid and permitted.
    Accepted,
    /// Everything that the spec refers to was found and may be used.
    ResolvedRefs,
    /// Dispatchers have loaded this generation, and what it needs in NATS exists.
    Programmed,
    /// The summary: what is published now is delivered.
    Ready,
    /// How the endpoint answers. Not part of Ready.
    EndpointHealthy,
    /// Events were removed from the stream before a dispatcher received them. There only when it is true; not part of
    /// Ready.
    EventsLost,
    /// The stream is another one of the same name than before. There only when it is true; not part of Ready.
    StreamReplaced,
    /// Nothing more happens without an edit (kstatus: Failed).
    Stalled,
    /// Work is under way (kstatus: InProgress).
    Reconciling,
}

impl ConditionType {
    /// The text in `conditions[].type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
            Self::Ready => "Ready",
            Self::EndpointHealthy => "EndpointHealthy",
            Self::EventsLost => "EventsLost",
            Self::StreamReplaced => "StreamReplaced",
            Self::Stalled => "Stalled",
            Self::Reconciling => "Reconciling",
        }
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It doesn't: a real failure.
    False,
    /// Not known yet.
    Unknown,
}

impl ConditionStatus {
    /// The text in `conditions[].status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Declares [`Reason`], so that a variant and its text cannot differ.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Reasons of conditions. Part of the API: scripts compare them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// The text in `conditions[].reason`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    /// The spec is valid and permitted.
    Accepted,
    /// The spec says something that can't be done; the message says what.
    Invalid,
    /// The namespace may not use one of the subjects.
    SubjectNotAllowed,
    /// A subject overlaps with another stream's.
    SubjectConflict,
    /// The namespace may not use this stream name.
    StreamNameNotAllowed,
    /// A stream of this name exists and belongs to someone else.
    StreamOwnedByAnother,
    /// The stream that the Producer is to read doesn't exist.
    StreamNotFound,
    /// The stream that the Producer is to read has another retention than Limits.
    StreamRetentionUnsupported,
    /// The stream that the Producer is to read doesn't take one of the subjects.
    SubjectNotInStream,
    /// The stream would have to change in a way that NATS doesn't allow.
    StreamImmutable,
    /// A published version of an EventSchema was edited.
    VersionPublished,
    /// A minor version doesn't accept what an older one accepts.
    IncompatibleVersion,
    /// An older EventSchema is for the same type.
    TypeConflict,
    /// The Producer has as many EventSchemas as it may have.
    TooManyEventSchemas,
    /// No Producer of this name exists in the namespace.
    ProducerNotFound,
    /// No Producer of this name exists in the other namespace, or it doesn't let this namespace in.
    RefNotPermitted,
    /// The Producer exists and isn't ready.
    ProducerNotReady,
    /// A Secret doesn't exist.
    SecretNotFound,
    /// A Secret lacks the key.
    SecretKeyMissing,
    /// A Secret lacks the label that permits its use.
    SecretNotLabelled,
    /// A Secret's value can't be used as what it is meant for.
    SecretInvalid,
    /// The name of the Secret to be generated is taken by one that isn't ours.
    SecretNameTaken,
    /// Everything referred to was found.
    ResolvedRefs,
    /// All live dispatchers have loaded this generation.
    Programmed,
    /// Waiting; the message says for what.
    Pending,
    /// No dispatcher is alive.
    NoDispatchers,
    /// No dispatcher can use all records of the Producer, so none serves it.
    Unserved,
    /// NATS doesn't answer the operator.
    NatsUnavailable,
    /// What is published now is delivered.
    Ready,
    /// The endpoint answers well.
    EndpointHealthy,
    /// The endpoint fails.
    EndpointFailing,
    /// The endpoint answered 410 Gone.
    EndpointGone,
    /// A limit of the stream, a purge or a deletion removed events that no dispatcher had received.
    EventsLost,
    /// The stream was deleted and created again.
    StreamReplaced,
}

/// A condition as it is now. Its transition time is `now` until [`set_condition`] finds that nothing changed.
pub fn condition(
    type_: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: impl Into<String>,
    observed_generation: Option<i64>,
    now: jiff::Timestamp,
) -> Condition {
    Condition {
        type_: type_.as_str().into(),
        status: status.as_str().into(),
        reason: reason.as_str().into(),
        message: message.into(),
        observed_generation,
        last_transition_time: Time(now),
    }
}

/// Puts `new` into the list in place of the condition of its type, and returns whether the list changed.
///
/// The transition time of the old condition is kept unless the status differs, as the Kubernetes API conventions ask.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition) -> bool {
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == new.type_) else {
        conditions.push(new);
        return true;
    };
    if old.status == new.status {
        new.last_transition_time = old.last_transition_time.clone();
    }
    let changed = *old != new;
    *old = new;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: ConditionStatus, reason: Reason, second: i64) -> Condition {
        let now = jiff::Timestamp::from_second(second).unwrap();
        condition(ConditionType::Ready, status, reason, "m", Some(1), now)
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut list = vec![];
        assert!(set_condition(&mut list, ready(ConditionStatus::Unknown, Reason::Pending, 10)));
        assert!(!set_condition(&mut list, ready(ConditionStatus::Unknown, Reason::Pending, 20)));
        assert!(set_condition(&mut list, ready(ConditionStatus::Unknown, Reason::NoDispatchers, 30)));
        assert_eq!(list[0].last_transition_time.0.as_second(), 10);
        assert!(set_condition(&mut list, ready(ConditionStatus::True, Reason::Ready, 40)));
        assert_eq!(list[0].last_transition_time.0.as_second(), 40);
        assert_eq!(list.len(), 1);
    }
}
