//! Where webhooks are sent.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{SecretKeyRef, patterns};

/// A host whose last label is a number, decimal or hexadecimal, is an IPv4 address to URL parsers, in forms that few
/// expect (`2130706433`, `0x7f.1`). Only the usual form is admitted. The rule looks at the whole URL because the cost
/// of what `url(self).getHostname()` returns can't be estimated.
const NUMERIC_HOST_IS_IPV4: &str = "\
    !self.matches('^https?://([^/?:]*[.])?([0-9]+|0[xX][0-9a-fA-F]*)[.]?([:/?]|$)') || \
    self.matches('^https?://((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.]|[:/?]|$)){4}') && \
    self.matches('^https?://[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+([:/?]|$)')";

/// Where webhooks are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The URL that receives each event as an HTTP POST, such as `https://shop.example.com/hooks`: `https` or `http`
    /// in lower case, a host name or an address, in ASCII (an international host name in its `xn--` form), without
    /// user and password and without a fragment. Addresses of private networks and plain http are refused when
    /// sending, unless the installation allows them. Redirects are not followed. An edit takes effect within 5
    /// seconds, also for events that are being retried.
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::URL))]
    #[x_kube(validation = (
        "isURL(self) && (url(self).getPort() == '' || (int(url(self).getPort()) >= 1 && \
         int(url(self).getPort()) <= 65535))",
        "must be a valid URL with a port from 1 to 65535, or none"
    ))]
    #[x_kube(validation = (NUMERIC_HOST_IS_IPV4, "a numeric host must be an IPv4 address such as 192.0.2.1"))]
    pub url: String,
    /// Headers to add to each request, at most 32; their names are unique without regard to case. Each has a value
    /// here or takes it from a Secret. Refused are headers that Hookwright sets itself (`webhook-*`, `ce-*`, Host,
    /// Content-Type, Content-Length) and those that belong to the connection (Connection, Keep-Alive, TE, Trailer,
    /// Transfer-Encoding, Upgrade, `Proxy-*`). An edit takes effect within 5 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = (
        "self.all(a, self.exists_one(b, b.name.lowerAscii() == a.name.lowerAscii()))",
        "header names must be unique without regard to case"
    ))]
    pub headers: Option<Vec<Header>>,
}

/// A header of each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
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
    /// it; take a credential from a Secret instead. Exactly one of value and valueFrom is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096), regex(pattern = patterns::HEADER_VALUE))]
    pub value: Option<String>,
    /// Where the value comes from. Exactly one of value and valueFrom is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<HeaderSource>,
}

/// Where a header's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderSource {
    /// The Secret's key that holds the value. A change of the Secret is picked up within 5 minutes, and at once by an
    /// edit of the Subscription.
    pub secret_key_ref: SecretKeyRef,
}
