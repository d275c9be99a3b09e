//! Why a reconcile, or the cleanup before a deletion, could not be finished.

use hookwright_core::nats::ids::InvalidUid;
use hookwright_core::record::RecordError;
use hookwright_core::seal::SealError;

use crate::nats::jetstream::JsError;
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
    #[error("the request of a test delivery can't be read")]
    TestRequest(#[source] RecordError),
    #[error("can't list the Producer's EventSchemas")]
    EventSchemas(#[source] kube::Error),
    #[error("the check of the schemas was cut short")]
    SchemaCheck(#[from] tokio::task::JoinError),
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
}
