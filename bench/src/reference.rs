//! The references for Hookwright's figures: the cost of the HTTP request alone (R1), and the floor of any sender that
//! reads from JetStream (R2). Each is a process of its own with a runtime like a dispatcher's.

mod bare;
mod floor;
mod handle;

pub(crate) use bare::{BareArguments, bare};
pub(crate) use floor::{FloorArguments, floor};
pub(crate) use handle::{BareLoad, FloorLoad, Reference, Routes};
