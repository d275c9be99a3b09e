//! Catches panics in work on one item of many. A fault of Hookwright's that one item brings out must not keep the others
//! waiting, or end the process.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt;
use tracing::error;

/// Works on one item. A panic is told, and the item passed over.
pub(crate) async fn one<T>(item: impl Display, work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| tell(item, &*panic)).ok()
}

/// The same as [`one`] for work that waits for nothing.
pub(crate) fn one_at_once<T>(item: impl Display, work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| tell(item, &*panic)).ok()
}

fn tell(item: impl Display, panic: &(dyn Any + Send)) {
    let panic = message(panic);
    error!(%item, panic, "a fault in Hookwright ended the work on this item; the work on others goes on");
}

/// Returns what a panic says.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    hookwright_runtime::panics::message(panic).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_item_that_panics_is_passed_over() {
        let mut done = Vec::new();
        for item in 1..=4 {
            let half = |item: i32| if item == 2 { panic!("no {item}") } else { item };
            done.push((one(item, async { half(item) }).await, one_at_once(item, || half(item))));
        }
        assert_eq!(done, [(Some(1), Some(1)), (None, None), (Some(3), Some(3)), (Some(4), Some(4))]);
    }
}
