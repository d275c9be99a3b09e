//! Reads one durable consumer until it is stopped. It pulls as much as the budget allows, and holds each message while
//! work on it goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::nats::ids::ProducerUid;
use hookwright_runtime::logging::{Seldom, chain};
use hookwright_runtime::nats::Nats;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use crate::ack::batch::Acks;
use crate::ack::hold::Hold;
use crate::config::index::Producer;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::queued::Permits;
use crate::intake::bodiless::{Bodiless, Body, MISSING_BODY};
use crate::intake::connections::{Connection, Connections};
use crate::intake::pull::{PullError, Pulled, Puller};
use crate::limits::budget::Budget;
use crate::limits::read_ahead::{Coming, Intake, ReadAhead};
use crate::parking::messages::Published;
use crate::validate::validator::QUICKLY_READ;

/// The most messages that one pull asks for.
const MAX_EVENTS: u32 = 256;
/// The wait after a failed pull, when it begins and at most. The waits grow by [`GROWTH`], so that each is about a fourth
/// of the time since the first: a consumer that the operator has created again after some seconds is read soon, and one
/// that stays away costs little.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
const GROWTH: f32 = 1.25;

type Waits = <ExponentialBuilder as BackoffBuilder>::Backoff;

fn backoff() -> Waits {
    let (first, most) = RETRY;
    let growing = ExponentialBuilder::new().with_min_delay(first).with_factor(GROWTH).with_max_delay(most);
    growing.with_jitter().with_jitter_seed(rand::random()).without_max_times().build()
}

/// The parts that a reader needs.
#[derive(Clone)]
pub(crate) struct Reader {
    /// The connection over which due deliveries are read.
    pub(crate) nats: Nats,
    pub(crate) connections: Arc<Connections>,
    pub(crate) deliverer: Arc<Deliverer>,
    pub(crate) budget: Arc<Budget>,
    /// Limits how many deliveries wait for their turn.
    pub(crate) read_ahead: Arc<ReadAhead>,
    pub(crate) acks: Acks<Permits>,
    /// Tracks the messages that are held.
    pub(crate) tracker: TaskTracker,
    /// The largest message that the server lets through, in bytes.
    pub(crate) max_message: u32,
}

/// The consumer that is read, and with it what happens to its messages.
#[derive(Clone)]
pub(crate) enum Source {
    /// The events of a Producer.
    Events { producer: Arc<Producer>, intake: Arc<Intake> },
    /// The parked deliveries that are due.
    Due { stream: String, consumer: &'static str },
}

impl Source {
    fn names(&self) -> (&str, &str) {
        match self {
            Self::Events { producer, .. } => (&producer.record.stream.name, &producer.record.consumer),
            Self::Due { stream, consumer } => (stream, consumer),
        }
    }
}

/// What a reader remembers from one opening of its consumer to the next.
struct State {
    /// The connection over which events are read. Due deliveries come over that of the dispatcher.
    connection: Option<Connection>,
    bodiless: Bodiless,
    /// The waits after failures in a row, until a pull succeeds.
    waits: Option<Waits>,
}

impl State {
    fn new(source: &Source, connections: &Arc<Connections>) -> Self {
        let connection = match source {
            Source::Events { .. } => Some(Connection::new(Arc::clone(connections))),
            Source::Due { .. } => None,
        };
        Self { connection, bodiless: Bodiless::default(), waits: None }
    }
}

impl Reader {
    /// Reads until `stop`. Work on messages that are held goes on after that.
    pub(crate) async fn run(self, source: Source, stop: CancellationToken) {
        let (mut state, complaints) = (State::new(&source, &self.connections), Seldom::default());
        while !stop.is_cancelled() {
            let allowed = async {
                self.deliverer.liveness.live().await;
                self.deliverer.clock.usable().await;
            };
            if stop.run_until_cancelled(allowed).await.is_none() {
                break;
            }
            if let Err(error) = self.read(&source, &mut state, &stop).await {
                let (stream, consumer) = source.names();
                if complaints.now() || state.waits.is_none() {
                    warn!(stream, consumer, error = chain(&error), "can't read from the consumer; retrying");
                }
                let wait = state.waits.get_or_insert_with(backoff).next().unwrap_or(RETRY.1);
                stop.run_until_cancelled(tokio::time::sleep(wait)).await;
            }
        }
        debug!(source = ?source.names(), "stopped reading");
    }

