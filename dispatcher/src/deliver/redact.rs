//! Dead letters as the tenants of a Subscription may read them: without what the Producer withholds from it.

use async_nats::HeaderMap;
use bytes::Bytes;
use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::event::event_type::EventTypeRule;
use hookwright_core::event::{Reading, parse};
use hookwright_core::expression::Variables;
use hookwright_core::payload::{Forbidden, Renderer};
use http::HeaderValue;

use crate::panics;
use crate::parking::messages::Published;

/// The headers of a message that its receivers get to know, besides the attributes.
const TOLD: [&str; 3] = ["content-type", "content-encoding", "nats-msg-id"];

/// What the tenants of a Subscription may read of an event.
pub(super) enum Told {
    /// All of it.
    Whole,
    /// The event without what its Producer withholds. One that can't be read has neither headers nor a body.
    Redacted(Published),
    /// Nothing, not even that it failed.
    Nothing(Forbidden),
}

/// What may be read of an event whose Producer has this source. An event that can't be read is permitted only if there are
/// no filters.
pub(super) fn told(renderer: &Renderer, source: &HeaderValue, published: &Published) -> Told {
    if !renderer.withholds() && !renderer.has_filters() {
        return Told::Whole;
    }
    let event = published.event.clone();
    let rule = EventTypeRule::default();
    let reading = Reading { rule: &rule, source, known_type: Some(&event.event_type) };
    let read = panics::caught(|| {
        let event = published.with_message(|message| parse(message, reading)).ok()?;
        Some(renderer.permits(&Variables::of(&event)).map(|()| renderer.redacted(&event)))
    });
    let redacted = match read {
        Ok(Some(Err(forbidden))) => return Told::Nothing(forbidden),
        Err(_) | Ok(None) if renderer.has_filters() => return Told::Nothing(Forbidden { failed: true }),
        Err(_) | Ok(None) => return Told::Redacted(Published { event, headers: HeaderMap::new(), body: Bytes::new() }),
        Ok(Some(Ok(None))) => return Told::Whole,
        Ok(Some(Ok(Some(redacted)))) => redacted,
    };
    let mut headers = HeaderMap::new();
    for (name, values) in published.headers.iter() {
        let lower = AsRef::<str>::as_ref(name).to_ascii_lowercase();
        if lower.starts_with("ce-") || TOLD.contains(&lower.as_str()) {
            values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
        }
    }
    Told::Redacted(Published { event, headers, body: redacted.body })
}

/// Whether the detail of a dead letter may tell something of the event's data: the name of a field that violates the
/// schema, what can't be read, or what a panic has said.
pub(super) fn may_tell_of_data(reason: DeadLetterReason) -> bool {
    matches!(reason, DeadLetterReason::SchemaViolation | DeadLetterReason::Malformed | DeadLetterReason::Internal)
}
