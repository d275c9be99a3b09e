//! Reads an event as its Producer's record says.

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::event::{Event, Reading, parse};

use crate::config::index::Producer;
use crate::panics;
use crate::parking::messages::Published;

/// Why an event can't be read: what its dead letter says.
pub(crate) struct Unreadable {
    pub(crate) reason: DeadLetterReason,
    pub(crate) detail: String,
}

impl Unreadable {
    /// Work on the event panicked.
    pub(crate) fn panicked(message: &str) -> Self {
        Self { reason: DeadLetterReason::Internal, detail: format!("reading the event panicked: {message}") }
    }
}

/// Reads the event, and notes its type in `published`.
pub(crate) fn read(published: &mut Published, producer: &Producer) -> Result<Event, Unreadable> {
    let reading = Reading { rule: &producer.record.event_type, source: &producer.source, known_type: None };
    let parsed = panics::caught(|| {
        let parsed = published.with_message(|message| parse(message, reading));
        parsed.inspect(|event| panics::provoked(&event.event_type))
    });
    let event = match parsed {
        Ok(Ok(event)) => event,
        Ok(Err(malformed)) => {
            return Err(Unreadable { reason: DeadLetterReason::Malformed, detail: malformed.to_string() });
        }
        Err(panic) => return Err(Unreadable::panicked(&panic)),
    };
    published.event.event_type.clone_from(&event.event_type);
    Ok(event)
}
