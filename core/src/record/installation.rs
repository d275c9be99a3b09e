//! The record of the installation.

use serde::{Deserialize, Serialize};

/// Whose the streams and buckets in a NATS account are: the value of `installation` in the config bucket. The operator
/// writes it before anything else, and an operator of another cluster writes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Installation {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The id of the installation, which is made at its first start.
    pub id: String,
    /// The uid of the namespace `kube-system`, which tells clusters apart.
    pub cluster: String,
}
