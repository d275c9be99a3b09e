//! Who is reconciled again, and when.

pub(crate) mod controllers;
pub(crate) mod deletion;
pub(crate) mod failures;
pub(crate) mod leases;
pub(crate) mod programmed;
pub(crate) mod triggers;
pub(crate) mod watch;
