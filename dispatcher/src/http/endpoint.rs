//! An endpoint as requests need it, prepared once for each record.

use hookwright_core::destination::egress::{EgressPolicy, Refusal};
use hookwright_core::destination::{Destination, HeaderValue as Value};
use hookwright_core::seal::Secret;
use hookwright_core::sign::hmac::SigningKey;
use http::Uri;
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use rustls::pki_types::ServerName;
use std::net::IpAddr;
use std::sync::Arc;
use url::{Host, Url};

use crate::http::request::{is_own, write_field};

/// The destination and the keys that attempts use.
pub(crate) struct Endpoint {
    pub(crate) origin: Arc<Origin>,
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
}

/// The host of an origin.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// An address, which was vetted.
    Address(IpAddr),
    /// A name, whose addresses are vetted each time that it is resolved.
    Domain(String),
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
    pub(crate) fn prepare(destination: &Destination<Secret>, egress: &EgressPolicy) -> Result<Self, Unusable> {
        let url = Url::parse(&destination.url).map_err(|_| Unusable::Unsignable)?;
        egress.check_url(&url).map_err(Unusable::Blocked)?;
        let origin = Origin::of(&url).ok_or(Unusable::Unsignable)?;
        let uri: Uri = url.as_str().parse().map_err(|_| Unusable::Unsignable)?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut headers = HeaderMap::with_capacity(destination.headers.len() + 2);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("hookwright/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        for header in &destination.headers {
            let text = match &header.value {
                Value::Plain(text) => text.as_str(),
                Value::Secret(secret) => secret.expose(),
            };
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Unusable::Unsignable)?;
            let value = HeaderValue::from_str(text).map_err(|_| Unusable::Unsignable)?;
            if !is_own(&name) {
                headers.insert(name, value);
            }
        }
        let mut head = format!("POST {target} HTTP/1.1\r\n").into_bytes();
        write_field(&mut head, "host", origin.authority(&url).as_bytes());
        headers.iter().for_each(|(name, value)| write_field(&mut head, name.as_str(), value.as_bytes()));
        let names = headers.keys().cloned().collect();
        let keys: Result<Vec<_>, _> =
            destination.signing.iter().map(|secret| SigningKey::parse(secret.expose())).collect();
        let keys = keys.ok().filter(|keys| !keys.is_empty()).ok_or(Unusable::Unsignable)?;
        Ok(Self { origin: Arc::new(origin), head, names, keys })
    }
}

impl Origin {
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let host = match url.host()? {
            Host::Domain(domain) => Name::Domain(domain.to_owned()),
            Host::Ipv4(address) => Name::Address(address.into()),
            Host::Ipv6(address) => Name::Address(address.into()),
        };
        let tls = match (&host, url.scheme()) {
            (_, "http") => None,
            (Name::Domain(domain), _) => Some(ServerName::try_from(domain.clone()).ok()?),
            (Name::Address(address), _) => Some(ServerName::from(*address)),
        };
        Some(Self { host, port: url.port_or_known_default()?, tls })
    }

    /// The value of `host`.
    fn authority(&self, url: &Url) -> String {
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}
