//! Publishes events as an application does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::publish::PublishAck;
use bytes::Bytes;

/// The wait between a failed publish and the next.
const PAUSE: Duration = Duration::from_millis(50);

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Event {
    subject: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Event {
    /// A message without headers.
    pub fn new(subject: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), headers: HeaderMap::new(), body: body.into() }
    }

    /// A CloudEvent in binary mode, with JSON data.
    pub fn cloud_event(subject: impl Into<String>, id: &str, kind: &str, source: &str, body: impl Into<Bytes>) -> Self {
        Self::new(subject, body)
            .header("ce-specversion", "1.0")
            .header("ce-id", id)
            .header("ce-type", kind)
            .header("ce-source", source)
            .header("content-type", "application/json")
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Adds a `Nats-Msg-Id`: within its duplicate window the server keeps only the first message with this id.
    #[must_use]
    pub fn message_id(self, id: &str) -> Self {
        self.header("Nats-Msg-Id", id)
    }
}

/// Publishes and waits for the server's acknowledgement.
#[derive(Clone)]
pub struct Publisher {
    /// Waits for as long as a busy machine may take.
    patient: jetstream::Context,
    /// Soon asks again, because the server may have crashed with the question.
    impatient: jetstream::Context,
}

impl Publisher {
    pub(crate) fn new(patient: jetstream::Context, impatient: jetstream::Context) -> Self {
        Self { patient, impatient }
    }

    /// Publishes once.
    pub async fn publish(&self, event: &Event) -> Result<PublishAck> {
        publish(&self.patient, event).await
    }

    /// Publishes until the server acknowledges, through crashes of the server. Give the event a [`Event::message_id`],
    /// or it may be stored more than once.
    pub async fn publish_through_faults(&self, event: &Event, deadline: Duration) -> Result<PublishAck> {
        let start = Instant::now();
        loop {
            match publish(&self.impatient, event).await {
                Ok(acknowledged) => return Ok(acknowledged),
                Err(error) if start.elapsed() >= deadline => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

async fn publish(jetstream: &jetstream::Context, event: &Event) -> Result<PublishAck> {
    let Event { subject, headers, body } = event.clone();
    jetstream
        .publish_with_headers(subject, headers, body)
        .await
        .with_context(|| format!("publish to {}", event.subject))?
        .await
        .with_context(|| format!("no acknowledgement for {}", event.subject))
}
