//! State that several tasks share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// State behind a lock that is never held across an await.
#[derive(Debug, Default)]
pub(crate) struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    pub(crate) fn new(state: T) -> Self {
        Self(Mutex::new(state))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        // A poisoned lock means a panic elsewhere; the state itself is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
