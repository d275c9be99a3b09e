//! Stores deliveries that did not succeed: parked, or as dead letters. Nothing counts as stored before the server has
//! acknowledged it. A store that fails is repeated; the attempt is not. Only a dead letter that NATS refuses for good is
//! let go, and a due message that nobody can read and that is too large, so that they hold up no other deliveries.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{context, kv};
use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use hookwright_core::delivery::dead_letter::DeadLetter;
use hookwright_core::delivery::parked::ParkedDelivery;
use hookwright_core::delivery::test_delivery::{TestDelivery, TestRecord, TestResult};
use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::{
    DEAD_LETTER_STREAM, STATE_BUCKET, dead_delivery, dead_event, disabled_key, parked_at, parked_due, test_key,
};
use hookwright_core::record::{Disabled, RecordError, decode, encode};
use hookwright_runtime::bucket::{Bucket, BucketError, Newest};
use hookwright_runtime::logging::{Seldom, chain};
use hookwright_runtime::nats::Nats;
use hookwright_runtime::refusal::Refusal;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::parking::messages::{Published, schedule_of, size, unread_headers};

/// The bytes that a publish needs besides headers and body, and that the server adds to the headers.
const SLACK: usize = 1024;
/// The most bytes of headers that a stream takes (nats-server's `JSStreamHeaderExceedsMaximumErr`).
const MAX_HEADERS: usize = u16::MAX as usize;
/// How long a dead letter waits for room in a storage that is full.
const ROOM: Duration = Duration::from_secs(60);

/// Why NATS did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("NATS did not store the message")]
    Publish(#[source] context::PublishError),
    #[error("can't find the state bucket")]
    Bucket(#[source] context::KeyValueError),
    #[error("can't store that a Subscription is disabled")]
    Disable(#[source] BucketError),
    #[error("can't read whether a test is still wanted")]
    Read(#[source] BucketError),
    #[error("NATS did not store the result of a test")]
    Answer(#[source] kv::UpdateError),
}

/// The event, or a due message that can't be read, is too large to be parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// NATS did not take a dead letter, and it is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotKept(pub(crate) Refusal);

impl StoreError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Publish(error) => Refusal::of(error),
            Self::Bucket(_) | Self::Disable(_) | Self::Read(_) | Self::Answer(_) => Refusal::Outage,
        }
    }
}

/// Stores in NATS whatever follows a delivery or a test.
#[derive(Clone)]
pub(crate) struct Store {
    nats: Nats,
    complaints: Arc<Seldom>,
    losses: Arc<Seldom>,
}

fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_jitter()
        .with_jitter_seed(rand::random())
        .without_max_times()
}

impl Store {
    pub(crate) fn new(nats: Nats) -> Self {
        Self { nats, complaints: Arc::default(), losses: Arc::default() }
    }

    /// Parks a delivery until `at`. Each delivery has one schedule, so parking it again replaces the schedule.
    pub(crate) async fn park(
        &self,
        parked: &ParkedDelivery,
        published: &Published,
        at: Timestamp,
    ) -> Result<(), TooLarge> {
        let (at_subject, due) = (parked_at(&parked.subscription, &parked.id), parked_due(&parked.subscription));
        let names = &self.nats.names;
        let subject = names.subject(&at_subject);
        let headers = self.encoded(published.parked(parked, at, &names.subject(&due)));
        if !self.fits(&headers, &published.body) {
            return Err(TooLarge);
        }
        self.persist(|| self.publish_once(&subject, &headers, &published.body)).await;
        Ok(())
    }

    /// Parks a due message again until `at`, as it is: it can't be read. `parks` is how often it was parked so. One that is
    /// too large for that is let go: nobody can read it, and it would be held without end. Whatever a dispatcher has parked
    /// is smaller.
    pub(crate) async fn park_unread(
        &self,
        message: async_nats::Message,
        at: Timestamp,
        parks: u32,
    ) -> Result<(), TooLarge> {
        let subject = schedule_of(&message, &self.nats.names);
        let headers = unread_headers(&message, at, parks, &self.nats.names);
        if !self.fits_with(SLACK / 2, &headers, &message.payload) {
            if self.losses.now() {
                error!(subject = %message.subject, "a due message can't be read, and is too large to wait; it is not kept");
            }
            return Err(TooLarge);
        }
        self.persist(|| self.publish_once(&subject, &headers, &message.payload)).await;
        Ok(())
    }

    /// Stores a dead letter: the event with the reason or, if NATS does not take that or the event is not to be kept
    /// whole, the reason and the event's position.
    pub(crate) async fn bury(&self, mut letter: DeadLetter, published: &Published, whole: bool) -> Result<(), NotKept> {
        let mut full_since = None;
        let headers = self.encoded(published.dead_letter(&letter));
        if whole
            && self.fits(&headers, &published.body)
            && self.keep(&letter, headers, published.body.clone(), &mut full_since).await.is_ok()
        {
            return Ok(());
        }
        letter.reference_only = true;
        let headers = self.encoded(published.dead_letter(&letter));
        self.keep(&letter, headers, Bytes::new(), &mut full_since).await.map_err(|(refusal, error)| {
            if self.losses.now() {
                error!(
                    error = chain(&error),
                    id = letter.message_id(),
                    "NATS refuses a dead letter, even without the event; it is not kept: check the limits of stream \
                     {DEAD_LETTER_STREAM} and of the account"
                );
            }
            NotKept(refusal)
        })
    }

