//! The request of an attempt: the published event with the Standard Webhooks headers.

use bytes::Bytes;
use hookwright_core::event::Event;
use hookwright_core::nats::delivery_id::DeliveryId;
use hookwright_core::sign::hmac::signature_header;
use http::header::HeaderName;
use jiff::Timestamp;

use crate::http::endpoint::Template;

const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";
const LENGTH: &str = "content-length";

/// About how many bytes the headers take that every request has beside its endpoint's and its event's.
const OWN: usize = 320;

/// A request as it is written. It can be sent any number of times.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Bytes,
}

/// Builds and signs the request. The headers are the same at each attempt, in the same order: those of the endpoint, of
/// the event, of the signature, and the length of the body.
pub(crate) fn build(template: &Template, event: &Event, id: &DeliveryId, now: Timestamp) -> Request {
    let seconds = now.as_second();
    let signature = signature_header(&template.keys, id.as_str(), seconds, &event.body);
    let field = |(name, value): (&HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
    let size = template.head.len() + event.headers.iter().map(field).sum::<usize>() + signature.len() + OWN;
    let mut head = Vec::with_capacity(size);
    head.extend_from_slice(&template.head);
    for (name, value) in &event.headers {
        if !template.names.contains(name) {
            write_field(&mut head, name.as_str(), value.as_bytes());
        }
    }
    let mut digits = itoa::Buffer::new();
    write_field(&mut head, ID, id.as_str().as_bytes());
    write_field(&mut head, TIMESTAMP, digits.format(seconds).as_bytes());
    write_field(&mut head, SIGNATURE, signature.as_bytes());
    write_field(&mut head, LENGTH, digits.format(event.body.len()).as_bytes());
    head.extend_from_slice(b"\r\n");
    Request { head, body: event.body.clone() }
}

/// Writes a header field. Neither the name nor the value may have a line break, which the types of `http` see to.
pub(crate) fn write_field(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

/// Whether the request has this header anyway, or whether it says where the request ends.
pub(crate) fn is_own(name: &HeaderName) -> bool {
    [ID, TIMESTAMP, SIGNATURE, LENGTH, "host", "transfer-encoding"].contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use hookwright_core::destination::egress::Egress;
    use hookwright_core::destination::{Destination, Header, HeaderValue as Value};
    use hookwright_core::nats::delivery_id::DeliveryKey;
    use hookwright_core::nats::ids::SubscriptionUid;
    use hookwright_core::seal::Secret;
    use hookwright_core::sign::hmac::secret_text;
    use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

    use super::*;
    use crate::http::endpoint::Endpoint;

    fn built(url: &str, headers: &[(&str, &str)], body: &'static str) -> Vec<String> {
        let header = |(name, value): &(&str, &str)| Header {
            name: (*name).to_owned(),
            value: Value::Plain((*value).to_owned()),
        };
        let destination = Destination {
            url: url.to_owned(),
            service: None,
            headers: headers.iter().map(header).collect(),
            signing: vec![Secret::new(secret_text(&[7; 32]).to_string())],
        };
        let egress = r#"{"allowedCIDRs": ["::1/128"], "allowedPorts": ["1-65535"], "plainHttp": true}"#;
        let egress: Egress = serde_json::from_str(egress).unwrap();
        let endpoint = Endpoint::prepare(&destination, egress.of("shop")).unwrap();
        let mut published = HeaderMap::new();
        published.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body_sent = Bytes::from_static(body.as_bytes());
        let event = Event::new("t", published, body_sent);
        let subscription = SubscriptionUid::parse("7d8a6a0e-0000-4000-8000-000000000000").unwrap();
        let (stream, created) = ("s", Timestamp::UNIX_EPOCH);
        let key =
            DeliveryKey { subscription: &subscription, stream, stream_created: created, sequence: 1, stored: created };
        let request = build(&endpoint.template.unwrap(), &event, &key.id(), created);
        assert_eq!(request.body, body);
        let head = String::from_utf8(request.head).unwrap();
        head.strip_suffix("\r\n\r\n").unwrap().split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn a_subscription_sets_any_header_but_those_of_the_signature_and_the_framing() {
        let own = [
            ("user-agent", "mine"),
            ("authorization", "Bearer x"),
            ("content-type", "x/y"),
            ("webhook-id", "1"),
            ("content-length", "99"),
            ("transfer-encoding", "chunked"),
            ("host", "other"),
        ];
        let agent = concat!("user-agent: hookwright/", env!("CARGO_PKG_VERSION"));
        for (headers, want) in [
            (&own[..], ["user-agent: mine", "accept: */*", "authorization: Bearer x", "content-type: x/y"].as_slice()),
            (&[], &[agent, "accept: */*", "content-type: application/json"]),
        ] {
            let lines = built("https://shop.example.com/hook?a=b", headers, "{}");
            assert_eq!(lines[..2], ["POST /hook?a=b HTTP/1.1", "host: shop.example.com"]);
            let (set, signed) = lines[2..].split_at(want.len());
            assert_eq!(set, want);
            let name = |line: &String| line.split(':').next().unwrap().to_owned();
            let names: Vec<_> = signed.iter().map(name).collect();
            assert_eq!(names, [ID, TIMESTAMP, SIGNATURE, LENGTH]);
            assert!(signed[0].starts_with("webhook-id: msg_"));
        }
    }

    #[test]
    fn the_length_is_always_said_and_the_host_as_the_url_has_it() {
        for (url, body, line, host, length) in [
            ("http://[::1]:8080", "", "POST / HTTP/1.1", "host: [::1]:8080", "content-length: 0"),
            (
                "http://example.com:80/ä?q= x",
                "ok",
                "POST /%C3%A4?q=%20x HTTP/1.1",
                "host: example.com",
                "content-length: 2",
            ),
            ("https://EXAMPLE.com:444/a", "x", "POST /a HTTP/1.1", "host: example.com:444", "content-length: 1"),
        ] {
            let lines = built(url, &[], body);
            assert_eq!([&lines[0], &lines[1], lines.last().unwrap()], [line, host, length]);
        }
    }
}
