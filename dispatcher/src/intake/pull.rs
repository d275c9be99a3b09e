//! Explicit pulls. A pull asks for as much as the budget has granted, and nothing refills it.
//!
//! If a pull ends because its bytes are used up, the client library's batches return an error that only its text tells
//! from a real one. So the answers are read here.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, Message, StatusCode, Subject};
use futures::StreamExt;
use hookwright_runtime::nats::Nats;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::limits::budget::{Budget, Grant, Share};
use crate::parking::messages::StreamPosition;

/// A pull that gets no room from the budget for this long uses the reserve.
const RESERVE_AFTER: Duration = Duration::from_millis(100);
/// How long a pull waits on the server for a first message.
const IDLE: Duration = Duration::from_secs(5);
/// A pull is given up if nothing comes for this long beyond its wait: its request or its answer was lost.
const LOST: Duration = Duration::from_secs(2);
/// For how long a consumer is read that allows small pulls alone, until it is looked at again: it may have been set right.
const SMALL_FOR: Duration = Duration::from_secs(60);
/// The header of a status that says how many messages of the pull are not sent.
const PENDING: &str = "Nats-Pending-Messages";

/// Why a pull failed. The consumer may be gone, or NATS may be unreachable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("can't open consumer {consumer} of stream {stream}")]
    Consumer { stream: String, consumer: String, source: jetstream::stream::ConsumerError },
    #[error(
        "consumer {consumer} of stream {stream} is set to headers_only, so its messages have no bodies; nothing is read \
         until it is set right"
    )]
    HeadersOnly { stream: String, consumer: String },
    #[error("can't subscribe to an inbox for messages")]
    Subscribe(#[source] async_nats::SubscribeError),
    #[error("can't ask for messages")]
    Request(#[source] jetstream::consumer::pull::BatchRequestError),
    #[error("the server refused the pull with status {status}")]
    Refused { status: StatusCode },
}

/// A message of a stream, as a pull brought it.
pub(crate) struct Pulled {
    pub(crate) message: Message,
    pub(crate) position: StreamPosition,
    /// The subject to which the ack goes.
    pub(crate) reply: Subject,
    /// The message's share of the budget.
    pub(crate) share: Share,
}

/// Pulls messages from a durable consumer.
pub(crate) struct Puller {
    client: Client,
    context: Context,
    consumer: PullConsumer,
    /// The most messages that a pull may ask for, and until when that is believed; none if the consumer doesn't limit it.
    max_batch: Option<(u32, Instant)>,
    connected: watch::Receiver<u64>,
    budget: Arc<Budget>,
    /// Room for one event beside the budget. The waiting pull of an idle Producer uses it, so it takes nothing from
    /// other Producers.
    reserve: Arc<Budget>,
}

impl Puller {
    pub(crate) async fn open(
        nats: &Nats,
        stream: &str,
        consumer: &str,
        budget: Arc<Budget>,
        max_message: u32,
    ) -> Result<Self, PullError> {
        let found = nats.jetstream.get_consumer_from_stream(consumer, stream).await.map_err(|source| {
            PullError::Consumer { stream: stream.to_owned(), consumer: consumer.to_owned(), source }
        })?;
        let config = &found.cached_info().config;
        if config.headers_only {
            return Err(PullError::HeadersOnly { stream: stream.to_owned(), consumer: consumer.to_owned() });
        }
        let max_batch = u32::try_from(config.max_batch).ok().filter(|most| *most > 0);
        let max_batch = max_batch.map(|most| (most, Instant::now() + SMALL_FOR));
        let reserve = Arc::new(Budget::new(1, max_message as usize, max_message));
        let (client, context) = (nats.client.clone(), nats.jetstream.clone());
        let connected = nats.connected.clone();
        Ok(Self { client, context, consumer: found, max_batch, connected, budget, reserve })
    }

    /// Whether the consumer is to be opened anew, as it may allow larger pulls by now.
    pub(crate) fn is_outdated(&self) -> bool {
        self.max_batch.is_some_and(|(_, until)| Instant::now() >= until)
    }

    /// Takes up to `wanted` messages that the consumer has now. If there are none, waits for the next message for up to
    /// [`IDLE`], or until `stop`. Hands each message to `take` as soon as it arrives.
    ///
    /// While the budget has no room, because of other Producers or endpoints that hang, the reserve lets in one event
    /// after another for as long as `goes_on`. So events for quick endpoints are still delivered.
    pub(crate) async fn pull(
        &mut self,
        wanted: impl Future<Output = u32>,
        goes_on: impl Fn() -> bool,
        stop: &CancellationToken,
        mut take: impl FnMut(Pulled),
    ) -> Result<(), PullError> {
        let (budget, reserve) = (Arc::clone(&self.budget), Arc::clone(&self.reserve));
        let most = self.max_batch.map_or(u32::MAX, |(most, _)| most);
        let mut shared = Box::pin(async { budget.grant(wanted.await.min(most)).await });
        loop {
            let own = async {
                sleep(RESERVE_AFTER).await;
                reserve.grant(1).await
            };
            let (grant, is_own) = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                grant = &mut shared => (grant, false),
                grant = own => (grant, true),
            };
            let Some(grant) = grant else { return Ok(()) };
            match self.request(grant, None, stop, &mut take).await? {
                0 => break,
                _ if is_own && goes_on() => {}
                _ => return Ok(()),
            }
        }
        drop(shared);
        let grant = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            grant = reserve.grant(1) => grant,
            grant = budget.grant(1) => grant,
        };
        let Some(grant) = grant else { return Ok(()) };
        self.request(grant, Some(IDLE), stop, &mut take).await.map(drop)
    }

    /// Sends one pull and hands its messages to `take`. Returns how many there were.
    async fn request(
        &mut self,
        mut grant: Grant,
        wait: Option<Duration>,
        stop: &CancellationToken,
        take: &mut impl FnMut(Pulled),
    ) -> Result<usize, PullError> {
        self.connected.mark_unchanged();
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.map_err(PullError::Subscribe)?;
        let asked = BatchConfig {
            batch: grant.events(),
            max_bytes: grant.bytes(),
            expires: wait,
            no_wait: wait.is_none(),
            ..BatchConfig::default()
        };
        self.consumer.request_batch(asked, inbox.into()).await.map_err(PullError::Request)?;
        let mut silence = wait.unwrap_or_default() + LOST;
        let (asked, mut taken) = (grant.events(), 0);
        let mut coming = asked;
        // One context serves all messages: it is only needed to read their metadata.
        let mut context = self.context.clone();
        while taken < coming {
            let answer = tokio::select! {
                biased;
                answer = timeout(silence, answers.next()) => answer.ok().flatten(),
                // The server forgets a pull when its connection ends.
                _ = self.connected.changed() => None,
                // Messages that have arrived are taken; only the wait for more ends.
                () = stop.cancelled(), if wait.is_some() => None,
            };
            let Some(answer) = answer else { break };
            // A message of the stream has a reply subject. Everything else in it, even a status header, comes from its
            // publisher.
            if let Some(reply) = answer.reply.clone() {
                taken += 1;
                let share = grant.share(answer.length);
                let message = jetstream::Message { message: answer, context };
                let position = message.info().map(|info| StreamPosition::of(&info));
                context = message.context;
                match position {
                    Ok(position) => take(Pulled { message: message.message, position, reply, share }),
                    Err(error) => warn!(error, "can't read the metadata of a message; leaving it unacked"),
                }
                continue;
            }
            let Some(status) = answer.status else { continue };
            // There are no more messages, or not in time, or none that fits into the bytes that are left.
            (coming, silence) = (sent(&answer, asked).unwrap_or(taken), LOST);
            let refused = !matches!(status, StatusCode::NOT_FOUND | StatusCode::TIMEOUT);
            if refused && coming == 0 {
                return Err(PullError::Refused { status });
            }
        }
        Ok(taken)
    }
}

/// Returns how many of the messages that were asked for are sent by the time of a status, if it says that. With a
/// consumer on several servers they may come after the status: the server that leads it holds each message back until
/// the others know of its delivery, but not the status.
fn sent(status: &Message, asked: usize) -> Option<usize> {
    let unsent = status.headers.as_ref()?.get(PENDING)?.as_str().parse().ok()?;
    Some(asked.saturating_sub(unsent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_how_many_messages_come() {
        let status = |pending: Option<&str>| {
            let mut headers = async_nats::HeaderMap::new();
            if let Some(pending) = pending {
                headers.insert(PENDING, pending);
            }
            Message {
                subject: "inbox".into(),
                reply: None,
                payload: bytes::Bytes::new(),
                headers: Some(headers),
                status: Some(StatusCode::TIMEOUT),
                description: None,
                length: 0,
            }
        };
        for (pending, want) in
            [(Some("0"), Some(64)), (Some("63"), Some(1)), (Some("64"), Some(0)), (Some("65"), Some(0)), (None, None)]
        {
            assert_eq!(sent(&status(pending), 64), want, "{pending:?}");
        }
        assert_eq!(sent(&status(Some("x")), 64), None);
    }
}
