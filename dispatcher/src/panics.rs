//! Panics in work on an event or a record. A panic is the fault of what was worked on: it is given up, with the panic's
//! message, and the dispatcher goes on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

/// A variable of the environment that tests set to names with commas between them, at which [`provoked`] panics.
static PANICS_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("HOOKWRIGHT_TEST_PANIC").ok());

/// Does the work. If it panics, returns the panic's message.
///
/// What the work has changed must be whole after a panic, or dropped with it.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(&*panic))
}

/// The message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    hookwright_runtime::panics::message(panic).unwrap_or("a panic without a message").to_owned()
}

/// Panics if a test has asked for it by this name, or by the part of it after its last slash.
#[expect(clippy::panic, reason = "that is what the test asks for")]
pub(crate) fn provoked(name: &str) {
    if let Some(names) = &*PANICS_AT
        && names.split(',').any(|at| name.rsplit('/').next() == Some(at))
    {
        panic!("a test asked for a panic at {name}");
    }
}

/// The same for the record of an object of this name, which a test asks for by `record of` and the name.
pub(crate) fn provoked_by_record_of(name: &str) {
    if PANICS_AT.is_some() {
        provoked(&format!("record of {name}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| -> u8 { panic!("plain") }), Err("plain".to_owned()));
        let n = 3;
        assert_eq!(caught(|| -> u8 { panic!("with {n}") }), Err("with 3".to_owned()));
        let odd = caught(|| -> u8 { std::panic::panic_any(n) });
        assert_eq!(odd, Err("a panic without a message".to_owned()));
    }
}
