//! How far the config bucket goes when the operator begins. What an operator before this one has written is replaced without
//! reading again and again.

use std::convert::Infallible;
use std::time::Duration;

use hookwright_core::nats::names::CONFIG_BUCKET;
use hookwright_runtime::logging;
use tracing::debug;

use crate::cache::fences::Fences;
use crate::context::Context;
use crate::nats::jetstream::JsResult;
use crate::readiness::{Part, Readiness};

const AGAIN: Duration = Duration::from_secs(1);

/// Asks how far the config bucket goes, until that is known.
pub(crate) async fn begin(ctx: &Context, readiness: &Readiness) -> Infallible {
    let newest = async || ctx.js.newest(CONFIG_BUCKET, ">").await.map(|last| last.revision);
    note(&ctx.fences, readiness, newest).await;
    std::future::pending().await
}

async fn note(fences: &Fences, readiness: &Readiness, newest: impl AsyncFn() -> JsResult<u64>) {
    let revision = loop {
        match newest().await {
            Ok(revision) => break revision,
            Err(error) => debug!(error = logging::chain(&error), "can't read how far the config goes"),
        }
        tokio::time::sleep(AGAIN).await;
    };
    fences.begin(revision);
    readiness.there(Part::Config);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;
    use crate::nats::jetstream::JsError;

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_until_it_is_known() {
        let (fences, readiness, asked) = (Fences::default(), Readiness::new(), Cell::new(0));
        let newest = async || {
            asked.set(asked.get() + 1);
            if asked.get() < 3 { Err(JsError::Disconnected) } else { Ok(7) }
        };
        note(&fences, &readiness, newest).await;
        let known = Instant::now();
        readiness.until(Part::Config).await;
        tokio::time::advance(AGAIN).await;
        assert_eq!((asked.get(), fences.since("s-1", "a", 7)), (3, Some(known)));
    }
}
