//! Takes parked deliveries that are due.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::FutureExt;

use hookwright_core::delivery::backoff::Jitter;
use hookwright_core::delivery::dead_letter::{DeadLetter, DeadLetterReason};
use hookwright_core::delivery::parked::{PARKED_HEADER, ParkedDelivery};
use hookwright_core::delivery::postpone::Postponed;
use hookwright_core::event::{Reading, parse};
use hookwright_core::record::{RecordError, decode};
use hookwright_runtime::logging::chain;
use hookwright_runtime::refusal::Refusal;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::error;

use crate::ack::hold::{Abandoned, Hold};
use crate::config::index::{Lookup, Producer};
use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::delivery::{Delivery, Origin, Waited};
use crate::deliver::follow::TOO_LARGE;
use crate::deliver::queued::{Parked, Permits, Queued};
use crate::deliver::test_delivery::test_header;
use crate::panics;
use crate::parking::messages::{Published, parks_before};
use crate::parking::store::TooLarge;

impl Deliverer {
    /// Queues a due delivery, which is then attempted with the endpoint and the policy of now. A test delivery is sent
    /// instead.
    pub(crate) async fn deliver_due(
        self: &Arc<Self>,
        message: async_nats::Message,
        received: Instant,
        hold: Hold<Permits>,
    ) -> Result<(), Abandoned> {
        if let Some(header) = test_header(&message) {
            match AssertUnwindSafe(self.deliver_test(header, &hold)).catch_unwind().await {
                Ok(tested) => {
                    if let Some(why) = tested? {
                        self.postpone_unread(message, why).await;
                    }
                }
                Err(panic) => {
                    let (panic, again) = (panics::message(&*panic), parks_before(&message) == 0);
                    error!(subject = %message.subject, panic, again, "a test delivery panicked");
                    if again {
                        self.postpone_unread(message, Postponed::Panicked).await;
                    }
                }
            }
            hold.settled(None);
            return Ok(());
        }
        let read = panics::caught(|| read(&message).map_err(|failure| chain(&failure)));
        let (parked, published) = match read.and_then(|read| read) {
            Ok(parked) => parked,
            Err(failure) => {
                error!(subject = %message.subject, error = failure, "can't read a parked delivery; postponed");
                self.postpone_unread(message, Postponed::DeliveryUnreadable).await;
                hold.settled(None);
                return Ok(());
            }
        };
        if !self.liveness.is_live() {
            return Err(Abandoned);
        }
        let version = self.index.version();
        match self.index.lookup(&parked.subscription) {
            Lookup::Serving(subscription, _) if !self.holds_due(&subscription, &hold) => {
                self.postpone_due(parked, &published, Postponed::NamespaceBusy).await;
            }
            Lookup::Serving(subscription, producer) => {
                self.queue_due(parked, published, Due { version, subscription, received, hold }, &producer).await;
                return Ok(());
            }
            Lookup::Deleted => drop(self.metrics.dropped.inc()),
            Lookup::Barred(subscription) => {
                let since = parked.event.published;
                let at = self.postpone_due(parked, &published, Postponed::ProducerBarred).await;
                at.into_iter().for_each(|at| subscription.health.parked(since, at));
            }
            Lookup::Absent { loaded } if loaded < Some(parked.revision) => {
                self.postpone_due(parked, &published, Postponed::ConfigBehind).await;
            }
            Lookup::Absent { .. } => {
                self.postpone_due(parked, &published, Postponed::SubscriptionAbsent).await;
            }
        }
        hold.settled(None);
        Ok(())
    }

    /// Counts a due message for this Subscription, unless it or its namespace has its share of those that are held.
    pub(super) fn holds_due(&self, subscription: &Subscription, hold: &Hold<Permits>) -> bool {
        let lane = self.lanes.of(&subscription.uid, &subscription.tenant);
        let has_place = self.due.has_place(&lane.due);
        if has_place {
            hold.charge(&lane.due);
        }
        has_place
    }

    /// Queues a due delivery whose Subscription is served.
    async fn queue_due(self: &Arc<Self>, parked: ParkedDelivery, published: Published, due: Due, producer: &Producer) {
        let ParkedDelivery { id, progress, .. } = parked;
        let Due { version, subscription, received, hold } = due;
        let published = Arc::new(published);
        let known_type = Some(published.event.event_type.as_str());
        let reading = Reading { rule: &producer.record.event_type, source: &producer.source, known_type };
        let read = panics::caught(|| published.with_message(|message| parse(message, reading)));
        let (waited, origin) = (Waited::with(&progress), Origin::Due);
        let delivery = Delivery { id, subscription, published, progress, waited, origin, received, version };
        match read {
            Ok(Ok(event)) => {
                let Delivery { id, subscription, published, progress, .. } = delivery;
                let parked = Some(Box::new(Parked { id, progress }));
                let (deliverer, event) = (Arc::clone(self), Arc::new(event));
                let queued =
                    Queued { deliverer, subscription, published, event, received, version, parked, place: None, hold };
                return queued.enter();
            }
            Ok(Err(malformed)) => {
                error!(id = %delivery.id, %malformed, "can't read a parked event any more; postponed");
                self.postpone(delivery, Postponed::EventUnreadable).await;
            }
            Err(panic) => self.panicked(delivery, panic).await,
        }
        hold.settled(None);
    }

    /// Parks a due delivery again whose Subscription can't be served. It counts among the parked ones meanwhile. Returns
    /// until when it waits, unless it has become too large to be parked.
    async fn postpone_due(
        &self,
        mut parked: ParkedDelivery,
        published: &Published,
        why: Postponed,
    ) -> Option<Timestamp> {
        let now = self.clock.now();
        let at = why.postpone(&mut parked.progress, None, now, Jitter::new(rand::random())).unwrap_or(now);
        if self.store.park(&parked, published, at).await.is_ok() {
            self.metrics.parked(why.name());
            return Some(at);
        }
        let ParkedDelivery { subscription, producer, id, event, progress, .. } = parked;
        let reason = DeadLetterReason::TooLarge;
        let letter = DeadLetter::of_delivery(subscription, producer, id, event, progress, reason, now);
        // What the Producer withholds is not known here.
        let bare = Published { event: published.event.clone(), headers: HeaderMap::new(), body: Bytes::new() };
        self.keep_as(false, letter.with_detail(Some(TOO_LARGE.to_owned())), &bare).await;
        self.metrics.dead_letter(reason);
        None
    }

    /// Parks a due message again that can't be handled as it is.
    pub(crate) async fn postpone_unread(&self, message: async_nats::Message, why: Postponed) {
        let parks = parks_before(&message);
        let wait = why.wait(parks, Jitter::new(rand::random()));
        let now = self.clock.now();
        let at = now.checked_add(wait).unwrap_or(now);
        match self.store.park_unread(message, at, parks.saturating_add(1)).await {
            Ok(()) => self.metrics.parked(why.name()),
            Err(TooLarge) => self.metrics.dead_letter_refused(Refusal::Final.name()),
        }
    }
}

/// What a due delivery has beside its message.
struct Due {
    version: u64,
    subscription: Arc<Subscription>,
    received: Instant,
    hold: Hold<Permits>,
}

fn read(message: &async_nats::Message) -> Result<(ParkedDelivery, Published), RecordError> {
    let header = message.headers.as_ref().and_then(|headers| headers.get(PARKED_HEADER));
    let parked: ParkedDelivery = decode(header.map_or(b"", |value| value.as_str().as_bytes()))?;
    let published = Published::from_parked(message, parked.event.clone())?;
    Ok((parked, published))
}
