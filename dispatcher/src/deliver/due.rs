//! Takes parked deliveries that are due.

use std::sync::Arc;

use hookwright_core::delivery::parked::{PARKED_HEADER, ParkedDelivery};
use hookwright_core::event::{Reading, parse};
use hookwright_core::record::decode;
use hookwright_runtime::logging::chain;
use tokio::time::{Instant, timeout};
use tracing::error;

use crate::ack::hold::{Abandoned, Hold};
use crate::config::index::{Lookup, Producer};
use crate::config::subscription::Subscription;
use crate::deliver::deliverer::{BEHIND, Deliverer};
use crate::deliver::queued::{Parked, Permits, Queued};
use crate::deliver::test_delivery::test_header;
use crate::parking::messages::Published;

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
            self.deliver_test(header).await?;
            hold.settled(None);
            return Ok(());
        }
        let Some(parked) = read(&message) else {
            // A newer dispatcher may be able to read it; until then it comes again.
            return Err(Abandoned);
        };
        let Some((version, subscription, producer)) = self.subscription_of(&parked).await? else {
            self.metrics.dropped.inc();
            hold.settled(None);
            return Ok(());
        };
        let published = Published::from_parked(message, parked.event).map_err(|failure| {
            error!(id = %parked.id, error = chain(&failure), "can't read a parked event's headers; it comes again");
            Abandoned
        })?;
        let known_type = Some(published.event.event_type.as_str());
        let reading = Reading { rule: &producer.record.event_type, source: &producer.source, known_type };
        let event = match published.with_message(|message| parse(message, reading)) {
            Ok(event) => Arc::new(event),
            Err(malformed) => {
                error!(id = %parked.id, %malformed, "can't read a parked event any more; it comes again");
                return Err(Abandoned);
            }
        };
        let queued = Queued {
            deliverer: Arc::clone(self),
            subscription,
            published: Arc::new(published),
            event,
            received,
            version,
            parked: Some(Box::new(Parked { id: parked.id, progress: parked.progress })),
            place: None,
            hold,
        };
        queued.enter();
        Ok(())
    }

    /// The Subscription of a parked delivery with its Producer, and the version of the index in which they were found;
    /// `None` if the Subscription was deleted. If the config is behind the delivery, waits for it.
    async fn subscription_of(
        &self,
        parked: &ParkedDelivery,
    ) -> Result<Option<(u64, Arc<Subscription>, Arc<Producer>)>, Abandoned> {
        let mut loaded = self.index.loaded();
        loop {
            if !self.liveness.is_live() {
                return Err(Abandoned);
            }
            let version = self.index.version();
            match self.index.lookup(&parked.subscription) {
                Lookup::Serving(subscription, producer) => return Ok(Some((version, subscription, producer))),
                Lookup::Waiting => return Err(Abandoned),
                Lookup::Absent { loaded } if loaded >= parked.revision => return Ok(None),
                // If the wait fails, the delivery comes again, here or at a dispatcher that is not behind.
                Lookup::Absent { .. } => {
                    timeout(BEHIND, loaded.changed()).await.map_err(|_| Abandoned)?.map_err(|_| Abandoned)?
                }
            }
        }
    }
}

fn read(message: &async_nats::Message) -> Option<ParkedDelivery> {
    let header = message.headers.as_ref().and_then(|headers| headers.get(PARKED_HEADER));
    match decode(header.map_or(b"", |value| value.as_str().as_bytes())) {
        Ok(parked) => Some(parked),
        Err(failure) => {
            error!(subject = %message.subject, error = chain(&failure), "can't read a parked delivery; it comes again");
            None
        }
    }
}
