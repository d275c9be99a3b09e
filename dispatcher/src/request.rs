//! The request of an attempt: the event as published, with the Standard Webhooks headers over it.

use bytes::Bytes;
use hookwright_core::delivery_id::DeliveryId;
use hookwright_core::event::Event;
use hookwright_core::signature::signature_header;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request};
use http_body_util::Full;
use jiff::Timestamp;

use crate::subscription::Endpoint;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Builds and signs; none if a header can't be written.
pub(crate) fn build(
    endpoint: &Endpoint,
    event: &Event,
    id: &DeliveryId,
    now: Timestamp,
) -> Option<Request<Full<Bytes>>> {
    let seconds = now.as_second();
    let signature = signature_header(&endpoint.keys, id.as_str(), seconds, &event.body);
    let mut request = Request::new(Full::new(event.body.clone()));
    *request.method_mut() = Method::POST;
    request.uri_mut().clone_from(&endpoint.uri);
    let headers = request.headers_mut();
    headers.clone_from(&event.headers);
    for (name, value) in &endpoint.headers {
        headers.insert(name, value.clone());
    }
    headers.insert(ID, HeaderValue::from_str(id.as_str()).ok()?);
    headers.insert(TIMESTAMP, HeaderValue::from(seconds));
    headers.insert(SIGNATURE, HeaderValue::from_str(&signature).ok()?);
    Some(request)
}
