//! What a panic says.

use std::any::Any;

/// The message of a panic, if it has one. A panic may carry any value.
#[must_use]
pub fn message(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str))
}
