//! The destination of a Subscription's deliveries, with its secrets.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Where a Subscription's deliveries go. `S` is the form of a secret: a reference to it, in the clear, or sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination<S> {
    /// The URL, in its canonical form.
    pub url: String,
    /// The address of the Service that the URL stands for, which is dialled whatever the URL's host resolves to; none
    /// if the endpoint is no Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<IpAddr>,
    /// The headers that the Subscription adds to each request.
    pub headers: Vec<Header<S>>,
    /// The signing secrets, of the form `whsec_...`. Each request is signed with all of them.
    pub signing: Vec<S>,
}

/// A header that a Subscription adds to each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header<S> {
    /// The name of the header.
    pub name: String,
    /// The value of the header.
    pub value: HeaderValue<S>,
}

/// The value of a header: in the clear, from a Secret or from each event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeaderValue<S> {
    /// The value is written in the Subscription.
    Plain(String),
    /// The value is read from a Secret.
    Secret(S),
    /// The value is that of the event's CloudEvents attribute of this name. An event without it has no such header.
    Attribute(String),
}

impl<S> Destination<S> {
    /// Converts each secret by `turn`, which gets the secret and the path of its field, such as `signing[0]`.
    ///
    /// # Errors
    /// The first error of `turn`.
    pub fn try_map<T, E>(self, mut turn: impl FnMut(S, &str) -> Result<T, E>) -> Result<Destination<T>, E> {
        let Self { url, service, headers, signing } = self;
        let headers = headers.into_iter().map(|Header { name, value }| {
            let value = match value {
                HeaderValue::Plain(text) => HeaderValue::Plain(text),
                HeaderValue::Secret(secret) => HeaderValue::Secret(turn(secret, &format!("headers[{name}]"))?),
                HeaderValue::Attribute(attribute) => HeaderValue::Attribute(attribute),
            };
            Ok(Header { name, value })
        });
        let headers = headers.collect::<Result<_, E>>()?;
        let signing = signing.into_iter().enumerate();
        let signing = signing.map(|(i, secret)| turn(secret, &format!("signing[{i}]"))).collect::<Result<_, E>>()?;
        Ok(Destination { url, service, headers, signing })
    }
}
