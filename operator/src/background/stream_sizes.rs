//! Looks at all streams of the account now and then: those that stayed when their Producers were deleted take up room,
//! too.

use hookwright_runtime::logging;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::background::Periodic;
use crate::context::Context;

/// The look at all streams.
pub(crate) struct ListStreams;

impl Periodic for ListStreams {
    async fn turn(&mut self, ctx: &Context) {
        let since = Instant::now();
        let mut streams = match ctx.js.streams().await {
            Ok(Some(streams)) => streams,
            Ok(None) => return debug!("some servers did not answer for their streams"),
            Err(error) => return warn!(error = logging::chain(&error), "can't list the streams"),
        };
        let mut of_cluster = Vec::new();
        while let Some(stream) = streams.pop() {
            // Another installation in the account may have a namespace of the same name.
            let Some((namespace, uid)) = stream.namespace() else { continue };
            if ctx.namespaces.uid(namespace).await.as_deref() == Some(uid) {
                of_cluster.push(stream);
            }
        }
        ctx.stream_sizes.listed(&of_cluster, since);
    }
}
