//! Step 2: checks the spec, and turns it into types that prove the checks.

mod egress;
mod select;

use std::collections::HashSet;

use hookwright_core::delivery::policy::DeliveryPolicy;
use hookwright_core::destination::egress::Egress;
use hookwright_core::destination::{self, Destination, HeaderValue};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::payload::Payload;
use hookwright_core::record::Identity;
use hookwright_core::select::Selection;
use hookwright_crds::PolicyError;
use hookwright_crds::{
    Endpoint, Header, HeaderSource, Reason, SecretKeyRef, ServiceRef, StartFrom, StartPosition, Subscription,
};
use http::HeaderName;
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use url::Url;

use super::payload;
use super::signing::GeneratedKeys;
use crate::refusal::Refusal;

/// A Subscription whose spec can be served: the groups of its record, with the secrets still to be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValidatedSubscription {
    pub(crate) identity: Identity,
    /// The Producer's name.
    pub(crate) producer: String,
    pub(crate) select: Selection,
    /// Where the events go; the address of a Service is still to be found.
    pub(crate) destination: Destination<SecretSource>,
    pub(crate) service: Option<ServiceRef>,
    pub(crate) payload: Payload,
    pub(crate) delivery: DeliveryPolicy,
    pub(crate) start: StartAt,
    pub(crate) suspended: bool,
    /// The mark of the last request to resume.
    pub(crate) resume: Option<u64>,
}

/// Where in the stream the Subscription starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartAt {
    /// With the events that are published once it is Ready.
    New,
    /// With the first event that the stream has.
    Earliest,
    /// With the first event that was stored at this time or later.
    Time(Timestamp),
    /// With this sequence.
    Sequence(u64),
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SecretSource {
    /// The signing key in a Secret of this name that the operator has made.
    Generated(String),
    /// A signing key.
    SigningKey(SecretKeyRef),
    /// The value of a header.
    Header(SecretKeyRef),
}

/// Checks the spec. `generated` are the keys that sign if the spec names none, `policy` is the delivery policy that
/// follows from the spec and the Producer, `egress` what the installation allows.
pub(crate) fn validate(
    subscription: &Subscription,
    uid: &SubscriptionUid,
    generated: Option<&GeneratedKeys>,
    policy: Result<DeliveryPolicy, PolicyError>,
    egress: &Egress,
) -> Result<ValidatedSubscription, Refusal> {
    let (spec, namespace) = (&subscription.spec, subscription.namespace().unwrap_or_default());
    let signing: Vec<_> = match &spec.signing {
        None => {
            generated.iter().flat_map(|keys| keys.secrets()).map(str::to_owned).map(SecretSource::Generated).collect()
        }
        Some(signing) => signing.keys.iter().map(|key| SecretSource::SigningKey(key.secret_key_ref.clone())).collect(),
    };
    if !(1..=3).contains(&signing.len()) {
        return Err(invalid("signing.keys must have one to three keys."));
    }
    Ok(ValidatedSubscription {
        identity: Identity {
            uid: uid.clone(),
            generation: subscription.meta().generation.unwrap_or_default(),
            namespace: namespace.clone(),
            name: subscription.name_any(),
        },
        producer: spec.producer_ref.name.clone(),
        select: select::select(subscription)?,
        destination: Destination {
            url: endpoint_url(&spec.endpoint, &namespace, egress)?.to_string(),
            service: None,
            headers: headers(spec.endpoint.headers.as_deref().unwrap_or_default())?,
            signing,
        },
        service: spec.endpoint.service_ref.clone(),
        payload: payload::payload(spec.payload.as_ref())?,
        delivery: policy.map_err(|error| invalid(&format!("{error}.")))?,
        start: start(subscription)?,
        suspended: spec.suspend.unwrap_or_default(),
        resume: subscription.resume(),
    })
}

fn start(subscription: &Subscription) -> Result<StartAt, Refusal> {
    let Some(StartFrom { position, time, sequence }) = &subscription.spec.start_from else { return Ok(StartAt::New) };
    Ok(match (position, time, sequence) {
        (StartPosition::New, None, None) => StartAt::New,
        (StartPosition::Earliest, None, None) => StartAt::Earliest,
        (StartPosition::Time, Some(text), None) => {
            let time = text.timestamp().ok_or_else(|| invalid(&format!("startFrom.time: {text} is no time.")));
            StartAt::Time(time?)
        }
        (StartPosition::Sequence, None, Some(sequence)) => {
            let sequence = u64::try_from(*sequence).ok().filter(|sequence| *sequence > 0);
            StartAt::Sequence(sequence.ok_or_else(|| invalid("startFrom.sequence must be 1 or more."))?)
        }
        _ => return Err(invalid("startFrom needs time with position Time only, and sequence with Sequence only.")),
    })
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(Reason::Invalid, message)
}

