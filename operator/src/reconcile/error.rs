//! Why a reconcile, or the cleanup before a deletion, could not be finished.

use hookwright_core::nats::ids::InvalidUid;
use hookwright_core::record::RecordError;
use hookwright_core::seal::SealError;
use hookwright_crds::Reason;
use hookwright_runtime::logging;

use crate::kubernetes::answer::{ApiError, Meaning};
use crate::nats::jetstream::JsError;
use crate::refusal::Refusal;
use crate::secrets::SecretError;
use crate::status::write::StatusError;

/// A reconcile or a cleanup could not be finished. Errors of NATS name the request that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("the object's uid is invalid")]
    Uid(#[from] InvalidUid),
    #[error(transparent)]
    Nats(#[from] JsError),
    #[error("a record can't be written")]
    Encode(#[from] RecordError),
    #[error("the checkpoint can't be read, so it is not known with which event to go on")]
    Checkpoint(#[source] RecordError),
    #[error("the position can't be read, so it is not known which events wait")]
    Position(#[source] RecordError),
    #[error("the request of a test delivery can't be read")]
    TestRequest(#[source] RecordError),
    #[error("it can't be read since when other namespaces are let in")]
    Grants(#[source] RecordError),
    #[error("the object, or its record, has changed meanwhile")]
    Outdated,
    /// A Subscription's record would be made from an earlier form of its Producer, in place of another operator's record.
    #[error("the Producer can't be read, so it is not known what it says by now")]
    ProducerUnreadable,
    #[error("can't read the object again")]
    Read(#[source] ApiError),
    #[error(
        "a fault in Hookwright ({0}); what was in place before stays so. The operator tries again every minute. Please \
         report this with the operator's log"
    )]
    Panicked(String),
    #[error("can't list the Producer's EventSchemas")]
    EventSchemas(#[source] ApiError),
    #[error("the check of the schemas was cut short")]
    SchemaCheck(#[source] tokio::task::JoinError),
    #[error(transparent)]
    Secrets(#[from] SecretError),
    #[error("a secret can't be sealed")]
    Seal(#[from] SealError),
    #[error("the system gives no random bytes")]
    Random,
    #[error(transparent)]
    Status(#[from] StatusError),
}

impl ReconcileError {
    /// Returns whether NATS can't be reached now, rather than refusing.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Nats(error) if error.is_unavailable())
    }

    /// Returns the answer of the API server, if that is what failed.
    pub(crate) fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Read(error) | Self::EventSchemas(error) => Some(error),
            Self::Secrets(error) => error.api(),
            Self::Status(error) => Some(error.api()),
            _ => None,
        }
    }

    /// Returns whether the API server, or a policy in it, refuses what the reconcile needs.
    pub(crate) fn is_refused_by_api(&self) -> bool {
        self.api().is_some_and(|error| error.meaning() == Meaning::Refused)
    }

    /// Returns whether the reconcile worked on something old. It is no failure: it is to be done again.
    pub(crate) fn is_outdated(&self) -> bool {
        match self {
            Self::Outdated | Self::ProducerUnreadable => true,
            Self::Status(error) => error.is_outdated(),
            _ => false,
        }
    }

    /// Returns whether a condition shows the error: it can't while the status itself can't be written, and what is left
    /// to be done when the rest is in place changes no condition.
    pub(crate) fn has_condition(&self) -> bool {
        !self.is_outdated() && !matches!(self, Self::Status(_) | Self::Secrets(SecretError::Delete { .. }))
    }

    /// Returns how a condition or an Event shows the error.
    pub(crate) fn shown(&self) -> Refusal {
        let reason = match self {
            Self::Nats(error) if error.is_unavailable() => Reason::NatsUnavailable,
            Self::Nats(_) => Reason::NatsRefused,
            Self::Checkpoint(_) | Self::Position(_) | Self::TestRequest(_) | Self::Grants(_) => {
                Reason::RecordUnreadable
            }
            Self::Read(_) | Self::EventSchemas(_) | Self::Secrets(_) | Self::Status(_) => Reason::ApiRefused,
            Self::Outdated | Self::ProducerUnreadable => Reason::Outdated,
            _ => Reason::InternalError,
        };
        Refusal::new(reason, logging::chain(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::answer::tests::error;

    #[test]
    fn what_no_condition_shows_is_known() {
        let delete = SecretError::Delete { name: "a".into(), source: error(403, "Forbidden", "no").into() };
        let create = SecretError::Create { name: "a".into(), source: error(422, "Invalid", "no").into() };
        for (error, refused, shown, reason) in [
            (ReconcileError::Secrets(delete), true, false, Reason::ApiRefused),
            (ReconcileError::Secrets(create), true, true, Reason::ApiRefused),
            (ReconcileError::Read(error(500, "InternalError", "no").into()), true, true, Reason::ApiRefused),
            (ReconcileError::Read(error(429, "TooManyRequests", "no").into()), false, true, Reason::ApiRefused),
            (ReconcileError::Outdated, false, false, Reason::Outdated),
            (ReconcileError::ProducerUnreadable, false, false, Reason::Outdated),
            (ReconcileError::Nats(JsError::Disconnected), false, true, Reason::NatsUnavailable),
            (ReconcileError::Random, false, true, Reason::InternalError),
        ] {
            let got = (error.is_refused_by_api(), error.has_condition(), error.shown().reason);
            assert_eq!(got, (refused, shown, reason), "{error}");
        }
    }
}
