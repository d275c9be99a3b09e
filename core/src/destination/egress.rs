//! The egress rules: which endpoints may be dialled. Tenants choose the endpoints, so without these rules a dispatcher
//! would be a proxy into the network that it runs in.

mod addresses;
mod again;
mod hosts;
mod ports;
mod proxy;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

pub use hosts::HostSuffix;
pub use ports::PortRange;
pub use proxy::ProxySettings;

use addresses::{is_never_allowed, is_public, is_within_any, reached};

/// The egress file of the platform team: the rules of each namespace. By default, only public addresses over HTTPS on
/// port 443 may be dialled.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Settings")]
pub struct Egress {
    /// The rules of the namespaces that are not listed.
    others: Arc<EgressPolicy>,
    namespaces: HashMap<String, Arc<EgressPolicy>>,
    proxy: Option<ProxySettings>,
}

impl Egress {
    /// The proxy through which everything but Services is reached, if there is one.
    #[must_use]
    pub fn proxy(&self) -> Option<&ProxySettings> {
        self.proxy.as_ref()
    }

    /// The rules of a namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> &Arc<EgressPolicy> {
        self.namespaces.get(namespace).unwrap_or(&self.others)
    }
}

/// The file as it is written.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Settings {
    #[serde(rename = "allowedCIDRs")]
    allowed_cidrs: Option<Vec<IpNet>>,
    allowed_hosts: Option<Vec<HostSuffix>>,
    allowed_ports: Option<Vec<PortRange>>,
    plain_http: Option<bool>,
    #[serde(rename = "deniedCIDRs")]
    denied_cidrs: Vec<IpNet>,
    namespaces: BTreeMap<String, NamespaceSettings>,
    proxy: Option<ProxySettings>,
}

/// The rules of a namespace that replace the defaults.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct NamespaceSettings {
    #[serde(rename = "allowedCIDRs")]
    allowed_cidrs: Option<Vec<IpNet>>,
    allowed_hosts: Option<Vec<HostSuffix>>,
    allowed_ports: Option<Vec<PortRange>>,
    plain_http: Option<bool>,
}

impl TryFrom<Settings> for Egress {
    type Error = String;

    fn try_from(settings: Settings) -> Result<Self, String> {
        let Settings { allowed_cidrs, allowed_hosts, allowed_ports, plain_http, .. } = settings;
        let Settings { denied_cidrs, namespaces, proxy, .. } = settings;
        let listed = NamespaceSettings { allowed_cidrs, allowed_hosts, allowed_ports, plain_http };
        let standard = EgressPolicy { denied_cidrs, ..EgressPolicy::default() };
        let others = standard.changed(listed)?;
        let namespaces = namespaces.into_iter().map(|(namespace, settings)| {
            let policy = others.changed(settings).map_err(|why| format!("namespaces.{namespace}.{why}"))?;
            Ok((namespace, Arc::new(policy)))
        });
        Ok(Self { namespaces: namespaces.collect::<Result<_, String>>()?, others: Arc::new(others), proxy })
    }
}

/// The egress rules of a namespace. They are serialized for the [digest](Egress::digest) alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EgressPolicy {
    /// Networks that may be dialled although they are not public.
    allowed_cidrs: Vec<IpNet>,
    /// The only hosts that URLs may have; any host if there are none.
    allowed_hosts: Vec<HostSuffix>,
    allowed_ports: Vec<PortRange>,
    /// Whether URLs with `http://` are allowed.
    plain_http: bool,
    /// Networks that may not be dialled, whatever else the rules say.
    denied_cidrs: Vec<IpNet>,
}

impl Default for EgressPolicy {
    fn default() -> Self {
        Self {
            allowed_cidrs: Vec::new(),
            allowed_hosts: Vec::new(),
            allowed_ports: vec![PortRange::HTTPS],
            plain_http: false,
            denied_cidrs: Vec::new(),
        }
    }
}

/// Why an endpoint may not be dialled. The text is for the platform team's logs; a tenant doesn't see it.
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
    /// The host is not among the allowed hosts.
    #[error("host {0} is not allowed")]
    Host(String),
    /// The port is not among the allowed ports.
    #[error("port {0} is not allowed")]
    Port(u16),
    /// The address is not public, and not among the allowed ones. It is the URL's host itself, or an address that the
    /// host resolves to.
    #[error("address {0} is not allowed")]
    Address(IpAddr),
    /// The address is among those that the settings deny, or among those that are never allowed.
    #[error("address {0} is denied")]
    Denied(IpAddr),
}

impl EgressPolicy {
    /// These rules with what a namespace has instead.
    fn changed(&self, settings: NamespaceSettings) -> Result<Self, &'static str> {
        let policy = Self {
            allowed_cidrs: settings.allowed_cidrs.unwrap_or_else(|| self.allowed_cidrs.clone()),
            allowed_hosts: settings.allowed_hosts.unwrap_or_else(|| self.allowed_hosts.clone()),
            allowed_ports: settings.allowed_ports.unwrap_or_else(|| self.allowed_ports.clone()),
            plain_http: settings.plain_http.unwrap_or(self.plain_http),
            denied_cidrs: self.denied_cidrs.clone(),
        };
        if policy.allowed_ports.is_empty() { Err("allowedPorts must have at least one port") } else { Ok(policy) }
    }

    /// Checks everything in a URL that can be checked without resolving its host.
    ///
    /// # Errors
    /// The first rule that the URL breaks.
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        self.refusals(url).into_iter().next().map_or(Ok(()), Err)
    }

    /// All rules that a URL breaks, as far as they can be checked without resolving its host.
    #[must_use]
    pub fn refusals(&self, url: &Url) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if !(url.scheme() == "https" || (url.scheme() == "http" && self.plain_http)) {
            refusals.push(Refusal::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            refusals.push(Refusal::UserInfo);
        }
        let Some(host) = url.host() else {
            refusals.push(Refusal::NoHost);
            return refusals;
        };
        if !self.allowed_hosts.is_empty() && !self.allowed_hosts.iter().any(|allowed| allowed.covers(&host)) {
            refusals.push(Refusal::Host(host.to_string()));
        }
        let port = url.port_or_known_default().unwrap_or(0);
        if !self.allowed_ports.iter().any(|range| range.contains(port)) {
            refusals.push(Refusal::Port(port));
        }
        let address: Option<IpAddr> = match host {
            // By RFC 6761, this name is always the loopback address.
            Host::Domain(name) => is_localhost(name).then_some(Ipv4Addr::LOCALHOST.into()),
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        };
        refusals.extend(address.and_then(|address| self.check_address(address).err()));
        refusals
    }

    /// Checks an address that is about to be dialled. The caller refuses the whole answer of a resolver if it contains
    /// one forbidden address.
    ///
    /// # Errors
    /// If the address is forbidden.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Refusal> {
        self.check_service(address)?;
        let reached = reached(address);
        let is_allowed = |net: &IpNet| net.contains(&reached) || net.contains(&address);
        if self.allowed_cidrs.iter().any(is_allowed) || is_public(address) {
            Ok(())
        } else {
            Err(Refusal::Address(address))
        }
    }

    /// Checks the address of a Service that the operator has resolved. It need not be public.
    ///
    /// # Errors
    /// If the address is denied.
    pub fn check_service(&self, address: IpAddr) -> Result<(), Refusal> {
        if is_never_allowed(address) || is_within_any(&self.denied_cidrs, address) {
            Err(Refusal::Denied(address))
        } else {
            Ok(())
        }
    }
}

/// Whether the host of the URL is the machine that dials it.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_localhost(name),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests;
