//! Services as the watch last brought them.

use std::sync::Arc;
use std::time::Duration;

use hookwright_crds::ServiceRef;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::{self, ObjectRef, Store};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::cache::kind::Listed;

/// How long after the operator's start a Subscription waits for the first list.
const FIRST_LIST: Duration = Duration::from_secs(10);

/// Services as the watch last brought them.
pub(crate) struct Services {
    store: Store<Service>,
    listed: Listed,
    since: Instant,
}

/// The first list of Services is not complete, so it is not known which exist.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotListed;

/// The writing end of [`Services`], for the watch.
pub(crate) struct ServiceWriter {
    pub(crate) store: reflector::store::Writer<Service>,
    pub(crate) listed: watch::Sender<bool>,
}

impl Services {
    pub(crate) fn new() -> (Self, ServiceWriter) {
        let (store, writer) = reflector::store();
        let (sender, listed) = Listed::new();
        (Self { store, listed, since: Instant::now() }, ServiceWriter { store: writer, listed: sender })
    }

    /// Returns the Service that a Subscription of this namespace refers to. While the operator starts, it waits for the list
    /// of Services.
    pub(crate) async fn find(
        &self,
        namespace: &str,
        reference: &ServiceRef,
    ) -> Result<Option<Arc<Service>>, NotListed> {
        timeout_at(self.since + FIRST_LIST, self.listed.wait()).await.map_err(|_| NotListed)?;
        Ok(self.store.get(&ObjectRef::new(&reference.name).within(reference.namespace(namespace))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_list_without_end() {
        let (services, mut writer) = Services::new();
        let reference: ServiceRef = serde_json::from_value(json!({ "name": "crm", "port": 8080 })).unwrap();
        let find = async || services.find("shop", &reference).await.map(|found| found.is_some());
        assert_eq!((find().await, find().await), (Err(NotListed), Err(NotListed)));
        assert!(services.since.elapsed() < 2 * FIRST_LIST, "only once");
        writer.listed.send_replace(true);
        assert_eq!(find().await, Ok(false));
        let service = json!({ "metadata": { "name": "crm", "namespace": "shop" } });
        writer.store.apply_watcher_event(&Event::Apply(serde_json::from_value(service).unwrap()));
        assert_eq!(find().await, Ok(true));
    }
}
