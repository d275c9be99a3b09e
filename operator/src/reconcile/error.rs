//! Why a reconcile, or the cleanup before a deletion, could not be finished.

use hookwright_core::nats::ids::InvalidUid;
use hookwright_core::record::RecordError;
use hookwright_core::seal::SealError;
use hookwright_crds::Reason;
use hookwright_runtime::logging;

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
        let reason = if matches!(self, Self::Panicked(_)) { Reason::InternalError } else { Reason::Pending };
        Refusal::new(reason, logging::chain(self))
    }
}
