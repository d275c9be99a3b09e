//! Starts a reader for each Producer that is served, and stops and replaces readers as the config changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookwright_core::nats::ids::ProducerUid;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::config::index::{Producer, Serving};
use crate::intake::reader::{Reader, Source};
use crate::limits::read_ahead::Intake;

/// Runs until `stop` and until all readers have ended after it, or until one of them has failed.
pub(crate) async fn run(reader: Reader, mut serving: watch::Receiver<Serving>, stop: CancellationToken) {
    let mut running: BTreeMap<ProducerUid, (Arc<Producer>, CancellationToken)> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    while !stop.is_cancelled() {
        let wanted = serving.borrow_and_update().clone();
        running.retain(|uid, (producer, token)| {
            // Other changes of a record need no new reader: the record is looked up for each event.
            let keep = wanted.get(uid).is_some_and(|new| {
                new.record.stream == producer.record.stream && new.record.consumer == producer.record.consumer
            });
            if !keep {
                token.cancel();
            }
            keep
        });
        for (uid, producer) in wanted {
            running.entry(uid).or_insert_with(|| {
                let token = stop.child_token();
                let tenant = reader.deliverer.tenants.of(&producer.record.namespace);
                let budget = Arc::new(reader.budget.of_reader(&tenant.events));
                let intake = Intake::new(&reader.read_ahead, tenant);
                let source = Source::Events { producer: Arc::clone(&producer), intake };
                let reader = Reader { budget, ..reader.clone() };
                tasks.spawn(reader.run(source, token.clone()));
                (producer, token)
            });
        }
        tokio::select! {
            () = stop.cancelled() => {}
            _ = serving.changed() => {}
            Some(Err(failure)) = tasks.join_next() => return error!(%failure, "a reader failed"),
        }
    }
    while tasks.join_next().await.is_some() {}
}
