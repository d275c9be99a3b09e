//! A reference to a key of a Secret.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::patterns;

/// A key of a Secret in the namespace of the object that refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of a Secret in the same namespace. The Secret must have the label `hookwright.dev/use: subscriptions`.
    /// Without it the Secret is not used, and condition ResolvedRefs is False with reason SecretNotLabelled.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SECRET_NAME))]
    pub name: String,
    /// Key within the Secret's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SECRET_KEY))]
    pub key: String,
}
