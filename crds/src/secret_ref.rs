//! A reference to a key of a Secret.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::patterns;

/// A key of a Secret in the namespace of the object that refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of a Secret in the same namespace. The Secret must have the label `hookwright.dev/use`, with the value
    /// `signing` if the key signs webhooks, `endpoint` if it is sent in a header. Otherwise condition ResolvedRefs is
    /// False with reason SecretNotLabelled, and nothing is sent: events wait. A Secret that the operator generated
    /// signs, for its own Subscription only.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SECRET_NAME))]
    pub name: String,
    /// Key within the Secret's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SECRET_KEY))]
    pub key: String,
}
