//! Conditions: their types, their reasons, and how one is set.
//!
//! The types are those of the Gateway API (Accepted, ResolvedRefs, Programmed), Ready as the summary, and those of
//! kstatus (Reconciling, Stalled). EndpointHealthy and Delivering don't count for Ready: an outage of a receiver is not a
//! fault of the object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The spec is valid and permitted.
    Accepted,
    /// Everything that the spec refers to exists and may be used.
    ResolvedRefs,
    /// Dispatchers have loaded this generation, and everything that it needs in NATS exists.
    Programmed,
    /// The summary: events that are published now are delivered.
    Ready,
    /// Whether the endpoint accepts deliveries. It doesn't count for Ready.
    EndpointHealthy,
    /// Whether events are sent now, or wait. It doesn't count for Ready.
    Delivering,
    /// Whether evaluations of filters succeed. It doesn't count for Ready.
    FiltersHealthy,
    /// The stream dropped events while they waited for a Subscription. The condition is present only while it is True,
    /// and doesn't count for Ready.
    EventsMissed,
    /// A payload policy of the Producer has withheld all of an event's data. The condition is present only while it is
    /// True, and doesn't count for Ready.
    PayloadWithheld,
    /// Events were removed from the stream before a dispatcher received them. The condition is present only while it is
    /// True, and doesn't count for Ready.
    EventsLost,
    /// Another stream of the same name is in place of the one before. The condition is present only while it is True,
    /// and doesn't count for Ready.
    StreamReplaced,
    /// It can't be known whether the existing stream stores the Producer's subjects. The condition is present only while
    /// it is True, and doesn't count for Ready.
    SubjectsUnknown,
    /// What may be kept in NATS is more than its account lets be kept, so there may be no room for the Producer's stream
    /// or its events. The condition is present only while it is True, and doesn't count for Ready.
    StorageOvercommitted,
    /// Nothing more happens until the object is edited (kstatus: Failed).
    Stalled,
    /// The operator is still working on the object (kstatus: InProgress).
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
            Self::Delivering => "Delivering",
            Self::FiltersHealthy => "FiltersHealthy",
            Self::EventsMissed => "EventsMissed",
            Self::PayloadWithheld => "PayloadWithheld",
            Self::EventsLost => "EventsLost",
            Self::StreamReplaced => "StreamReplaced",
            Self::SubjectsUnknown => "SubjectsUnknown",
            Self::StorageOvercommitted => "StorageOvercommitted",
            Self::Stalled => "Stalled",
            Self::Reconciling => "Reconciling",
        }
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition doesn't hold: there is a real failure.
    False,
    /// It is not known yet whether the condition holds.
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
        /// The reason of a condition. The texts are part of the API, because scripts compare them.
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
    /// The spec asks for something that can't be done; the message names it.
    Invalid,
    /// A filter doesn't compile; the message shows where.
    InvalidFilter,
    /// The namespace is not allowed to use one of the subjects.
    SubjectNotAllowed,
    /// A subject overlaps with a subject of another stream.
    SubjectConflict,
    /// The namespace is not allowed to use this stream name.
    StreamNameNotAllowed,
    /// A stream of this name exists and doesn't belong to this Producer.
    StreamOwnedByAnother,
    /// The stream that the Producer is to read doesn't exist.
    StreamNotFound,
    /// The stream that the Producer is to read has a retention other than Limits.
    StreamRetentionUnsupported,
    /// The stream that the Producer is to read doesn't store one of the subjects.
    SubjectNotInStream,
    /// The stream is sealed, so nothing can be published to it.
    StreamSealed,
    /// The stream sources or mirrors one of Hookwright's own streams.
    StreamSourceNotAllowed,
    /// The stream's limits for consumers let the Producer's consumer vanish too soon.
    StreamConsumerLimits,
    /// A limit of the NATS server or the account stands in the way.
    NatsLimitReached,
    /// The stream would have to change in a way that NATS doesn't allow.
    StreamImmutable,
    /// A published version of an EventSchema was edited.
    VersionPublished,
    /// A minor version doesn't accept everything that an older one accepts.
    IncompatibleVersion,
    /// An older EventSchema exists for the same event type.
    TypeConflict,
    /// The Producer already has as many EventSchemas as it may have.
    TooManyEventSchemas,
    /// The namespace has as much as it may have.
    QuotaExceeded,
    /// No Producer of this name exists in the namespace.
    ProducerNotFound,
    /// No Producer, or no Service, of this name exists in the other namespace, or it doesn't allow this namespace.
    RefNotPermitted,
    /// The Producer exists, but isn't Ready.
    ProducerNotReady,
    /// No Service of this name exists in the namespace.
    ServiceNotFound,
    /// The Service has no cluster IP, no selector, not the port, or an address that the installation denies.
    ServiceUnsupported,
    /// A Secret doesn't exist.
    SecretNotFound,
    /// A Secret lacks the key.
    SecretKeyMissing,
    /// A Secret lacks the label that permits Hookwright to use it.
    SecretNotLabelled,
    /// A Secret's value can't be used for its purpose, such as signing.
    SecretInvalid,
    /// A Secret's value is too long for a header.
    SecretTooLong,
    /// A Secret holds a generated signing key, which only its own Subscription may use, to sign.
    SecretReserved,
    /// A Secret that Hookwright didn't create has the name of the Secret to be generated.
    SecretNameTaken,
    /// Everything that the spec refers to was found and may be used.
    ResolvedRefs,
    /// All live dispatchers have loaded this generation.
    Programmed,
    /// The operator waits for something that the message names.
    Pending,
    /// Some dispatchers are of an older release, which can't read what this generation asks for.
    WaitingForDispatchers,
    /// No dispatcher is alive.
    NoDispatchers,
    /// No dispatcher can use all records of the Producer, so none serves it.
    Unserved,
    /// NATS doesn't answer the operator.
    NatsUnavailable,
    /// The operator can't read the object.
    Unreadable,
    /// The operator has a fault that this object brings out; the message has more.
    InternalError,
    /// Events that are published now are delivered.
    Ready,
    /// The installation's egress rules forbid the URL.
    EndpointNotAllowed,
    /// NATS refuses what the operator asks for.
    NatsRefused,
    /// The API server, or a policy in it, refuses what the operator asks for.
    ApiRefused,
    /// The object, or its record in NATS, has changed each time before the operator was done with it.
    Outdated,
    /// A record in NATS has a form that the operator can't read.
    RecordUnreadable,
    /// The spec, or something that it refers to, can't be used as it is, or dispatchers go by another egress file than
    /// the operator; nothing is sent, and events wait.
    Refused,
    /// No attempt was made yet.
    NotAttemptedYet,
    /// The endpoint has not accepted a delivery yet.
    NotAnsweredYet,
    /// The endpoint accepts deliveries.
    EndpointHealthy,
    /// No evaluation of a filter has failed lately.
    FiltersHealthy,
    /// The evaluation of a filter has failed.
    FilterFailed,
    /// Attempts at the endpoint keep failing.
    EndpointFailing,
    /// The endpoint answered 410 Gone.
    EndpointGone,
    /// `startFrom` names a time or a sequence that the stream has not come to.
    StartInFuture,
    /// Attempts have failed for as long as `disableAfter` allows.
    Disabled,
    /// The endpoint has asked for a pause.
    RetryAfter,
    /// Events are delivered as they come.
    Live,
    /// Events that have waited are being delivered.
    CatchingUp,
    /// Events wait until fewer Subscriptions catch up.
    CatchUpQueued,
    /// `suspend` is true.
    Suspended,
    /// A limit of the stream, a purge or a deletion removed events that waited for the Subscription.
    EventsMissed,
    /// The data of an event isn't JSON, so a policy that withholds fields of it withholds all of it.
    DataNotJson,
    /// A limit of the stream, a purge or a deletion removed events that no dispatcher had received.
    EventsLost,
    /// The stream was deleted and created again.
    StreamReplaced,
    /// What may be kept in NATS is more than the limit of its account.
    StorageOvercommitted,
    /// The stream is filled from one that doesn't exist.
    SourceNotFound,
    /// The stream is filled from one that can't be looked at, such as one of another account or domain.
    SourceElsewhere,
    /// The stream is filled from one that is to bring nothing before a time or a message that has yet to come.
    SourceInFuture,
}

/// Makes a condition. Its transition time is `now`, until [`set_condition`] replaces it with the old one if the status
/// is the same.
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
/// The transition time of the old condition is kept unless the status differs, as the Kubernetes API conventions
/// require.
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
