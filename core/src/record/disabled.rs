//! Subscriptions whose endpoint is gone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A subscription is disabled, since its endpoint answered 410: the value of `disabled.<subscription>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disabled {
    /// [`VERSION`].
    pub version: u32,
    /// The generation that this holds for; an edit ends it.
    pub generation: i64,
    /// When the endpoint said so.
    pub since: Timestamp,
}
