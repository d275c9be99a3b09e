//! The records that operator and dispatchers exchange in NATS, a type a file: JSON by [`crate::codec`].
//!
//! The operator writes producers, event schemas and subscriptions to `HOOKWRIGHT_CONFIG`, and dispatchers serve from them.
//! A dispatcher that can't read a record in full stops serving that Producer and says why.

mod checkpoint;
mod disabled;
pub mod lease;
mod producer;
mod schema;
mod subscription;

pub use crate::codec::{RecordError, VERSION, decode, encode, encode_header};
pub use checkpoint::Checkpoint;
pub use disabled::Disabled;
pub use producer::{ProducerRecord, StreamRef};
pub use schema::{EventSchemaRecord, Validation, Violations};
pub use subscription::{Identity, SubscriptionRecord};
