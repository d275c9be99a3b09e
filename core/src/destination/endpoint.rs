//! The destination of a Subscription's deliveries, with the secrets that go with them.

use serde::{Deserialize, Serialize};

/// Where deliveries go. `S` is a secret: where it is read from, in the clear, or sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination<S> {
    /// The URL, in its canonical form.
    pub url: String,
    /// Headers that go with each request.
    pub headers: Vec<Header<S>>,
    /// The signing secrets, `whsec_...`; all of them sign.
    pub signing: Vec<S>,
}

/// A header that goes with each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header<S> {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: HeaderValue<S>,
}

/// The value of a header, in the clear or from a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeaderValue<S> {
    /// Written in the Subscription.
    Plain(String),
    /// Read from a Secret.
    Secret(S),
}

impl<S> Destination<S> {
    /// The same destination with each secret turned by `turn`, which gets the secret and its field's path.
    ///
    /// # Errors
    /// The first of `turn`.
    pub fn try_map<T, E>(self, mut turn: impl FnMut(S, &str) -> Result<T, E>) -> Result<Destination<T>, E> {
        let Self { url, headers, signing } = self;
        let headers = headers.into_iter().map(|Header { name, value }| {
            let value = match value {
                HeaderValue::Plain(text) => HeaderValue::Plain(text),
                HeaderValue::Secret(secret) => HeaderValue::Secret(turn(secret, &format!("headers[{name}]"))?),
            };
            Ok(Header { name, value })
        });
        let headers = headers.collect::<Result<_, E>>()?;
        let signing = signing.into_iter().enumerate();
        let signing = signing.map(|(i, secret)| turn(secret, &format!("signing[{i}]"))).collect::<Result<_, E>>()?;
        Ok(Destination { url, headers, signing })
    }
}
