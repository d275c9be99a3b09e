//! An endpoint as requests need it, prepared once for each record.

use hookwright_core::destination::egress::{EgressPolicy, Refusal};
use hookwright_core::destination::{Destination, HeaderValue as Value};
use hookwright_core::seal::Secret;
use hookwright_core::sign::hmac::SigningKey;
use http::Uri;
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use rustls::pki_types::ServerName;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use url::{Host, Url};

use crate::http::request::{is_own, write_field};

/// The destination and the keys that attempts use.
#[derive(Clone)]
pub(crate) struct Endpoint {
    place: Arc<Place>,
    /// Where connections go, or the egress rule that forbids it.
    pub(crate) origin: Result<Arc<Origin>, Unusable>,
    /// What requests are made of, whatever the egress rules say, or why none can be made.
    pub(crate) template: Result<Arc<Template>, Unusable>,
}

/// Where a record sends to, which the egress rules judge.
struct Place {
    url: Url,
    /// The address of the Service, if it is one.
    service: Option<IpAddr>,
}

/// What requests are made of.
pub(crate) struct Template {
    /// The beginning of each request: the request line, `host`, and the headers of [`Self::names`]. It holds secrets.
    pub(crate) head: Vec<u8>,
    /// The names of the headers that the endpoint sets.
    pub(crate) names: Vec<HeaderName>,
    pub(crate) keys: Vec<SigningKey>,
}

/// Where connections go. Endpoints of one origin share them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) host: Name,
    pub(crate) port: u16,
    /// The name in the server's certificate; none over plain HTTP.
    pub(crate) tls: Option<ServerName<'static>>,
    /// The rules by which addresses are vetted.
    pub(crate) rules: Rules,
}

/// The egress rules of a namespace. They are equal only to themselves, so that no namespace uses a connection that
/// another one's rules have allowed.
#[derive(Debug, Clone)]
pub(crate) struct Rules(pub(crate) Arc<EgressPolicy>);

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Rules {}

impl Hash for Rules {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// The host of an origin.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// An address, which was vetted.
    Address(IpAddr),
    /// A Service's address, which the operator has resolved.
    Service(IpAddr),
    /// A name, whose addresses are vetted each time that it is resolved.
    Domain(String),
}

impl Name {
    /// The host as an egress proxy gets it; none for a Service, which is in this network. A name has no dot at its end, as
    /// proxies compare names with their rules as text.
    pub(crate) fn by_proxy(&self) -> Option<String> {
        match self {
            Self::Domain(name) => Some(name.strip_suffix('.').unwrap_or(name).to_owned()),
            Self::Address(IpAddr::V4(address)) => Some(address.to_string()),
            Self::Address(IpAddr::V6(address)) => Some(format!("[{address}]")),
            Self::Service(_) => None,
        }
    }
}

/// Why no attempt can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// The Subscription is refused, so there is no destination.
    Refused,
    /// The egress rules forbid the URL.
    Blocked(Refusal),
    /// A header, a key or the URL is not valid.
    Unsignable,
}

impl Endpoint {
    /// Prepares the endpoint under these rules.
    ///
    /// # Errors
    /// If the URL can't be read, so that no rules can judge it.
    pub(crate) fn prepare(destination: &Destination<Secret>, rules: &Arc<EgressPolicy>) -> Result<Self, Unusable> {
        let url = Url::parse(&destination.url).map_err(|_| Unusable::Unsignable)?;
        let template = Template::of(destination, &url).map(Arc::new);
        let place = Place { url, service: destination.service };
        Ok(Self { origin: place.origin(rules), template, place: Arc::new(place) })
    }

    /// The endpoint under other rules, or none if they change nothing.
    pub(crate) fn under(&self, rules: &Arc<EgressPolicy>) -> Option<Self> {
        let origin = self.place.origin(rules);
        (origin != self.origin).then(|| Self { origin, ..self.clone() })
    }

    /// What requests are made of and where connections go, or why no attempt can be made. What the rules forbid is
    /// forbidden, whatever else is wrong with it: its events wait.
    pub(crate) fn destination(&self) -> Result<(&Template, &Arc<Origin>), &Unusable> {
        let (origin, template) = (self.origin.as_ref()?, self.template.as_ref()?);
        Ok((template.as_ref(), origin))
    }
}

impl Place {
    /// Where connections go, if the rules allow it.
    fn origin(&self, rules: &Arc<EgressPolicy>) -> Result<Arc<Origin>, Unusable> {
        let origin = match self.service {
            // The operator has resolved the Service; its name is not looked up.
            Some(address) => {
                rules.check_service(address).map_err(Unusable::Blocked)?;
                Origin::of(&self.url, rules).map(|origin| Origin { host: Name::Service(address), ..origin })
            }
            None => {
                rules.check_url(&self.url).map_err(Unusable::Blocked)?;
                Origin::of(&self.url, rules)
            }
        };
        origin.map(Arc::new).ok_or(Unusable::Unsignable)
    }
}