    /// Opens the consumer and reads, until it has to be opened anew.
    async fn read(&self, source: &Source, state: &mut State, stop: &CancellationToken) -> Result<(), PullError> {
        let (stream, consumer) = source.names();
        let nats = state.connection.as_ref().map_or_else(|| self.nats.clone(), |connection| connection.nats());
        let budget = Arc::clone(&self.budget);
        let mut puller = Puller::open(&nats, stream, consumer, budget, self.max_message).await?;
        state.bodiless.opened();
        let may_read = || {
            let deliverer = &self.deliverer;
            deliverer.liveness.is_live() && deliverer.clock.is_usable() && !stop.is_cancelled()
        };
        let queue = match source {
            Source::Events { producer, .. } => Some(&producer.record.uid),
            Source::Due { .. } => None,
        };
        let fair_queue = self.deliverer.validator.fair_queue();
        let long_queue = || queue.filter(|producer| fair_queue.is_long(producer));
        let goes_on = || may_read() && long_queue().is_none();
        while may_read() && !state.bodiless.reopens() && !puller.is_outdated() {
            if let Some(producer) = long_queue() {
                stop.run_until_cancelled(fair_queue.shortened(producer)).await;
                continue;
            }
            if let Some(connection) = &mut state.connection
                && connection.is_to_change()
            {
                stop.run_until_cancelled(connection.change(stream)).await;
                return Ok(());
            }
            let bodiless = &mut state.bodiless;
            puller.pull(self.wanted(source), goes_on, stop, |pulled| self.take(source, pulled, bodiless)).await?;
            state.waits = None;
        }
        Ok(())
    }

    /// How many messages to ask for.
    async fn wanted(&self, source: &Source) -> u32 {
        match source {
            Source::Events { intake, .. } => intake.room().await.min(MAX_EVENTS),
            Source::Due { .. } => MAX_EVENTS,
        }
    }

    /// Holds a message and starts the work on it.
    fn take(&self, source: &Source, pulled: Pulled, bodiless: &mut Bodiless) {
        let Pulled { message, position, reply, share } = pulled;
        let body = bodiless.judge(position.sequence, &message);
        // A parked delivery has its event's headers in one of its own, so no publisher can have written that header.
        if body == Body::Withheld || body == Body::Missing && matches!(source, Source::Due { .. }) {
            let (stream, consumer) = source.names();
            debug!(stream, consumer, sequence = position.sequence, "a message has no body; it comes again");
            return;
        }
        let hold = Hold::new(self.acks.clone(), reply, share, self.tracker.token());
        match source {
            Source::Events { producer, intake } => {
                let published = Published::from_stream(message, position, producer.record.stream.created);
                if !published.is_event() {
                    return hold.settled(None);
                }
                if body == Body::Missing {
                    let (producer, detail) = (Arc::clone(producer), MISSING_BODY.to_owned());
                    return self.deliverer.reject(producer, published, DeadLetterReason::Malformed, detail, hold);
                }
                self.fan_out(&producer.record.uid, published, intake.coming(), hold);
            }
            Source::Due { .. } => {
                let (deliverer, received) = (Arc::clone(&self.deliverer), Instant::now());
                tokio::spawn(async move { deliverer.deliver_due(message, received, hold).await });
            }
        }
    }

    /// Fans an event out. A panic is the fault of the event and must not end the reader; the event's message comes
    /// again.
    fn fan_out(&self, producer: &ProducerUid, published: Published, coming: Coming, hold: Hold<Permits>) {
        let deliverer = Arc::clone(&self.deliverer);
        if published.body.len() > QUICKLY_READ {
            let producer = producer.clone();
            tokio::spawn(async move { deliverer.fan_out(&producer, published, coming, hold) });
            return;
        }
        let sequence = published.event.sequence;
        let fan_out = || deliverer.fan_out(producer, published, coming, hold);
        if catch_unwind(AssertUnwindSafe(fan_out)).is_err() {
            error!(producer_uid = %producer, sequence, "reading an event panicked; leaving it unacked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_that_is_missing_is_asked_for_less_and_less_often() {
        let waits: Vec<Duration> = backoff().take(60).collect();
        let (soon, later) = waits.split_at(10);
        assert!(soon.iter().sum::<Duration>() < RETRY.1, "one that is back soon is read soon: {soon:?}");
        assert!(later[40..].iter().all(|wait| (RETRY.1..=2 * RETRY.1).contains(wait)), "{later:?}");
    }
}
