//! The egress rules: which endpoints may be dialled. Tenants choose the endpoints, so without these rules a dispatcher
//! would be a proxy into the network that it runs in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// The egress settings of the platform team. By default, only public addresses over HTTPS on port 443 may be dialled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EgressPolicy {
    /// Networks that may be dialled although they are not public. Cloud metadata addresses may never be dialled.
    #[serde(rename = "allowedCIDRs")]
    pub allowed_cidrs: Vec<IpNet>,
    /// Ports that may be dialled: each entry is a number or a range such as `"8000-8999"`.
    pub allowed_ports: Vec<PortRange>,
    /// Whether URLs with `http://` are allowed.
    pub plain_http: bool,
}

impl Default for EgressPolicy {
    fn default() -> Self {
        Self { allowed_cidrs: Vec::new(), allowed_ports: vec![PortRange { first: 443, last: 443 }], plain_http: false }
    }
}

/// A port, or a range of ports with both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PortText", into = "PortText")]
pub struct PortRange {
    first: u16,
    last: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PortText {
    Number(u16),
    Range(String),
}

impl TryFrom<PortText> for PortRange {
    type Error = String;
    fn try_from(text: PortText) -> Result<Self, String> {
        let range = match text {
            PortText::Number(port) => Some((port, port)),
            PortText::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((&text, &text));
                first.trim().parse().ok().zip(last.trim().parse().ok())
            }
        };
        match range {
            Some((first, last)) if first > 0 && first <= last => Ok(Self { first, last }),
            _ => Err("a port is 1 to 65535, a range of ports is \"8000-8999\"".to_owned()),
        }
    }
}

impl From<PortRange> for PortText {
    fn from(range: PortRange) -> Self {
        if range.first == range.last {
            Self::Number(range.first)
        } else {
            Self::Range(format!("{}-{}", range.first, range.last))
        }
    }
}

/// Why an endpoint may not be dialled. The text is for the platform team's logs; a tenant only sees `Blocked`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The scheme is neither http nor https, or it is http, which the settings don't allow.
    #[error("the scheme {0} is not allowed")]
    Scheme(String),
    /// The URL has a user name or a password.
    #[error("a URL with a user name or password is not allowed")]
    UserInfo,
    /// The URL has no host.
    #[error("the URL has no host")]
    NoHost,
    /// The port is not among the allowed ports.
    #[error("port {0} is not allowed")]
    Port(u16),
    /// The address is forbidden. It is the URL's host itself, or an address that the host resolves to.
    #[error("address {0} is not allowed")]
    Address(IpAddr),
}

impl EgressPolicy {
    /// Checks everything in a URL that can be checked without resolving its host.
    ///
    /// # Errors
    /// The first rule that the URL breaks.
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        if !(url.scheme() == "https" || (url.scheme() == "http" && self.plain_http)) {
            return Err(Refusal::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo);
        }
        let port = url.port_or_known_default().unwrap_or(0);
        if !self.allowed_ports.iter().any(|range| (range.first..=range.last).contains(&port)) {
            return Err(Refusal::Port(port));
        }
        match url.host() {
            None => Err(Refusal::NoHost),
            // By RFC 6761, this name is always the loopback address.
            Some(Host::Domain(name)) if name == "localhost" || name.ends_with(".localhost") => {
                self.check_address(Ipv4Addr::LOCALHOST.into())
            }
            Some(Host::Domain(_)) => Ok(()),
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
        }
    }

    /// Checks an address that is about to be dialled. The caller refuses the whole answer of a resolver if it contains
    /// one forbidden address.
    ///
    /// # Errors
    /// If the address is forbidden.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Refusal> {
        let inner = unwrap_v4(address);
        let allowed = |net: &IpNet| net.contains(&inner) || net.contains(&address);
        if !is_metadata(inner) && (self.allowed_cidrs.iter().any(allowed) || is_public(inner)) {
            Ok(())
        } else {
            Err(Refusal::Address(address))
        }
    }
}

/// The IPv4 address within an IPv4-mapped or a NAT64 (64:ff9b::/96) address; any other address as it is.
fn unwrap_v4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into(),
        _ => address,
    }
}