impl Template {
    fn of(destination: &Destination<Secret>, url: &Url) -> Result<Self, Unusable> {
        let uri: Uri = url.as_str().parse().map_err(|_| Unusable::Unsignable)?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut headers = HeaderMap::with_capacity(destination.headers.len() + 2);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("hookwright/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        for header in &destination.headers {
            let text = match &header.value {
                Value::Plain(text) => text.as_str(),
                Value::Secret(secret) => secret.expose(),
                // It comes with each event.
                Value::Attribute(_) => continue,
            };
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Unusable::Unsignable)?;
            let value = HeaderValue::from_str(text).map_err(|_| Unusable::Unsignable)?;
            if !is_own(&name) {
                headers.insert(name, value);
            }
        }
        let mut head = format!("POST {target} HTTP/1.1\r\n").into_bytes();
        write_field(&mut head, "host", authority(url).as_bytes());
        headers.iter().for_each(|(name, value)| write_field(&mut head, name.as_str(), value.as_bytes()));
        let names = headers.keys().cloned().collect();
        let keys: Result<Vec<_>, _> =
            destination.signing.iter().map(|secret| SigningKey::parse(secret.expose())).collect();
        let keys = keys.ok().filter(|keys| !keys.is_empty()).ok_or(Unusable::Unsignable)?;
        Ok(Self { head, names, keys })
    }
}

impl Origin {
    pub(crate) fn of(url: &Url, rules: &Arc<EgressPolicy>) -> Option<Self> {
        let (host, name) = match url.host()? {
            Host::Domain(domain) => (Name::Domain(domain.to_owned()), ServerName::try_from(domain.to_owned()).ok()),
            Host::Ipv4(address) => (Name::Address(address.into()), Some(IpAddr::from(address).into())),
            Host::Ipv6(address) => (Name::Address(address.into()), Some(IpAddr::from(address).into())),
        };
        let tls = if url.scheme() == "http" { None } else { Some(name?) };
        Some(Self { host, port: url.port_or_known_default()?, tls, rules: Rules(Arc::clone(rules)) })
    }
}

/// The value of `host`.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use hookwright_core::destination::egress::Egress;

    use super::*;

    #[test]
    fn a_proxy_gets_each_host_in_one_form() {
        let rules = Arc::default();
        for (url, want) in [
            ("https://Example.com./", "example.com"),
            ("https://example.com/", "example.com"),
            ("https://0x08.010.8.8/", "8.8.8.8"),
            ("https://8.8.8.8./", "8.8.8.8"),
            ("https://[2A00:0::1]/", "[2a00::1]"),
        ] {
            let origin = Origin::of(&Url::parse(url).unwrap(), &rules).unwrap();
            assert_eq!(origin.host.by_proxy().as_deref(), Some(want), "{url}");
        }
        assert_eq!(Name::Service(IpAddr::from([10, 96, 0, 7])).by_proxy(), None);
    }

    /// A Service is dialled at its address, which need not be among the allowed ones, unless it is denied.
    #[test]
    fn a_service_is_dialled_at_its_address_under_its_name() {
        let egress: Egress = serde_json::from_str(r#"{"deniedCIDRs": ["10.96.9.0/24"]}"#).unwrap();
        let prepared = |url: &str, service: Option<&str>| {
            let destination = Destination {
                url: url.to_owned(),
                service: service.map(|address| address.parse().unwrap()),
                headers: Vec::new(),
                signing: vec![Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned())],
            };
            Endpoint::prepare(&destination, egress.of("shop")).unwrap()
        };
        let (name, address) = (ServerName::try_from("crm.sales.svc").unwrap(), "10.96.0.7".parse().unwrap());
        let origin = |url: &str| {
            let Origin { host, port, tls, .. } = Arc::into_inner(prepared(url, Some("10.96.0.7")).origin.ok()?)?;
            Some((host, port, tls))
        };
        assert_eq!(origin("http://crm.sales.svc:8080/"), Some((Name::Service(address), 8080, None)));
        assert_eq!(origin("https://crm.sales.svc/"), Some((Name::Service(address), 443, Some(name))));
        let head = prepared("http://crm.sales.svc:8080/a?b", Some("10.96.0.7")).template.unwrap().head.clone();
        assert!(head.starts_with(b"POST /a?b HTTP/1.1\r\nhost: crm.sales.svc:8080\r\n"));
        for (url, service) in [
            ("http://crm.sales.svc:8080/", None),
            ("http://10.96.0.7/", None),
            ("http://crm.sales.svc/", Some("10.96.9.7")),
            ("http://crm.sales.svc/", Some("169.254.169.254")),
        ] {
            assert!(matches!(prepared(url, service).origin, Err(Unusable::Blocked(_))), "{url} {service:?}");
        }
    }

    #[test]
    fn what_is_forbidden_waits_although_no_request_can_be_made_of_it() {
        let rules = |text: &str| serde_json::from_str::<Egress>(text).unwrap();
        let (closed, open) = (rules("{}"), rules(r#"{"allowedPorts": [8443]}"#));
        let url = "https://example.com:8443/".to_owned();
        let without_a_key = Destination { url, service: None, headers: Vec::new(), signing: Vec::new() };
        let mut endpoint = Endpoint::prepare(&without_a_key, closed.of("shop")).unwrap();
        for (rules, is_blocked) in [(&closed, true), (&open, false), (&closed, true)] {
            endpoint = endpoint.under(rules.of("shop")).unwrap_or(endpoint);
            let why = endpoint.destination().err().cloned();
            assert_eq!(matches!(why, Some(Unusable::Blocked(_))), is_blocked, "{why:?}");
            assert_eq!(why == Some(Unusable::Unsignable), !is_blocked, "{why:?}");
        }
    }
}
