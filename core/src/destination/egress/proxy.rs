//! The proxy of the egress settings.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// A proxy that makes connections by `CONNECT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        let refuse = |why: &str| Err(format!("proxy.url {why}"));
        let Ok(url) = Url::parse(&url) else { return refuse("is not a URL") };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return refuse("must be http://host:port or https://host:port");
        }
        if let Some(Host::Domain(name)) = url.host()
            && !is_name(name)
        {
            return refuse("must have a host name that a certificate can have");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("must not carry a user or password: use proxy.credentialsFile");
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return refuse("must have nothing after the port");
        }
        Ok(Self { url, credentials_file })
    }
}

/// Whether a certificate can be for this name.
fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        let has_right_bytes = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        (1..=63).contains(&label.len()) && has_right_bytes && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
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
            ("https://egress_proxy.example.:3128", true),
            ("https://-proxy.example:3128", false),
            ("https://proxy..example:3128", false),
            ("https://proxy(1).example:3128", false),
        ] {
            assert_eq!(from_value::<ProxySettings>(json!({ "url": url })).is_ok(), want, "{url}");
        }
    }
}
