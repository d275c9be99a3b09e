//! The record of a deleted Subscription.

use serde::{Deserialize, Serialize};

/// The record of a Subscription that was deleted: the value of `deleted.<subscription>` in the config bucket. Nothing
/// else means that a Subscription was deleted: a record that is missing may be missing at one replica, or for as long
/// as its Producer is created again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deleted {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
}
