//! An endpoint as requests need it, prepared once for each record.

use hookwright_core::destination::egress::{EgressPolicy, Refusal};
use hookwright_core::destination::{Destination, HeaderValue as Value};
use hookwright_core::seal::Secret;
use hookwright_core::sign::hmac::SigningKey;
use http::Uri;
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use url::Url;

/// The URL, headers and keys that attempts use.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) keys: Vec<SigningKey>,
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
        let uri = url.as_str().parse().map_err(|_| Unusable::Unsignable)?;
        let mut headers = HeaderMap::with_capacity(destination.headers.len() + 2);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("hookwright/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        for header in &destination.headers {
            let (text, sensitive) = match &header.value {
                Value::Plain(text) => (text.as_str(), false),
                Value::Secret(secret) => (secret.expose(), true),
            };
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Unusable::Unsignable)?;
            let mut value = HeaderValue::from_str(text).map_err(|_| Unusable::Unsignable)?;
            value.set_sensitive(sensitive);
            headers.insert(name, value);
        }
        let keys: Result<Vec<_>, _> =
            destination.signing.iter().map(|secret| SigningKey::parse(secret.expose())).collect();
        let keys = keys.ok().filter(|keys| !keys.is_empty()).ok_or(Unusable::Unsignable)?;
        Ok(Self { uri, headers, keys })
    }
}
