//! The proxy of the egress settings.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

/// A proxy that makes connections by `CONNECT`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct ProxySettings {
    /// The proxy's URL: `http` or `https`, with a host and nothing after the port.
    pub url: Url,
    /// The file with `user:password` for the proxy.
    pub credentials_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    url: String,
    credentials_file: Option<PathBuf>,
}

impl TryFrom<Written> for ProxySettings {
    type Error = String;

    fn try_from(Written { url, credentials_file }: Written) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("egress.proxy.url {why}"));
        let Ok(url) = Url::parse(&url) else { return refuse("is not a URL") };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return refuse("must be http://host:port or https://host:port");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("must not carry a user or password: use egress.proxy.credentialsFile");
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return refuse("must have nothing after the port");
        }
        Ok(Self { url, credentials_file })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn urls_of_proxies() {
        for (url, want) in [
            ("http://proxy.example:3128", true),
            ("https://[fd00::1]/", true),
            ("socks5://proxy.example:1080", false),
            ("http://user@proxy.example", false),
            ("http://proxy.example/path", false),
            ("proxy.example:3128", false),
        ] {
            assert_eq!(from_value::<ProxySettings>(json!({ "url": url })).is_ok(), want, "{url}");
        }
    }
}
