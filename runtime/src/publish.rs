//! Publishing on a condition.

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::subject::ToSubject;
use bytes::Bytes;

/// The header that makes a publish conditional on the subject's last sequence. For a key of a bucket that is its
/// revision.
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// Publishes a message if the last message of its subject has this sequence, which is 0 for a subject without a message.
/// Returns the new sequence once the message is stored, or none if the last sequence was another one.
///
/// # Errors
/// If NATS does not store the message.
pub async fn publish_at<S: ToSubject>(
    jetstream: &Context,
    subject: S,
    mut headers: HeaderMap,
    body: Bytes,
    sequence: u64,
) -> Result<Option<u64>, PublishError> {
    headers.insert(EXPECTED, sequence.to_string().as_str());
    let stored = match jetstream.publish_with_headers(subject, headers, body).await {
        Ok(stored) => stored.await,
        Err(error) => Err(error),
    };
    match stored {
        Ok(ack) => Ok(Some(ack.sequence)),
        Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
        Err(error) => Err(error),
    }
}