/// Returns the URL of the endpoint. The URL of a Service need not keep to the egress rules.
fn endpoint_url(endpoint: &Endpoint, namespace: &str, egress: &Egress) -> Result<Url, Refusal> {
    match (&endpoint.url, &endpoint.service_ref) {
        (Some(text), None) => egress::allowed(url("endpoint.url", text)?, egress.of(namespace)),
        (None, Some(reference)) => url("endpoint.serviceRef", &reference.url(namespace)),
        _ => Err(invalid("endpoint needs exactly one of url and serviceRef.")),
    }
}

fn url(field: &str, text: &str) -> Result<Url, Refusal> {
    let refuse = |why: &str| Err(invalid(&format!("{field} {why}.")));
    let Ok(url) = Url::parse(text) else { return refuse("is not a URL") };
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("must begin with https:// or http://");
    }
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return refuse("needs a host, and no port or one from 1 to 65535");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("must not carry a user or password: use endpoint.headers with valueFrom");
    }
    if url.fragment().is_some() {
        return refuse("must not have a fragment");
    }
    Ok(url)
}

/// Returns whether Hookwright or the connection sets the header.
fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [&str; 9] = [
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = name.as_str();
    RESERVED.contains(&name) || ["webhook-", "ce-", "proxy-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Returns whether a CloudEvents attribute can have this name.
fn is_attribute(name: &str) -> bool {
    let is_valid = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    is_valid && (1..=64).contains(&name.len()) && name != "data"
}

fn headers(headers: &[Header]) -> Result<Vec<destination::Header<SecretSource>>, Refusal> {
    let mut seen = HashSet::new();
    let mut checked = Vec::with_capacity(headers.len());
    for header in headers {
        let refuse = |why: &str| invalid(&format!("endpoint.headers: {:?} {why}.", header.name));
        let name: HeaderName = header.name.parse().map_err(|_| refuse("is not a header's name"))?;
        if is_reserved(&name) {
            return Err(refuse("is set by Hookwright or belongs to the connection"));
        }
        if !seen.insert(name.clone()) {
            return Err(refuse("is given twice"));
        }
        let value = match (&header.value, &header.value_from) {
            (Some(value), None) if value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) => {
                HeaderValue::Plain(value.clone())
            }
            (Some(_), None) => return Err(refuse("has a value that can't stand in a header")),
            (None, Some(HeaderSource { secret_key_ref: Some(key), attribute_ref: None })) => {
                HeaderValue::Secret(SecretSource::Header(key.clone()))
            }
            (None, Some(HeaderSource { secret_key_ref: None, attribute_ref: Some(attribute) })) => {
                if !is_attribute(&attribute.name) {
                    return Err(refuse("refers to an attribute by a name that no attribute has"));
                }
                HeaderValue::Attribute(attribute.name.clone())
            }
            (None, Some(_)) => return Err(refuse("needs exactly one of secretKeyRef and attributeRef in valueFrom")),
            _ => return Err(refuse("needs exactly one of value and valueFrom")),
        };
        checked.push(destination::Header { name: name.as_str().to_owned(), value });
    }
    Ok(checked)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hookwright_crds::policy;
    use serde_json::{Value, json};

    pub(crate) fn subscription(patch: &Value) -> Subscription {
        let mut spec = json!({
            "producerRef": { "name": "orders" },
            "eventTypes": [{ "type": "order.*" }],
            "endpoint": { "url": "https://example.com/hooks" },
        });
        for (key, value) in patch.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let metadata = json!({ "namespace": "shop", "name": "billing", "uid": "s-1", "generation": 2 });
        let object = json!({
            "apiVersion": "hookwright.dev/v1alpha1", "kind": "Subscription", "metadata": metadata, "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }

    pub(crate) fn validated(patch: &Value) -> Result<ValidatedSubscription, Refusal> {
        let object = subscription(patch);
        let policy = policy::effective(object.spec.delivery.as_ref(), None);
        let egress =
            json!({ "plainHttp": true, "allowedPorts": ["1-65535"], "allowedCIDRs": ["127.0.0.0/8", "::1/128"] });
        let (uid, keys) = (SubscriptionUid::parse("s-1").unwrap(), GeneratedKeys::first("billing"));
        validate(&object, &uid, Some(&keys), policy, &serde_json::from_value(egress).unwrap())
    }

    #[test]
    fn all_types_are_selected_unless_some_are_named() {
        let mut object = subscription(&json!({}));
        let text = |object: &Subscription| select::select(object).unwrap().event_types[0].to_string();
        assert_eq!(text(&object), "order.*");
        object.spec.event_types = None;
        assert_eq!(text(&object), ">");
    }

    #[test]
    fn urls() {
        let read = |url: &str| validated(&json!({ "endpoint": { "url": url } })).map(|valid| valid.destination.url);
        for (url, want) in [
            ("https://EXAMPLE.com", "https://example.com/"),
            ("https://example.com:443/a?b=c", "https://example.com/a?b=c"),
            ("http://[::1]:8080/", "http://[::1]:8080/"),
            ("http://0x7f.1/", "http://127.0.0.1/"),
        ] {
            assert_eq!(read(url).unwrap(), want);
        }
        for url in [
            "",
            "example.com",
            "ftp://example.com/",
            "https://",
            "https://u:p@example.com/",
            "https://example.com/#f",
            "https://example.com:0/",
            "https://example.com:70000/",
            "file:///etc/passwd",
        ] {
            assert_eq!(read(url).unwrap_err().reason, Reason::Invalid, "{url}");
        }
    }

    #[test]
    fn the_url_of_a_service() {
        let read = |reference: Value| {
            let valid = validated(&json!({ "endpoint": { "serviceRef": reference } }));
            valid.map(|valid| valid.destination.url).map_err(|refusal| refusal.reason)
        };
        for (reference, want) in [
            (json!({ "name": "crm", "port": 80 }), Ok("http://crm.shop.svc/")),
            (
                json!({ "name": "crm", "namespace": "sales", "port": 8443, "scheme": "Https", "path": "/a?b=c" }),
                Ok("https://crm.sales.svc:8443/a?b=c"),
            ),
            (json!({ "name": "crm", "port": 80, "path": "//evil.example/" }), Ok("http://crm.shop.svc//evil.example/")),
            (json!({ "name": "crm", "port": 0 }), Err(Reason::Invalid)),
            (json!({ "name": "crm", "port": 80, "path": "@evil.example/" }), Err(Reason::Invalid)),
            (json!({ "name": "crm", "port": 80, "path": "/#a" }), Err(Reason::Invalid)),
            (json!({ "name": "a@b", "port": 80 }), Err(Reason::Invalid)),
        ] {
            assert_eq!(read(reference.clone()), want.map(str::to_owned), "{reference}");
        }
        let both = json!({ "url": "https://example.com/", "serviceRef": { "name": "crm", "port": 80 } });
        for endpoint in [json!({}), both] {
            assert_eq!(validated(&json!({ "endpoint": endpoint })).unwrap_err().reason, Reason::Invalid);
        }
    }

    #[test]
    fn header_rules() {
        let read =
            |headers: Value| validated(&json!({ "endpoint": { "url": "https://example.com/", "headers": headers } }));
        let valid = read(json!([
            { "name": "X-Team", "value": "billing" },
            { "name": "Authorization", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } },
            { "name": "X-Tenant", "valueFrom": { "attributeRef": { "name": "tenantid" } } },
        ]))
        .unwrap();
        assert_eq!(valid.destination.headers[0].name, "x-team");
        assert_eq!(valid.destination.headers[2].value, HeaderValue::Attribute("tenantid".into()));
        for headers in [
            json!([{ "name": "X-A", "value": "1" }, { "name": "x-a", "value": "2" }]),
            json!([{ "name": "Webhook-Id", "value": "1" }]),
            json!([{ "name": "Host", "value": "1" }]),
            json!([{ "name": "x a", "value": "1" }]),
            json!([{ "name": "x-a", "value": "1\r\nx-b: 2" }]),
            json!([{ "name": "x-a" }]),
            json!([{ "name": "x-a", "valueFrom": {} }]),
            json!([{ "name": "x-a", "valueFrom": { "attributeRef": { "name": "data" } } }]),
            json!([{ "name": "x-a", "valueFrom": { "attributeRef": { "name": "tenant-id" } } }]),
        ] {
            assert_eq!(read(headers.clone()).unwrap_err().reason, Reason::Invalid, "{headers}");
        }
    }

    #[test]
    fn where_to_start() {
        let read = |start: Value| {
            validated(&json!({ "startFrom": start })).map(|valid| valid.start).map_err(|refusal| refusal.reason)
        };
        let t = |text: &str| StartAt::Time(text.parse().unwrap());
        for (start, want) in [
            (json!(null), Ok(StartAt::New)),
            (json!({ "position": "New" }), Ok(StartAt::New)),
            (json!({ "position": "Earliest" }), Ok(StartAt::Earliest)),
            (json!({ "position": "Sequence", "sequence": 7 }), Ok(StartAt::Sequence(7))),
            (json!({ "position": "Time", "time": "2026-01-31T09:00:00+01:00" }), Ok(t("2026-01-31T08:00:00Z"))),
            (json!({ "position": "Sequence", "sequence": 0 }), Err(Reason::Invalid)),
            (json!({ "position": "Sequence" }), Err(Reason::Invalid)),
            (json!({ "position": "Time", "time": "noon" }), Err(Reason::Invalid)),
            (json!({ "position": "Earliest", "sequence": 7 }), Err(Reason::Invalid)),
        ] {
            assert_eq!(read(start.clone()), want, "{start}");
        }
    }

    #[test]
    fn hostile_specs_are_refused() {
        for patch in [
            json!({ "eventTypes": [] }),
            json!({ "eventTypes": [{ "type": "a.>.b" }] }),
            json!({ "signing": { "keys": [] } }),
            json!({ "delivery": { "timeout": "soon" } }),
            json!({ "delivery": { "retry": { "maxAttempts": -1 } } }),
        ] {
            assert_eq!(validated(&patch).unwrap_err().reason, Reason::Invalid, "{patch}");
        }
    }
}
