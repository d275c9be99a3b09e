//! The record of a disabled Subscription.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The record of a Subscription that is disabled because its endpoint answered 410 Gone: the value of
/// `disabled.<subscription>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disabled {
    /// The record version, [`crate::codec::VERSION`].
    pub version: u32,
    /// The generation of the Subscription that is disabled. An edit makes a new generation, which is served again.
    pub generation: i64,
    /// When the endpoint answered 410.
    pub since: Timestamp,
}
