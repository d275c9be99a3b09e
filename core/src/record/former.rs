//! The record of an object of an installation that was taken over.

use serde::{Deserialize, Serialize};

/// The uid that an object of a cluster that is gone has in NATS: the value of `former.<kind>.<namespace>.<name>` in the
/// config bucket. The first object of that name takes the uid up, with all that is stored under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Former {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The uid in NATS.
    pub uid: String,
    /// The uid by which the API server knows the object that has taken it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}
