//! The hosts of the egress rules.

use serde::{Deserialize, Serialize};
use url::Host;

/// A host name that stands for itself and for every name below it, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostSuffix(Host);

impl TryFrom<String> for HostSuffix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let host = Host::parse(&text).map_err(|error| format!("{text:?} is not a host: {error}"))?;
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        match &host {
            Host::Domain(name) if !name.split('.').all(is_label) => {
                Err(format!("{text:?} is not a host: write example.com for this name and all names below it"))
            }
            _ => Ok(Self(host)),
        }
    }
}

impl From<HostSuffix> for String {
    fn from(suffix: HostSuffix) -> Self {
        suffix.0.to_string()
    }
}

impl HostSuffix {
    /// Whether the host of a URL is this host or is below it.
    #[must_use]
    pub fn covers(&self, host: &Host<&str>) -> bool {
        match (&self.0, host) {
            (Host::Domain(suffix), Host::Domain(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Host::Ipv4(one), Host::Ipv4(other)) => one == other,
            (Host::Ipv6(one), Host::Ipv6(other)) => one == other,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_ends_at_a_label() {
        let covers = |suffix: &str, host: &str| {
            let url = url::Url::parse(&format!("https://{host}/")).unwrap();
            HostSuffix::try_from(suffix.to_owned()).unwrap().covers(&url.host().unwrap())
        };
        for (suffix, host, want) in [
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com.", true),
            ("Example.com", "hooks.shop.example.com", true),
            ("example.com", "badexample.com", false),
            ("example.com", "example.com.evil.org", false),
            ("shop.example.com", "example.com", false),
            ("münchen.example", "a.xn--mnchen-3ya.example", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "0x0a000001", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("[fd00::1]", "[fd00::1]", true),
            ("com", "10.0.0.1", false),
        ] {
            assert_eq!(covers(suffix, host), want, "{suffix} {host}");
        }
        for bad in ["", ".example.com", "*.example.com", "example.com.", "a b", "https://example.com", "a/b", "a:443"] {
            assert!(HostSuffix::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
