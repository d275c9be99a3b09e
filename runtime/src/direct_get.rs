//! Batched direct gets: many messages of a stream for one request (NATS ADR-31). Any replica answers, also one that is
//! behind the leader.

use async_nats::client::Request;
use async_nats::{HeaderValue, Message, PublishError, StatusCode, SubscribeError, Subscriber};
use futures::StreamExt;
use serde_json::Value;

use crate::nats::Nats;

/// The header with a message's sequence in its stream.
pub const SEQUENCE: &str = "Nats-Sequence";
/// The status with which the server ends a batch.
const END_OF_BATCH: u16 = 204;

/// Why a batch can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectGetError {
    #[error("can't subscribe to an inbox for messages")]
    Subscribe(#[source] SubscribeError),
    #[error("can't ask for messages")]
    Ask(#[source] PublishError),
    #[error("the server answered with status {0}")]
    Refused(StatusCode),
    #[error("the answer is incomplete")]
    Ended,
}

/// A part of the answer.
pub enum Answer {
    /// A message of the stream.
    Message(Message),
    /// The replica has no such message.
    NotFound,
    /// The batch is complete. The headers say how far the replica is.
    End(Message),
}

/// The answer to a batched direct get.
pub struct Batch(Subscriber);

impl Batch {
    /// Asks the stream of this name for messages. `wanted` is the request as JSON.
    ///
    /// # Errors
    /// If the request can't be sent.
    pub async fn ask(nats: &Nats, stream: &str, wanted: &Value) -> Result<Self, DirectGetError> {
        let inbox = nats.client.new_inbox();
        let answers = nats.client.subscribe(inbox.clone()).await.map_err(DirectGetError::Subscribe)?;
        let request = Request::new().inbox(inbox).payload(wanted.to_string().into());
        let asked = nats.jetstream.send_request(format!("DIRECT.GET.{stream}"), request).await;
        asked.map_err(DirectGetError::Ask)?;
        Ok(Self(answers))
    }

    /// Waits for the next part of the answer.
    ///
    /// # Errors
    /// If the server refuses the request, or the connection ends.
    pub async fn next(&mut self) -> Result<Answer, DirectGetError> {
        let answer = self.0.next().await.ok_or(DirectGetError::Ended)?;
        // A publisher may have written a status into its message, too.
        match answer.status.filter(|_| server_header(&answer, SEQUENCE).is_none()) {
            None => Ok(Answer::Message(answer)),
            Some(StatusCode::NOT_FOUND) => Ok(Answer::NotFound),
            Some(status) if status.as_u16() == END_OF_BATCH => Ok(Answer::End(answer)),
            Some(status) => Err(DirectGetError::Refused(status)),
        }
    }
}

/// The value that the server gave to this header. It stands behind those that the publisher wrote under the same name.
#[must_use]
pub fn server_header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get_all(name).last().map(HeaderValue::as_str)
}