    /// Publishes a dead letter in this form, until NATS has stored it or refuses it for good. Storage that has been full
    /// for [`ROOM`], counted from `full_since`, counts as refused.
    async fn keep(
        &self,
        letter: &DeadLetter,
        headers: HeaderMap,
        body: Bytes,
        full_since: &mut Option<Instant>,
    ) -> Result<(), (Refusal, StoreError)> {
        let plain = letter.subscription.as_ref().map_or_else(|| dead_event(&letter.producer), dead_delivery);
        let subject = self.nats.names.subject(&plain);
        let publish = || self.publish_once(&subject, &headers, &body);
        let waits = |error: &StoreError| match error.refusal() {
            Refusal::Outage => {
                *full_since = None;
                true
            }
            Refusal::NoRoom => full_since.get_or_insert_with(Instant::now).elapsed() < ROOM,
            Refusal::Final => false,
        };
        let stored = publish.retry(backoff()).when(waits).notify(|error, _| self.complain(error)).await;
        stored.map_err(|error| (error.refusal(), error))
    }

    /// Tells all dispatchers and the operator that a Subscription is disabled, unless they know that of a later generation.
    pub(crate) async fn disable(&self, subscription: &SubscriptionUid, mark: &Disabled) {
        let (key, value) = (disabled_key(subscription), Bytes::from(self.encoded(encode(mark))));
        let put = || async {
            let bucket = Bucket::named(&self.nats, STATE_BUCKET).await?;
            loop {
                let Newest { revision, value: known } = bucket.newest(&key).await?;
                let known = known.and_then(|known| decode::<Disabled>(&known).ok());
                let is_newer = known.is_some_and(|known| known.generation > mark.generation);
                if is_newer || bucket.put_at(&key, value.clone(), revision).await?.is_some() {
                    return Ok(());
                }
            }
        };
        self.persist(|| async { put().await.map_err(StoreError::Disable) }).await;
    }

    /// Whether a test is still to be sent. It is not if it was answered, or if another request or a deletion came after
    /// it. The leader is asked, because a replica that is behind would say that it is.
    pub(crate) async fn awaits(&self, test: &TestDelivery) -> Result<bool, StoreError> {
        let bucket = Bucket::named(&self.nats, STATE_BUCKET).await.map_err(StoreError::Read)?;
        let last = bucket.last(&test_key(&test.subscription)).await.map_err(StoreError::Read)?;
        Ok(last == test.request)
    }

    /// Stores the result of a test, unless another request or a deletion came after the test.
    pub(crate) async fn answer(&self, test: &TestDelivery, result: TestResult) {
        let record = TestRecord { result: Some(result), ..test.test.clone() };
        let (key, value) = (test_key(&test.subscription), Bytes::from(self.encoded(encode(&record))));
        let update = || async {
            let bucket = self.nats.bucket(STATE_BUCKET).await.map_err(StoreError::Bucket)?;
            match bucket.update(&key, value.clone(), test.request).await {
                Err(error) if error.kind() != kv::UpdateErrorKind::WrongLastRevision => Err(StoreError::Answer(error)),
                _ => Ok(()),
            }
        };
        self.persist(update).await;
    }

    fn fits(&self, headers: &HeaderMap, body: &Bytes) -> bool {
        self.fits_with(SLACK, headers, body)
    }

    fn fits_with(&self, slack: usize, headers: &HeaderMap, body: &Bytes) -> bool {
        let headers = size(headers) + slack;
        headers <= MAX_HEADERS && headers + body.len() <= self.nats.client.server_info().max_payload
    }

    async fn publish_once(&self, subject: &str, headers: &HeaderMap, body: &Bytes) -> Result<(), StoreError> {
        let publish = self.nats.jetstream.publish_with_headers(subject.to_owned(), headers.clone(), body.clone());
        publish.await.map_err(StoreError::Publish)?.await.map_err(StoreError::Publish)?;
        Ok(())
    }

    /// Repeats a store until it succeeds. In-progress acks keep the message meanwhile.
    async fn persist<T, F: Future<Output = Result<T, StoreError>>>(&self, mut store: impl FnMut() -> F) {
        // The number of tries is unlimited, so this ends only with success.
        let _ = (&mut store).retry(backoff()).notify(|error, _| self.complain(error)).await;
    }

    fn complain(&self, error: &StoreError) {
        if self.complaints.now() {
            warn!(
                error = chain(error),
                "can't store a parked delivery, a dead letter or another record in NATS; retrying"
            );
        }
    }

    /// Unwraps an encoded record. The types of `core` always encode; if one did not, its readers would refuse the empty
    /// value.
    fn encoded<T: Default>(&self, result: Result<T, RecordError>) -> T {
        result.unwrap_or_else(|failure| {
            error!(error = chain(&failure), "can't encode a record");
            T::default()
        })
    }
}
