//! What was made of an event, for all that look at the event later.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A place for one thing that was made of something, whatever it is. It is made once at most.
///
/// A clone has nothing: what is cloned may be changed, and then nothing that was made of the original holds for it.
#[derive(Default)]
pub struct Shared(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Shared {
    /// What was put here, if it is of this type.
    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(self.0.get()?).downcast().ok()
    }

    /// Puts something here, unless something is here already.
    pub(crate) fn put<T: Send + Sync + 'static>(&self, made: Arc<T>) {
        let _ = self.0.set(made);
    }
}

impl Clone for Shared {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Shared(..)" } else { "Shared" })
    }
}
