//! Stores deliveries that did not succeed: parked, or as dead letters. Nothing counts as stored before the server has
//! acknowledged it. A store that fails is repeated; the attempt is not.

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
    STATE_BUCKET, dead_delivery, dead_event, disabled_key, parked_at, parked_due, test_key,
};
use hookwright_core::record::{Disabled, RecordError, VERSION, encode};
use hookwright_runtime::logging::{Seldom, chain};
use hookwright_runtime::nats::Nats;
use jiff::Timestamp;
use tracing::{error, warn};

use crate::parking::messages::{Published, schedule_of, size, unread_headers};

/// The bytes that a publish needs besides headers and body.
const SLACK: usize = 1024;

/// Why NATS did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("NATS did not store the message")]
    Publish(#[source] context::PublishError),
    #[error("can't find the state bucket")]
    Bucket(#[source] context::KeyValueError),
    #[error("NATS did not store that a Subscription is disabled")]
    Put(#[source] kv::PutError),
    #[error("can't read whether a test is still wanted")]
    Read(#[source] kv::EntryError),
    #[error("NATS did not store the result of a test")]
    Answer(#[source] kv::UpdateError),
}

/// The event is too large to be parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Stores in NATS whatever follows a delivery or a test.
#[derive(Clone)]
pub(crate) struct Store {
    nats: Nats,
    complaints: Arc<Seldom>,
}

fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_jitter()
        .without_max_times()
}

impl Store {
    pub(crate) fn new(nats: Nats) -> Self {
        Self { nats, complaints: Arc::default() }
    }

    /// Parks a delivery until `at`. Each delivery has one schedule, so parking it again replaces the schedule.
    pub(crate) async fn park(
        &self,
        parked: &ParkedDelivery,
        published: &Published,
        at: Timestamp,
    ) -> Result<(), TooLarge> {
        let subject = parked_at(&parked.subscription, &parked.id);
        let headers = self.encoded(published.parked(parked, at, &parked_due(&parked.subscription)));
        if !self.fits(&headers, &published.body) {
            return Err(TooLarge);
        }
        self.publish(subject, headers, published.body.clone()).await;
        Ok(())
    }

    /// Parks a due message again until `at`, as it is: it can't be read. `parks` is how often it was parked so.
    pub(crate) async fn park_unread(&self, message: async_nats::Message, at: Timestamp, parks: u32) {
        let subject = schedule_of(&message);
        let headers = unread_headers(&message, at, parks);
        self.publish(subject, headers, message.payload).await;
    }

    /// Stores a dead letter: the event with the reason or, if that is too large, the reason and the event's position.
    pub(crate) async fn bury(&self, mut letter: DeadLetter, published: &Published) {
        let subject = match &letter.subscription {
            Some(subscription) => dead_delivery(subscription),
            None => dead_event(&letter.producer),
        };
        let mut headers = self.encoded(published.dead_letter(&letter));
        let mut body = published.body.clone();
        if !self.fits(&headers, &body) {
            letter.reference_only = true;
            headers = self.encoded(published.dead_letter(&letter));
            body = Bytes::new();
        }
        self.publish(subject, headers, body).await;
    }

    /// Tells all dispatchers and the operator that this generation is disabled.
    pub(crate) async fn disable(&self, subscription: &SubscriptionUid, generation: i64, since: Timestamp) {
        let value = Bytes::from(self.encoded(encode(&Disabled { version: VERSION, generation, since })));
        let put = || async {
            let bucket = self.nats.jetstream.get_key_value(STATE_BUCKET).await.map_err(StoreError::Bucket)?;
            bucket.put(disabled_key(subscription), value.clone()).await.map_err(StoreError::Put)
        };
        self.persist(put).await;
    }

    /// Whether a test is still to be sent. It is not if it was answered, or if another request or a deletion came after
    /// it. A replica that is behind says that it is.
    pub(crate) async fn awaits(&self, test: &TestDelivery) -> Result<bool, StoreError> {
        let bucket = self.nats.jetstream.get_key_value(STATE_BUCKET).await.map_err(StoreError::Bucket)?;
        let entry = bucket.entry(test_key(&test.subscription)).await.map_err(StoreError::Read)?;
        Ok(entry.is_none_or(|entry| entry.revision <= test.request))
    }

    /// Stores the result of a test, unless another request or a deletion came after the test.
    pub(crate) async fn answer(&self, test: &TestDelivery, result: TestResult) {
        let record = TestRecord { result: Some(result), ..test.test.clone() };
        let (key, value) = (test_key(&test.subscription), Bytes::from(self.encoded(encode(&record))));
        let update = || async {
            let bucket = self.nats.jetstream.get_key_value(STATE_BUCKET).await.map_err(StoreError::Bucket)?;
            match bucket.update(&key, value.clone(), test.request).await {
                Err(error) if error.kind() != kv::UpdateErrorKind::WrongLastRevision => Err(StoreError::Answer(error)),
                _ => Ok(()),
            }
        };
        self.persist(update).await;
    }

    fn fits(&self, headers: &HeaderMap, body: &Bytes) -> bool {
        size(headers) + body.len() + SLACK <= self.nats.client.server_info().max_payload
    }

    async fn publish(&self, subject: String, headers: HeaderMap, body: Bytes) {
        let publish = || async {
            let publish = self.nats.jetstream.publish_with_headers(subject.clone(), headers.clone(), body.clone());
            publish.await.map_err(StoreError::Publish)?.await.map_err(StoreError::Publish)
        };
        self.persist(publish).await;
    }

    /// Repeats a store until it succeeds. In-progress acks keep the message meanwhile.
    async fn persist<T, F: Future<Output = Result<T, StoreError>>>(&self, store: impl FnMut() -> F) {
        let notify = |error: &StoreError, _| {
            if self.complaints.now() {
                warn!(
                    error = chain(error),
                    "can't store a parked delivery, a dead letter or another record in NATS; retrying"
                );
            }
        };
        let mut store = store;
        // The number of tries is unlimited, so this ends only with success.
        let _ = (&mut store).retry(backoff()).notify(notify).await;
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
