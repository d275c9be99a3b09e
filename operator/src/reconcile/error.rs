//! Why a reconcile, or the cleanup before a deletion, could not be finished.

use hookwright_core::nats::ids::InvalidUid;
use hookwright_core::record::RecordError;
use hookwright_core::seal::SealError;
use hookwright_crds::Reason;
use hookwright_runtime::logging;
use kube::core::Status;

use crate::nats::jetstream::JsError;
use crate::refusal::Refusal;
use crate::secrets::SecretError;
use crate::status::write::StatusError;

/// Returns what the API server, or a policy in it, says when it refuses a write, unless the object has changed or gone
/// meanwhile.
pub(crate) fn refused_by_api(error: &kube::Error) -> Option<String> {
    match error {
        kube::Error::Api(status) if status.is_not_found() || status.is_conflict() || is_failed_test(status) => None,
        kube::Error::Api(status) => Some(status.message.clone()),
        _ => None,
    }
}

/// Returns whether a test within a JSON patch has failed: the object has changed meanwhile. The API server (1.36) answers
/// so with the code of an invalid object, and this text.
pub(crate) fn is_failed_test(status: &Status) -> bool {
    status.is_invalid() && status.message.starts_with("the server rejected our request due to an error in our request")
}

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
    #[error("can't read the object again")]
    Read(#[source] kube::Error),
    #[error(
        "a fault in Hookwright ({0}); what was in place before stays so. The operator tries again every minute. Please \
         report this with the operator's log"
    )]
    Panicked(String),
    #[error("can't list the Producer's EventSchemas")]
    EventSchemas(#[source] kube::Error),
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

    /// Returns whether the reconcile worked on something old. It is no failure: it is to be done again.
    pub(crate) fn is_outdated(&self) -> bool {
        matches!(self, Self::Outdated) || matches!(self, Self::Status(error) if error.is_outdated())
    }

    /// Returns how a condition shows the error.
    pub(crate) fn shown(&self) -> Refusal {
        let reason = match self {
            Self::Nats(_) => Reason::NatsRefused,
            Self::Checkpoint(_) | Self::Position(_) | Self::TestRequest(_) | Self::Grants(_) => {
                Reason::RecordUnreadable
            }
            Self::Read(_) | Self::EventSchemas(_) | Self::Secrets(_) | Self::Status(_) => Reason::ApiRefused,
            _ => Reason::InternalError,
        };
        Refusal::new(reason, logging::chain(self))
    }

    /// Returns what the API server, or a policy in it, says when it refuses a write of the status.
    pub(crate) fn refused_by_api(&self) -> Option<String> {
        match self {
            Self::Status(error) => refused_by_api(error.kube()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_change_meanwhile() {
        let answer = |code, reason: &str, message: &str| {
            let status = Status { code, reason: reason.into(), message: message.into(), ..Status::default() };
            refused_by_api(&kube::Error::Api(status.boxed()))
        };
        let test = "the server rejected our request due to an error in our request";
        let policy = "subscriptions \"a\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no";
        for (code, reason, message, is_told) in [
            (404, "NotFound", "gone", false),
            (409, "Conflict", "changed", false),
            (422, "Invalid", test, false),
            (422, "Invalid", policy, true),
            (403, "Forbidden", "no", true),
            (500, "InternalError", "failed calling webhook", true),
        ] {
            assert_eq!(answer(code, reason, message), is_told.then(|| message.to_owned()), "{code} {message}");
        }
    }
}
