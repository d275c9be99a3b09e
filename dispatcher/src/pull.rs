//! Explicit pulls: each asks for what the budget has granted, none is refilled behind our back.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{self, Message};
use futures::StreamExt;
use hookwright_runtime::nats::Nats;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::budget::{Budget, Grant, Share};

/// A pull that finds nothing waits this long on the server.
const IDLE: Duration = Duration::from_secs(5);
/// A pull that hears nothing for this long beyond its wait is given up: its request or its answer was lost.
const LOST: Duration = Duration::from_secs(2);
/// A pull asks for at most this many messages.
const MAX_EVENTS: u32 = 256;

/// A pull failed; the consumer may be gone, or NATS away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("no consumer {consumer} on stream {stream}")]
    Consumer { stream: String, consumer: String, source: jetstream::stream::ConsumerError },
    #[error("can't ask for messages")]
    Request(#[source] jetstream::consumer::pull::BatchError),
    #[error("the pull ended early")]
    Broken(#[source] async_nats::Error),
}

/// Takes messages from a durable consumer.
pub(crate) struct Puller {
    consumer: PullConsumer,
    connected: watch::Receiver<u64>,
    budget: Budget,
    /// Room for one event beside the budget, so that a waiting pull of an idle producer takes nothing from the others.
    reserve: Budget,
}

impl Puller {
    pub(crate) async fn open(
        nats: &Nats,
        stream: &str,
        consumer: &str,
        budget: Budget,
        max_message: u32,
    ) -> Result<Self, PullError> {
        let found = nats.jetstream.get_consumer_from_stream(consumer, stream).await.map_err(|source| {
            PullError::Consumer { stream: stream.to_owned(), consumer: consumer.to_owned(), source }
        })?;
        let reserve = Budget::new(1, max_message as usize, max_message);
        Ok(Self { consumer: found, connected: nats.connected.clone(), budget, reserve })
    }

    /// What is there now, if anything; else the next message, waiting for a while. Each message goes to `take` with its
    /// share of the budget as soon as it is here. Returns how many there were.
    pub(crate) async fn pull(&mut self, mut take: impl FnMut(Message, Share)) -> Result<usize, PullError> {
        let Some(grant) = self.budget.grant(MAX_EVENTS).await else { return Ok(0) };
        let taken = self.request(grant, None, &mut take).await?;
        if taken > 0 {
            return Ok(taken);
        }
        let grant = tokio::select! {
            biased;
            grant = self.reserve.grant(1) => grant,
            grant = self.budget.grant(1) => grant,
        };
        let Some(grant) = grant else { return Ok(0) };
        self.request(grant, Some(IDLE), &mut take).await
    }

    async fn request(
        &mut self,
        mut grant: Grant,
        wait: Option<Duration>,
        take: &mut impl FnMut(Message, Share),
    ) -> Result<usize, PullError> {
        let (events, bytes) = (grant.events(), grant.bytes());
        self.connected.mark_unchanged();
        let batch = match wait {
            None => self.consumer.fetch().max_messages(events).max_bytes(bytes).messages().await,
            Some(wait) => self.consumer.batch().max_messages(events).max_bytes(bytes).expires(wait).messages().await,
        };
        let mut batch = batch.map_err(PullError::Request)?;
        let silence = wait.unwrap_or_default() + LOST;
        let mut taken = 0;
        loop {
            let message = tokio::select! {
                biased;
                message = timeout(silence, batch.next()) => message.ok().flatten(),
                // A pull does not survive its connection.
                _ = self.connected.changed() => None,
            };
            match message {
                None => return Ok(taken),
                Some(Err(error)) => return Err(PullError::Broken(error)),
                Some(Ok(message)) => {
                    taken += 1;
                    let share = grant.share(message.length);
                    take(message, share);
                }
            }
        }
    }
}
