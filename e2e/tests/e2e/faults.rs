//! A steady load while something is broken, and what has become of its events.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookwright_e2e::{Publisher, Received, is_long, report, wait_for};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::shop::{SOON, Shop};

/// For everything to arrive: it may take a retry or two, and on a slow machine longer. It is no measure of speed.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(300);

/// The endpoints that [`Load::survived`] looks at. `flaky` fails now and then by itself.
pub(crate) const ENDPOINTS: [&str; 3] = ["one", "two", "flaky"];

/// What was published under load, and when.
pub(crate) struct Load {
    /// The bodies of the events that the server acknowledged.
    pub(crate) acknowledged: HashSet<String>,
    span: std::ops::Range<Instant>,
}

impl Load {
    /// Publishes events to `<namespace>.events.tick` at a steady rate per second, until `fault` ends.
    pub(crate) async fn during(shop: &Shop<'_>, by: &Publisher, rate: u64, fault: impl Future<Output = ()>) -> Self {
        let mut tick = interval(Duration::from_micros(1_000_000 / rate));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (start, mut publishing) = (Instant::now(), JoinSet::new());
        let publish = async {
            let load: u32 = rand::random();
            for n in 0u64.. {
                tick.tick().await;
                let body = format!("{load:08x}-{n}");
                let (publisher, event) = (by.clone(), shop.event("tick", body.clone()).message_id(&body));
                publishing
                    .spawn(async move { publisher.publish_through_faults(&event, SOON).await.ok().map(|_| body) });
            }
        };
        tokio::select! {
            () = fault => {}
            () = publish => {}
        }
        let acknowledged: HashSet<String> = publishing.join_all().await.into_iter().flatten().collect();
        assert!(!acknowledged.is_empty());
        Self { acknowledged, span: start..Instant::now() }
    }

    /// Waits until each event has been delivered at `/<name>`: in the end, nothing is lost.
    pub(crate) async fn all_received(&self, shop: &Shop<'_>, name: &str) -> Vec<Arc<Received>> {
        all_received(shop, name, &self.acknowledged).await
    }

    /// Waits until each event has been delivered at the three [`ENDPOINTS`]. Reports how long `what` was felt, which the
    /// long form judges, at those that don't fail by themselves. Returns how many deliveries came twice.
    pub(crate) async fn survived(&self, shop: &Shop<'_>, what: &str, tolerated_silence: Duration) -> usize {
        let mut duplicates = 0;
        for name in ENDPOINTS {
            let requests = self.all_received(shop, name).await;
            duplicates += count_duplicates(&requests);
            if name != "flaky" {
                let silence = self.longest_silence(&requests);
                report(&format!("{what}: longest silence of {name} {silence:?}"));
                assert!(!is_long() || silence <= tolerated_silence, "{name}: {silence:?}");
            }
        }
        duplicates
    }

    /// The longest time without a request while there was load.
    pub(crate) fn longest_silence(&self, requests: &[Arc<Received>]) -> Duration {
        let load = &self.span;
        let mut times: Vec<Instant> =
            requests.iter().map(|request| request.at).filter(|at| load.contains(at)).collect();
        times.extend([load.start, load.end]);
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// Waits until each of these bodies has been delivered at `/<name>`.
pub(crate) async fn all_received(shop: &Shop<'_>, name: &str, bodies: &HashSet<String>) -> Vec<Arc<Received>> {
    let path = format!("/{name}");
    wait_for(&format!("all of {name}"), ARRIVAL, async || {
        let missing = missing(&shop.receiver.requests(&path), bodies);
        anyhow::ensure!(missing.is_empty(), "{} missing, {:?} ...", missing.len(), &missing[..missing.len().min(3)]);
        Ok(())
    })
    .await
    .unwrap();
    shop.receiver.requests(&path)
}

fn text(request: &Received) -> String {
    String::from_utf8_lossy(&request.body).into_owned()
}

/// Returns the bodies that no successful request had.
pub(crate) fn missing(requests: &[Arc<Received>], bodies: &HashSet<String>) -> Vec<String> {
    let received: HashSet<String> = requests.iter().filter(|request| request.succeeded()).map(|r| text(r)).collect();
    bodies.difference(&received).cloned().collect()
}

/// Successful receipts beyond the first of each event. Each receipt of an event has the same `webhook-id`.
pub(crate) fn count_duplicates(requests: &[Arc<Received>]) -> usize {
    let mut ids: HashMap<String, HashSet<String>> = HashMap::new();
    let mut successes: HashMap<String, usize> = HashMap::new();
    for request in requests {
        ids.entry(text(request)).or_default().insert(request.webhook_id().to_owned());
        *successes.entry(text(request)).or_default() += usize::from(request.succeeded());
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "an event has one webhook-id at each subscription");
    successes.values().map(|n| n.saturating_sub(1)).sum()
}
