//! What Hookwright is measured against: the cost of the HTTP request alone, and the floor of any sender that reads from
//! JetStream. Each is a process of its own, as a dispatcher is, with a runtime like a dispatcher's.

mod bare;
mod floor;
mod handle;

pub(crate) use bare::{BareArguments, bare};
pub(crate) use floor::{FloorArguments, floor};
pub(crate) use handle::{BareLoad, FloorLoad, Reference, Routes};
