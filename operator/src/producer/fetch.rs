//! Step 1: reads the Producer's stream.

use async_nats::jetstream::stream::{Config, Info};
use hookwright_crds::Producer;
use kube::ResourceExt;

use super::stored::{self, Origins};
use crate::cache::references::stream_name;
use crate::context::Context;
use crate::nats::jetstream::{JetStream, JsResult};
use crate::tenancy::is_stream_name;

/// What NATS has now.
pub(crate) struct Current {
    /// The size of the largest message that the server takes.
    pub(crate) max_payload: usize,
    /// The stream with the name that the Producer would use, if it exists.
    pub(crate) stream: Option<Info>,
    /// The streams that it is filled from.
    pub(crate) origins: Origins,
    /// The uid of the Producer's namespace, if it is known.
    pub(crate) namespace_uid: Option<String>,
}

/// How many origins of a stream are looked at.
const MOST_ORIGINS: usize = 32;

pub(crate) async fn fetch(producer: &Producer, ctx: &Context) -> JsResult<Current> {
    let js = &ctx.js;
    let max_payload = js.max_payload()?;
    let name = stream_name(producer);
    let stream = if is_stream_name(&name) { js.stream(&name).await? } else { None };
    let origins = match &stream {
        Some(info) => origins(&info.config, js).await?,
        None => Origins::new(),
    };
    let namespace_uid = ctx.namespaces.uid(&producer.namespace().unwrap_or_default()).await;
    Ok(Current { max_payload, stream, origins, namespace_uid })
}

async fn origins(config: &Config, js: &JetStream) -> JsResult<Origins> {
    let names = |config: &Config| stored::sources(config).map(|source| source.name.clone()).collect::<Vec<_>>();
    let (mut origins, mut next) = (Origins::new(), names(config));
    while let Some(name) = next.pop() {
        if origins.len() >= MOST_ORIGINS || origins.contains_key(&name) || !is_stream_name(&name) {
            continue;
        }
        let found = js.stream(&name).await?.map(|info| info.config);
        next.extend(found.as_ref().map(names).unwrap_or_default());
        origins.insert(name, found);
    }
    Ok(origins)
}
