//! Explicit pulls: each asks for what the budget has granted, none is refilled behind our back.
//!
//! The client library's batches make an error of a pull that ends because its bytes are used up, told from a real one
//! by text only; so the answers are read here.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, Message, StatusCode, Subject};
use futures::StreamExt;
use hookwright_runtime::nats::Nats;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::limits::budget::{Budget, Grant, Share};
use crate::parking::messages::Place;

/// A pull that gets no room for this long makes do with the reserve.
const PATIENCE: Duration = Duration::from_millis(100);
/// A pull that finds nothing waits this long on the server.
const IDLE: Duration = Duration::from_secs(5);
/// A pull that hears nothing for this long beyond its wait is given up: its request or its answer was lost.
const LOST: Duration = Duration::from_secs(2);

/// A pull failed; the consumer may be gone, or NATS away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("no consumer {consumer} on stream {stream}")]
    Consumer { stream: String, consumer: String, source: jetstream::stream::ConsumerError },
    #[error("no inbox for messages")]
    Subscribe(#[source] async_nats::SubscribeError),
    #[error("can't ask for messages")]
    Request(#[source] jetstream::consumer::pull::BatchRequestError),
    #[error("the server refused the pull with status {status}")]
    Refused { status: StatusCode },
}

/// A message of the stream.
pub(crate) struct Pulled {
    pub(crate) message: Message,
    pub(crate) place: Place,
    /// Where it is acked.
    pub(crate) reply: Subject,
    /// What it has of the budget.
    pub(crate) share: Share,
}

/// Takes messages from a durable consumer.
pub(crate) struct Puller {
    client: Client,
    context: Context,
    consumer: PullConsumer,
    connected: watch::Receiver<u64>,
    budget: Arc<Budget>,
    /// Room for one event beside the budget, so that a waiting pull of an idle producer takes nothing from the others.
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
        let reserve = Arc::new(Budget::new(1, max_message as usize, max_message));
        let (client, context) = (nats.client.clone(), nats.jetstream.clone());
        Ok(Self { client, context, consumer: found, connected: nats.connected.clone(), budget, reserve })
    }

    /// What is there now, if anything, up to `wanted` events; else the next message, waiting for a while; or until `stop`.
    /// Each message goes to `take` as soon as it is here.
    ///
    /// While all room is taken, by others or by endpoints that hang, the reserve lets in one event after the other, for as
    /// long as `goes_on`: those of quick endpoints are delivered.
    pub(crate) async fn pull(
        &mut self,
        wanted: impl Future<Output = u32>,
        goes_on: impl Fn() -> bool,
        stop: &CancellationToken,
        mut take: impl FnMut(Pulled),
    ) -> Result<(), PullError> {
        let (budget, reserve) = (Arc::clone(&self.budget), Arc::clone(&self.reserve));
        let mut shared = Box::pin(async { budget.grant(wanted.await).await });
        loop {
            let own = async {
                sleep(PATIENCE).await;
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

    /// Returns how many messages there were.
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
        let silence = wait.unwrap_or_default() + LOST;
        let mut taken = 0;
        // One for all messages: it reads where each stands.
        let mut context = self.context.clone();
        while grant.events() > 0 {
            let answer = tokio::select! {
                biased;
                answer = timeout(silence, answers.next()) => answer.ok().flatten(),
                // A pull does not survive its connection.
                _ = self.connected.changed() => None,
                // What is here already is taken; the wait for more ends.
                () = stop.cancelled(), if wait.is_some() => None,
            };
            let Some(answer) = answer else { break };
            // A message of the stream asks for an ack; whatever else it says, a status too, was its publisher's wish.
            if let Some(reply) = answer.reply.clone() {
                taken += 1;
                let share = grant.share(answer.length);
                let message = jetstream::Message { message: answer, context };
                let place = message.info().map(|info| Place::of(&info));
                context = message.context;
                match place {
                    Ok(place) => take(Pulled { message: message.message, place, reply, share }),
                    Err(error) => warn!(error, "a message without metadata"),
                }
                continue;
            }
            match answer.status {
                None => {}
                // No messages, no more in time, or none that fits into what is left of the bytes.
                Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => break,
                Some(_) if taken > 0 => break,
                Some(status) => return Err(PullError::Refused { status }),
            }
        }
        Ok(taken)
    }
}
