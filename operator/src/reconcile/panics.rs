//! Catches panics in work on one object. A fault of Hookwright's that one object brings out must not end the process, as
//! the process works on all objects.

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;

use futures::FutureExt;
use kube::Resource;

use crate::cache::references::full_name;
use crate::faults::message;
use crate::reconcile::error::ReconcileError;

/// A variable of the environment that tests set to the `namespace/name` of objects whose reconcile is to panic.
static TEST_PANIC: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("HOOKWRIGHT_TEST_PANIC").ok());

/// Returns the result of the work. A panic in it becomes an error.
pub(crate) async fn caught<T>(work: impl Future<Output = Result<T, ReconcileError>>) -> Result<T, ReconcileError> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|panic| Err(ReconcileError::Panicked(message(&*panic))))
}

/// Returns the result of work on another thread.
pub(crate) fn joined<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, ReconcileError> {
    result.map_err(|error| match error.try_into_panic() {
        Ok(panic) => ReconcileError::Panicked(message(&*panic)),
        Err(error) => ReconcileError::SchemaCheck(error),
    })
}

/// Panics if a test asks for that.
pub(crate) fn on_request(object: &impl Resource) {
    if let Some(asked) = &*TEST_PANIC {
        let name = full_name(object.meta().namespace.as_deref(), object.meta().name.as_deref());
        assert!(*asked != name, "a test asked for this panic");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_with_its_message() {
        let failed = caught(async { if true { panic!("n is {}", 7) } else { Ok(()) } }).await.unwrap_err();
        assert!(matches!(&failed, ReconcileError::Panicked(text) if text == "n is 7"), "{failed}");
        let elsewhere = joined(tokio::task::spawn_blocking(|| panic!("there")).await.map(|(): ()| ())).unwrap_err();
        assert!(matches!(&elsewhere, ReconcileError::Panicked(text) if text == "there"), "{elsewhere}");
        assert!(caught(async { Ok(1) }).await.is_ok_and(|one| one == 1));
    }
}
