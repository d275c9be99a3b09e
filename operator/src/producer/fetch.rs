//! Step 1: reads the Producer's stream.

use async_nats::jetstream::stream::Info;
use hookwright_crds::Producer;

use super::validate;
use crate::nats::jetstream::{JetStream, JsResult};
use crate::tenancy::is_stream_name;

/// What NATS has now.
pub(crate) struct Current {
    /// The size of the largest message that the server takes.
    pub(crate) max_payload: usize,
    /// The stream with the name that the Producer would use, if it exists.
    pub(crate) stream: Option<Info>,
}

pub(crate) async fn fetch(producer: &Producer, js: &JetStream) -> JsResult<Current> {
    let max_payload = js.max_payload()?;
    let name = validate::stream_name(producer);
    let stream = if is_stream_name(&name) { js.stream(&name).await? } else { None };
    Ok(Current { max_payload, stream })
}
