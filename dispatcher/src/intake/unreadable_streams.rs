//! The streams in which a message was found lately whose headers nobody can read.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long such a stream is remembered.
const WINDOW: Duration = Duration::from_secs(120);

/// The streams in which a message was found within [`WINDOW`] whose headers nobody can read, each with the time.
#[derive(Debug, Default)]
pub(crate) struct UnreadableStreams(Mutex<HashMap<String, Instant>>);

impl UnreadableStreams {
    /// Notes that the stream has such a message.
    pub(crate) fn note(&self, stream: &str) {
        let mut found = self.found();
        found.retain(|_, at| at.elapsed() < WINDOW);
        found.insert(stream.to_owned(), Instant::now());
    }

    /// Whether such a message was found in the stream lately.
    pub(crate) fn has(&self, stream: &str) -> bool {
        self.found().get(stream).is_some_and(|at| at.elapsed() < WINDOW)
    }

    // A poisoned lock means a panic between two assignments, where nothing panics.
    fn found(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_unreadable_for_a_while_after_each_message_that_is() {
        let streams = UnreadableStreams::default();
        assert!(!streams.has("a"));
        streams.note("a");
        tokio::time::advance(WINDOW - Duration::from_secs(1)).await;
        assert!(streams.has("a") && !streams.has("b"));
        streams.note("a");
        tokio::time::advance(WINDOW - Duration::from_secs(1)).await;
        assert!(streams.has("a"));
        tokio::time::advance(Duration::from_secs(1)).await;
        streams.note("b");
        assert!(!streams.has("a") && streams.found().len() == 1);
    }
}
