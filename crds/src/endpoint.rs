//! The endpoint that webhooks are sent to.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{SecretKeyRef, ServiceRef, patterns};

/// The rule that a host whose last label is a number has the usual form of an IPv4 address. URL parsers take every such
/// host for an IPv4 address, also in forms that few people expect (`2130706433`, `0x7f.1`). The rule matches the whole
/// URL, because the API server can't estimate the cost of a rule on the result of `url(self).getHostname()`.
const NUMERIC_HOST_IS_IPV4: &str = "\
    !self.matches('^https?://([^/?:]*[.])?([0-9]+|0[xX][0-9a-fA-F]*)[.]?([:/?]|$)') || \
    self.matches('^https?://((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.]|[:/?]|$)){4}') && \
    self.matches('^https?://[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+([:/?]|$)')";

/// Where webhooks are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.url), has(self.serviceRef)].filter(x, x).size() == 1",
    "an endpoint needs exactly one of url and serviceRef"
))]
pub struct Endpoint {
    /// The URL that receives each event as an HTTP POST, such as `https://shop.example.com/hooks`: `https` or `http` in
    /// lower case, a host name or an address, in ASCII (an international host name in its `xn--` form), without user
    /// and password and without a fragment. Unless the installation allows them, addresses of private networks, ports
    /// other than 443 and plain http are refused: what can be seen in the URL makes condition Accepted False with reason
    /// EndpointNotAllowed, and a host name's addresses are looked at when a webhook is sent. Redirects are not followed.
    /// An edit takes effect within 5 seconds, also for events that are being retried. Exactly one of url and serviceRef
    /// must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::URL))]
    #[x_kube(validation = (
        "isURL(self) && (url(self).getPort() == '' || (int(url(self).getPort()) >= 1 && \
         int(url(self).getPort()) <= 65535))",
        "must be a valid URL with a port from 1 to 65535, or none"
    ))]
    #[x_kube(validation = (NUMERIC_HOST_IS_IPV4, "a numeric host must be an IPv4 address such as 192.0.2.1"))]
    pub url: Option<String>,
    /// A Service of this cluster, which need not be among the addresses and ports that the installation allows. Host and
    /// TLS name are `<name>.<namespace>.svc`. Anyone who may write the Service's EndpointSlices chooses the addresses that
    /// webhooks arrive at. Exactly one of url and serviceRef must be given. An edit, also one of the Service, takes
    /// effect within seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_ref: Option<ServiceRef>,
    /// Headers to add to each request, at most 32. Their names must be unique without regard to case. Each header has a
    /// value here or takes it from a Secret or from the event. Headers that Hookwright sets itself (`webhook-*`, `ce-*`, Host,
    /// Content-Type, Content-Length) and headers that belong to the connection (Connection, Keep-Alive, TE, Trailer,
    /// Transfer-Encoding, Upgrade, `Proxy-*`) are refused. Default: none. An edit takes effect within 5 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = (
        "self.all(a, self.exists_one(b, b.name.lowerAscii() == a.name.lowerAscii()))",
        "header names must be unique without regard to case"
    ))]
    pub headers: Option<Vec<Header>>,
}

/// A header that is added to each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.value), has(self.valueFrom)].filter(x, x).size() == 1",
    "a header needs exactly one of value and valueFrom"
))]
pub struct Header {
    /// Name of the header, such as `Authorization`.
    #[schemars(length(min = 1, max = 128), regex(pattern = patterns::HEADER_NAME))]
    #[x_kube(validation = (
        "!['webhook-', 'ce-', 'proxy-'].exists(p, self.lowerAscii().startsWith(p)) && \
         !(self.lowerAscii() in ['connection', 'content-length', 'content-type', 'host', 'keep-alive', 'te', \
         'trailer', 'transfer-encoding', 'upgrade'])",
        "this header is set by Hookwright or belongs to the connection"
    ))]
    pub name: String,
    /// The value: visible ASCII characters, spaces and tabs, at most 4096. Anyone who may read Subscriptions can read
    /// it: use valueFrom for a credential. Exactly one of value and valueFrom must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096), regex(pattern = patterns::HEADER_VALUE))]
    pub value: Option<String>,
    /// Where the value comes from. Exactly one of value and valueFrom must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<HeaderSource>,
}

/// Where a header's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.secretKeyRef), has(self.attributeRef)].filter(x, x).size() == 1",
    "valueFrom needs exactly one of secretKeyRef and attributeRef"
))]
pub struct HeaderSource {
    /// The key of a Secret that holds the value: visible ASCII characters, spaces and tabs, at most 4096. A change of
    /// the Secret takes effect within 30 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// The attribute of each event that holds the value, percent-encoded as in `ce-*` headers. An event that lacks the
    /// attribute is sent without the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute_ref: Option<AttributeRef>,
}

/// A CloudEvents attribute of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AttributeRef {
    /// Name of the attribute, such as `subject`, or `tenantid` for an extension: lower-case letters and digits.
    #[schemars(length(min = 1, max = 64), regex(pattern = patterns::ATTRIBUTE_NAME))]
    #[x_kube(validation = ("self != 'data'", "data is no attribute"))]
    pub name: String,
}
