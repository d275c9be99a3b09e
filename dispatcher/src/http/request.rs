//! The request of an attempt: the published event with the Standard Webhooks headers.

use std::sync::Arc;

use bytes::Bytes;
use hookwright_core::event::Event;
use hookwright_core::nats::delivery_id::DeliveryId;
use hookwright_core::sign::hmac::signature_header;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use http_body_util::Full;
use jiff::Timestamp;

use crate::http::endpoint::Endpoint;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The number of headers besides the event's and the endpoint's: these three, and two of the HTTP client.
const OWN: usize = 5;

/// Builds and signs the request; `None` if a header can't be written.
pub(crate) fn build(
    endpoint: &Endpoint,
    event: Arc<Event>,
    id: &DeliveryId,
    now: Timestamp,
) -> Option<Request<Full<Bytes>>> {
    let seconds = now.as_second();
    let signature = signature_header(&endpoint.keys, id.as_str(), seconds, &event.body);
    let (mut headers, body) = match Arc::try_unwrap(event) {
        Ok(event) => (event.headers, event.body),
        Err(shared) => (copy(&shared.headers, endpoint.headers.len() + OWN), shared.body.clone()),
    };
    for (name, value) in &endpoint.headers {
        headers.insert(name, value.clone());
    }
    headers.insert(ID, HeaderValue::from_str(id.as_str()).ok()?);
    // `HeaderValue::from` reserves room for more digits, which costs an allocation.
    headers.insert(TIMESTAMP, HeaderValue::from_str(itoa::Buffer::new().format(seconds)).ok()?);
    headers.insert(SIGNATURE, HeaderValue::try_from(signature).ok()?);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    request.uri_mut().clone_from(&endpoint.uri);
    *request.headers_mut() = headers;
    Some(request)
}

/// Copies the headers with room for `more`. A clone would have no room, and would be moved twice as it grows.
fn copy(headers: &HeaderMap, more: usize) -> HeaderMap {
    let mut copy = HeaderMap::with_capacity(headers.len() + more);
    copy.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    copy
}

#[cfg(test)]
mod tests {
    use hookwright_core::destination::{Destination, Header, HeaderValue as Value};
    use hookwright_core::nats::delivery_id::DeliveryKey;
    use hookwright_core::nats::ids::SubscriptionUid;
    use hookwright_core::seal::Secret;
    use hookwright_core::sign::hmac::secret_text;

    use super::*;

    #[test]
    fn a_subscription_sets_any_header_but_those_of_the_signature() {
        let own = [("user-agent", "mine"), ("authorization", "Bearer x"), ("content-type", "x/y"), ("webhook-id", "1")];
        let mut published = HeaderMap::new();
        published.insert("content-type", HeaderValue::from_static("application/json"));
        let event = Event { event_type: "t".to_owned(), headers: published, body: Bytes::from_static(b"{}") };
        let event = Arc::new(event);
        // The last delivery moves what the others copy.
        for (event, headers, want) in [
            (Arc::clone(&event), &own[..], ["mine", "*/*", "Bearer x", "x/y"]),
            (event, &[], [concat!("hookwright/", env!("CARGO_PKG_VERSION")), "*/*", "", "application/json"]),
        ] {
            let header = |(name, value): &(&str, &str)| Header {
                name: (*name).to_owned(),
                value: Value::Plain((*value).to_owned()),
            };
            let destination = Destination {
                url: "https://shop.example.com/hook?a=b".to_owned(),
                headers: headers.iter().map(header).collect(),
                signing: vec![Secret::new(secret_text(&[7; 32]).to_string())],
            };
            let endpoint = Endpoint::prepare(&destination, &Default::default()).unwrap();
            let subscription = SubscriptionUid::parse("7d8a6a0e-0000-4000-8000-000000000000").unwrap();
            let (stream, created) = ("s", Timestamp::UNIX_EPOCH);
            let key = DeliveryKey {
                subscription: &subscription,
                stream,
                stream_created: created,
                sequence: 1,
                stored: created,
            };
            let request = build(&endpoint, event, &key.id(), created).unwrap();
            let header = |name| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
            let got = [header("user-agent"), header("accept"), header("authorization"), header("content-type")];
            assert_eq!(got, want);
            assert_eq!(header("webhook-id"), key.id().as_str());
            assert_eq!((request.method(), request.uri().to_string()), (&Method::POST, destination.url.clone()));
        }
    }
}
