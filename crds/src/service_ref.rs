//! The Service that webhooks are sent to, in place of a URL.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns;
use crate::schema::plain_enum;

/// A Service of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceRef {
    /// Name of the Service. It needs a cluster IP and a selector: a headless Service, one of type ExternalName and one
    /// without a selector are refused.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::NAMESPACE))]
    pub name: String,
    /// Namespace of the Service. A Service of another namespace than the Subscription's has to name the Subscription's
    /// namespace in its annotation `hookwright.dev/allowed-namespaces`: names with commas between them, or `*`. Default:
    /// the Subscription's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::NAMESPACE))]
    pub namespace: Option<String>,
    /// A port of the Service, from 1 to 65535, with protocol TCP.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The path, with a query if it has one, such as `/hooks`. Default: `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = patterns::PATH))]
    pub path: Option<String>,
    /// Http, or Https with a certificate for `<name>.<namespace>.svc`. Default: Http.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
}

/// How webhooks are sent to a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum Scheme {
    /// Without TLS.
    #[default]
    Http,
    /// With TLS.
    Https,
}

impl ServiceRef {
    /// The host in URLs and certificates, for a Subscription of this namespace.
    pub fn host(&self, subscription: &str) -> String {
        format!("{}.{}.svc", self.name, self.namespace(subscription))
    }

    /// The Service's namespace, for a Subscription of this namespace.
    pub fn namespace<'a>(&'a self, subscription: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(subscription)
    }

    /// The URL that the reference stands for, for a Subscription of this namespace.
    pub fn url(&self, subscription: &str) -> String {
        let scheme = match self.scheme.unwrap_or_default() {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{}:{}{}", self.host(subscription), self.port, self.path.as_deref().unwrap_or("/"))
    }
}
