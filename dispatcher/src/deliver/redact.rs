//! Dead letters as the tenants of a Subscription may read them: without what the Producer withholds from it.

use async_nats::HeaderMap;
use bytes::Bytes;
use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::event::event_type::EventTypeRule;
use hookwright_core::event::{Reading, parse};
use hookwright_core::payload::Renderer;
use http::HeaderValue;

use crate::panics;
use crate::parking::messages::Published;

/// The headers of a message that its receivers get to know, besides the attributes.
const TOLD: [&str; 3] = ["content-type", "content-encoding", "nats-msg-id"];

/// The event without what its Producer withholds; `None` if nothing is withheld. An event that can't be read has neither
/// headers nor a body.
pub(super) fn published(renderer: &Renderer, published: &Published) -> Option<Published> {
    if !renderer.withholds() {
        return None;
    }
    let event = published.event.clone();
    let (rule, source) = (EventTypeRule::default(), HeaderValue::from_static("/"));
    let reading = Reading { rule: &rule, source: &source, known_type: Some(&event.event_type) };
    let read = panics::caught(|| {
        let event = published.with_message(|message| parse(message, reading)).ok()?;
        renderer.redacted(&event)
    });
    let Ok(Some(redacted)) = read else {
        return Some(Published { event, headers: HeaderMap::new(), body: Bytes::new() });
    };
    let mut headers = HeaderMap::new();
    for (name, values) in published.headers.iter() {
        let lower = AsRef::<str>::as_ref(name).to_ascii_lowercase();
        if lower.starts_with("ce-") || TOLD.contains(&lower.as_str()) {
            values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
        }
    }
    Some(Published { event, headers, body: redacted.body })
}

/// Whether the detail of a dead letter may tell something of the event's data: the name of a field that violates the
/// schema, or what a panic has said.
pub(super) fn may_tell_of_data(reason: DeadLetterReason) -> bool {
    matches!(reason, DeadLetterReason::SchemaViolation | DeadLetterReason::Internal)
}
