//! Step 1: reads the Producer's stream.

use std::collections::HashMap;

use async_nats::jetstream::stream::{Config, Info};
use hookwright_crds::Producer;
use kube::ResourceExt;

use super::stored::{self, Origin, Origins};
use crate::cache::references::stream_name;
use crate::context::Context;
use crate::nats::jetstream::{JetStream, JsResult};
use crate::status::conditions::now;
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
        None => Origins::default(),
    };
    let namespace_uid = ctx.namespaces.uid(&producer.namespace().unwrap_or_default()).await;
    Ok(Current { max_payload, stream, origins, namespace_uid })
}

async fn origins(config: &Config, js: &JetStream) -> JsResult<Origins> {
    let names = |config: &Config| stored::sources(config).map(|source| source.name.clone()).collect::<Vec<_>>();
    let (mut streams, mut next) = (HashMap::new(), names(config));
    while let Some(name) = next.pop() {
        if streams.len() >= MOST_ORIGINS || streams.contains_key(&name) || !is_stream_name(&name) {
            continue;
        }
        let found =
            js.stream(&name).await?.map(|Info { config, state, .. }| Origin { config, last: state.last_sequence });
        next.extend(found.as_ref().map(|origin| names(&origin.config)).unwrap_or_default());
        streams.insert(name, found);
    }
    Ok(Origins { streams, at: now() })
}