/// Whether an address belongs to a cloud metadata service. Such an address is never allowed, whatever the settings say.
fn is_metadata(address: IpAddr) -> bool {
    const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    const AWS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4 == AZURE,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == AWS_V6,
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !DENIED_V4.iter().any(|net| net.contains(&v4)),
        IpAddr::V6(v6) => GLOBAL_V6.contains(&v6) && !DENIED_V6.iter().any(|net| net.contains(&v6)),
    }
}

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// The IPv4 ranges that are not globally reachable by the IANA special-purpose registry, and multicast.
static DENIED_V4: LazyLock<[Ipv4Net; 15]> = LazyLock::new(|| {
    [
        v4(0, 0, 0, 8),
        v4(10, 0, 0, 8),
        v4(100, 64, 0, 10),
        v4(127, 0, 0, 8),
        v4(169, 254, 0, 16),
        v4(172, 16, 0, 12),
        v4(192, 0, 0, 24),
        v4(192, 0, 2, 24),
        v4(192, 88, 99, 24),
        v4(192, 168, 0, 16),
        v4(198, 18, 0, 15),
        v4(198, 51, 100, 24),
        v4(203, 0, 113, 24),
        v4(224, 0, 0, 4),
        v4(240, 0, 0, 4),
    ]
});
/// The one IPv6 range whose addresses are globally reachable, apart from [`DENIED_V6`].
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);
/// The exceptions within [`GLOBAL_V6`]: protocol assignments, documentation, 6to4, and documentation (RFC 9637).
const DENIED_V6: [Ipv6Net; 4] = [v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(cidrs: &[&str], ports: &str, plain_http: bool) -> EgressPolicy {
        EgressPolicy {
            allowed_cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
            allowed_ports: serde_json::from_str(ports).unwrap(),
            plain_http,
        }
    }

    #[test]
    fn addresses_table() {
        let policy = EgressPolicy::default();
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "3fff:fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(policy.check_address(address.parse().unwrap()).is_err(), "{address} must be refused");
        }
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "2001:4860::8888",
            "64:ff9b::1.1.1.1",
            "::ffff:1.1.1.1",
            "3fff:1000::1",
        ] {
            assert!(policy.check_address(address.parse().unwrap()).is_ok(), "{address} must be allowed");
        }
    }

    #[test]
    fn configuration_allows_private_addresses_but_never_metadata() {
        let all = policy(&["0.0.0.0/0", "::/0"], "[443]", false);
        for address in ["10.1.2.3", "127.0.0.1", "::1", "::ffff:10.1.2.3", "64:ff9b::10.0.0.1", "fc00::1"] {
            assert!(all.check_address(address.parse().unwrap()).is_ok(), "{address}");
        }
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "fd00:ec2::254",
            "168.63.129.16",
        ] {
            assert!(all.check_address(address.parse().unwrap()).is_err(), "{address}");
        }
        let one = policy(&["10.1.0.0/16"], "[443]", false);
        assert!(one.check_address("10.1.2.3".parse().unwrap()).is_ok());
        assert!(one.check_address("10.2.2.3".parse().unwrap()).is_err());
    }

    #[test]
    fn urls_table() {
        let strict = EgressPolicy::default();
        let open = policy(&["127.0.0.0/8"], r#"[443, "8000-8999"]"#, true);
        for (url, strict_ok, open_ok) in [
            ("https://example.com/hook", true, true),
            ("https://example.com:443/", true, true),
            ("https://example.com:8443/", false, true),
            ("https://example.com:9000/", false, false),
            ("http://example.com:8080/", false, true),
            ("http://example.com/", false, false),
            ("ftp://example.com/", false, false),
            ("https://user@example.com/", false, false),
            ("https://:pw@example.com/", false, false),
            ("https://1.1.1.1/", true, true),
            ("https://127.0.0.1/", false, true),
            ("https://127.1/", false, true),
            ("https://2130706433/", false, true),
            ("https://0x7f.0.0.1/", false, true),
            ("https://0177.0.0.1/", false, true),
            ("https://[::1]/", false, false),
            ("https://[::ffff:127.0.0.1]/", false, true),
            ("https://169.254.169.254/", false, false),
            ("https://[::ffff:a9fe:a9fe]/", false, false),
            ("https://①②⑦.⓪.⓪.①/", false, true),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!(strict.check_url(&parsed).is_ok(), strict_ok, "strict: {url}");
            assert_eq!(open.check_url(&parsed).is_ok(), open_ok, "open: {url}");
        }
    }

    #[test]
    fn port_ranges() {
        for bad in ["[0]", r#"["9-8"]"#, r#"["x"]"#, "[70000]", r#"["1-"]"#] {
            assert!(serde_json::from_str::<Vec<PortRange>>(bad).is_err(), "{bad}");
        }
        let text = r#"[443,"8000-8999"]"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Vec<PortRange>>(text).unwrap()).unwrap(), text);
    }
}
