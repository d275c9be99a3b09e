//! Endpoints under the egress rules: they are judged as records are loaded, and anew when the rules change.

use std::convert::Infallible;
use std::sync::Arc;

use hookwright_core::nats::ids::SubscriptionUid;
use hookwright_core::nats::names::ConfigKey;
use hookwright_runtime::egress::EgressRules;
use tokio::task::yield_now;
use tracing::{error, info, warn};

use super::ConfigLoader;
use crate::config::subscription::Subscription;
use crate::http::endpoint::Unusable;
use crate::panics;

/// How many endpoints are judged before others get their turn.
const AT_ONCE: usize = 256;

impl ConfigLoader {
    /// The egress rules in force.
    pub(super) fn rules(&self) -> Arc<EgressRules> {
        Arc::clone(&self.egress.borrow())
    }

    /// Judges all endpoints anew whenever the rules change. Runs for as long as the process.
    pub(super) async fn follow_egress(&self) -> Infallible {
        let mut changes = self.egress.clone();
        while changes.changed().await.is_ok() {
            let digest = changes.borrow_and_update().digest.clone();
            for some in self.index.uids().chunks(AT_ONCE) {
                some.iter().for_each(|uid| self.judge_anew(uid));
                yield_now().await;
            }
            self.judged.send_replace(digest);
        }
        // Nobody follows the file, which is so in tests.
        std::future::pending().await
    }

    fn judge_anew(&self, uid: &SubscriptionUid) {
        let Some(subscription) = self.index.subscription(uid) else { return };
        if let Err(panic) = panics::caught(|| self.judge(&subscription)) {
            // It may be forbidden now, so it isn't served until its record comes again.
            let key = ConfigKey::Subscription(subscription.producer.clone(), uid.clone());
            let reason = format!("judging its endpoint panicked: {panic}");
            error!(%key, reason, "can't judge an endpoint by the new egress rules; its Producer is not served");
            self.index.put_unreadable(&key, reason);
        }
    }

    fn judge(&self, subscription: &Subscription) {
        let Some(judged) = subscription.under(self.rules().egress.of(subscription.namespace())) else { return };
        let was_blocked = matches!(subscription.destination(), Err(Unusable::Blocked(_)));
        if was_blocked && judged.destination().is_ok() {
            info!(subscription = judged.name, "the egress rules allow the endpoint now");
        }
        tell(&judged);
        self.index.replace_subscription(&Arc::new(judged));
    }
}

/// Tells why no request can be sent to an endpoint, though the operator has accepted it.
pub(super) fn tell(subscription: &Subscription) {
    let name = &subscription.name;
    match subscription.destination() {
        Ok(_) | Err(Unusable::Refused) => {}
        Err(Unusable::Blocked(refusal)) => warn!(subscription = name, %refusal, "the endpoint is blocked"),
        Err(Unusable::Unsignable) => {
            warn!(subscription = name, "no request can be built: the URL, a header or a key is invalid");
        }
    }
}
