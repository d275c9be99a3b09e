//! The request of an attempt: the event as published, with the Standard Webhooks headers over it.

use hookwright_core::delivery_id::DeliveryId;
use hookwright_core::event::Event;
use hookwright_core::signature::signature_header;
use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use reqwest::{Method, Request};

use crate::subscription::Endpoint;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Builds and signs; none if a header can't be written.
pub(crate) fn build(endpoint: &Endpoint, event: &Event, id: &DeliveryId, now: Timestamp) -> Option<Request> {
    let seconds = now.as_second();
    let signature = signature_header(&endpoint.keys, id.as_str(), seconds, &event.body);
    let mut request = Request::new(Method::POST, endpoint.url.clone());
    let headers = request.headers_mut();
    headers.clone_from(&event.headers);
    for (name, value) in &endpoint.headers {
        headers.insert(name, value.clone());
    }
    headers.insert(ID, HeaderValue::from_str(id.as_str()).ok()?);
    headers.insert(TIMESTAMP, HeaderValue::from(seconds));
    headers.insert(SIGNATURE, HeaderValue::from_str(&signature).ok()?);
    *request.body_mut() = Some(event.body.clone().into());
    Some(request)
}
