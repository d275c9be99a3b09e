//! The records that operator and dispatchers exchange in NATS, encoded by [`crate::codec`]: one file for each type.
//!
//! The operator writes Producers, EventSchemas and Subscriptions to `HOOKWRIGHT_CONFIG`, and dispatchers serve from
//! them. A dispatcher that can't read a record in full stops serving the record's Producer and says why.

mod checkpoint;
mod dead_letter_bytes;
mod deleted;
mod disabled;
mod feature;
mod former;
mod grants;
mod installation;
pub mod lease;
mod producer;
mod schema;
mod subscription;

pub use crate::codec::{RecordError, VERSION, decode, encode, encode_header};
pub use checkpoint::Checkpoint;
pub use dead_letter_bytes::DeadLetterBytes;
pub use deleted::Deleted;
pub use disabled::{Disabled, DisabledFor};
pub use feature::{Feature, Record};
pub use former::Former;
pub use grants::{Admitted, Grants};
pub use installation::Installation;
pub use producer::{ProducerRecord, StreamRef};
pub use schema::{EventSchemaRecord, Validation, Violations};
pub use subscription::{Identity, SubscriptionRecord};
