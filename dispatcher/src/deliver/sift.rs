//! Evaluates filters: whether the Subscriptions that select an event's type want the event.
//!
//! What that costs at most is known before, from the filters and the size of the event. Filters that together cost
//! little are evaluated at once, the cheapest first. A task evaluates the others off the runtime, in turns of the Producers,
//! the cheapest namespace first. So a filter that is expensive keeps no cheap one waiting. The filters of a namespace share
//! a budget for each event. What is beyond it is given up: whether the event matches is not known, so it must not be
//! treated as no match. If the turns take longer than the events take to come, the Subscriptions with these filters go
//! behind, and their own readers evaluate them: the Producer's other Subscriptions don't wait for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::health::Waiting;
use hookwright_core::event::Event;
use hookwright_core::expression::{Cost, Variables};
use hookwright_core::payload::Forbidden;
use hookwright_core::position::Reason;
use hookwright_core::select::filter::Verdict;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::ack::hold::Abandoned;
use crate::config::subscription::Subscription;
use crate::deliver::deliverer::Deliverer;
use crate::deliver::queued::Queued;
use crate::deliver::views::Groups;
use crate::panics;

/// Filters that cost at most this together are evaluated at once.
const QUICK: Cost = Cost(300_000);
/// How much the filters of a namespace may cost for an event.
const OF_NAMESPACE: Cost = Cost::MOST;

/// How long an event waits for the turn of its filters before their Subscriptions go behind.
const PATIENCE: Duration = Duration::from_millis(200);

/// The Subscriptions that may want an event, by what their filters say.
#[derive(Default)]
pub(crate) struct Sifted {
    /// They want the event.
    pub(crate) wanted: Vec<Arc<Subscription>>,
    /// Their filters are still to be evaluated, because that may take long.
    pub(crate) unsure: Vec<Arc<Subscription>>,
    /// They don't want the event.
    pub(crate) out: Vec<(Arc<Subscription>, Verdict)>,
    /// Their Producer forbids that they get the event.
    pub(crate) forbidden: Vec<(Arc<Subscription>, Forbidden)>,
}

/// What the filters of a Subscription say about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Verdict(Verdict),
    /// Their Producer forbids that they get the event.
    Forbidden(Forbidden),
    /// To find out would take too long.
    TooExpensive,
}

/// Evaluates the filters of Subscriptions whose patterns select the event, as far as that is done quickly. The Producer's
/// come first: of what they forbid, a Subscription's filters see nothing.
pub(crate) fn sift(selected: Vec<Arc<Subscription>>, variables: &Variables<'_>) -> Sifted {
    let mut sifted = Sifted::default();
    if !selected.iter().any(|subscription| subscription.is_sifted()) {
        sifted.wanted = selected;
        return sifted;
    }
    let (selected, unsure) = divided(selected, variables);
    sifted.unsure = unsure;
    let groups = Groups::of(&selected);
    let said: Vec<_> = groups.with_views(variables, |judge| (0..selected.len()).map(judge).collect());
    for (subscription, said) in selected.into_iter().zip(said) {
        match said {
            Ok(Verdict::Matches) => sifted.wanted.push(subscription),
            Ok(verdict) => sifted.out.push((subscription, verdict)),
            Err(forbidden) => sifted.forbidden.push((subscription, forbidden)),
        }
    }
    sifted
}

/// Divides Subscriptions into those whose filters are evaluated at once, or that have none, and the others.
fn divided(
    selected: Vec<Arc<Subscription>>,
    variables: &Variables<'_>,
) -> (Vec<Arc<Subscription>>, Vec<Arc<Subscription>>) {
    let affordable = {
        let groups = Groups::of(&selected);
        let is_quick = groups.cost_of_reading(variables) <= QUICK && groups.cost(variables) <= QUICK;
        (!is_quick).then(|| groups.affordable(variables, QUICK))
    };
    let Some(affordable) = affordable else { return (selected, Vec::new()) };
    let mut affordable = affordable.into_iter();
    selected.into_iter().partition(|subscription| affordable.next() == Some(true) || !subscription.is_sifted())
}

impl Deliverer {
    /// Evaluates the filters of these deliveries, of one event, and hands out those that match.
    pub(crate) async fn sift_later(self: Arc<Self>, unsure: Vec<Queued>) {
        // What a dedicated reader comes to is evaluated there.
        let mut unsure: Vec<Queued> = unsure.into_iter().filter_map(Queued::unless_covered).collect();
        let Some(first) = unsure.first() else { return };
        let event = Arc::clone(&first.event);
        let Some(producer) = self.index.producer(&first.subscription.producer) else { return };
        let take = || self.sifting.take(&producer.record.namespace, &producer.record.uid);
        let turn = match timeout(PATIENCE, take()).await {
            Ok(turn) => turn,
            Err(_) => {
                let left = unsure.into_iter().map(|queued| queued.unless_left_behind(Reason::FiltersSlow));
                unsure = join_all(left).await.into_iter().flatten().collect();
                if unsure.is_empty() {
                    return;
                }
                take().await
            }
        };
        let subscriptions = unsure.iter().map(|queued| Arc::clone(&queued.subscription)).collect();
        let mut unsure: Vec<Option<Queued>> = unsure.into_iter().map(Some).collect();
        let (results, mut evaluated) = mpsc::unbounded_channel();
        // If the task fails, the rest is dropped, and the event comes again.
        drop(tokio::task::spawn_blocking(move || {
            let _turn = turn;
            evaluate(subscriptions, &event, |at, said| {
                let _ = results.send((at, said));
            });
        }));
        while let Some((at, said)) = evaluated.recv().await {
            // Without a lease, the filters may be out of date.
            if let Some(queued) = unsure[at].take()
                && self.liveness.is_live()
            {
                match said {
                    Said::Verdict(verdict) => {
                        self.filtered(&queued.subscription, &queued.event, verdict);
                        if verdict == Verdict::Matches {
                            queued.enter();
                        } else {
                            queued.hold.settled(None);
                        }
                    }
                    Said::Forbidden(forbidden) => {
                        self.drop_forbidden(&queued.subscription, forbidden, Waiting::default());
                        queued.hold.settled(None);
                    }
                    Said::TooExpensive => queued.give_up(DeadLetterReason::FilterTooExpensive),
                }
            }
        }
    }

    /// Evaluates the filters of one Subscription.
    pub(crate) async fn evaluate(&self, subscription: &Arc<Subscription>, event: &Event) -> Result<Said, Abandoned> {
        // An evaluation that panics never ends well, and is not to be tried again and again.
        let sifted = panics::caught(|| sift(vec![Arc::clone(subscription)], &Variables::of(event)));
        let Ok(Sifted { unsure, out, forbidden, .. }) = sifted else { return Ok(Said::TooExpensive) };
        if unsure.is_empty() {
            let verdict = out.first().map_or(Verdict::Matches, |(_, verdict)| *verdict);
            return Ok(forbidden.first().map_or(Said::Verdict(verdict), |(_, forbidden)| Said::Forbidden(*forbidden)));
        }
        let (event, subscriptions) = (event.clone(), vec![Arc::clone(subscription)]);
        let turn = self.programs.take(subscription.namespace(), &subscription.uid).await;
        let evaluated = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut result = None;
            evaluate(subscriptions, &event, |_, said| result = Some(said));
            result
        });
        let said = evaluated.await.ok().flatten().ok_or(Abandoned)?;
        if self.liveness.is_live() { Ok(said) } else { Err(Abandoned) }
    }

    /// Counts an event that the Subscription's filters, if it has any, were evaluated for.
    pub(crate) fn filtered(&self, subscription: &Subscription, event: &Event, verdict: Verdict) {
        if subscription.filters.is_empty() {
            return;
        }
        let id = || Variables::of(event).attribute("id").map(|id| id.into_text().into_owned()).unwrap_or_default();
        subscription.health.filtered(subscription.generation, self.clock.now(), verdict, id);
        if let Verdict::FilteredOut { error, .. } = verdict {
            self.metrics.filtered_out(error.is_some(), 1);
        }
    }
}

/// Evaluates the filters of all these Subscriptions for an event, the cheapest namespace first. What the Producer's filters
/// cost is not of the namespaces.
fn evaluate(subscriptions: Vec<Arc<Subscription>>, event: &Event, mut says: impl FnMut(usize, Said)) {
    let variables = Variables::of(event);
    let order = in_order(&subscriptions, &variables);
    // An evaluation that panics never ends well, and is not to be tried again and again.
    let mut said = 0;
    let done = panics::caught(|| {
        Groups::of(&subscriptions).with_views(&variables, |judge| {
            for (at, is_affordable) in &order {
                let verdict = is_affordable.then(|| panics::caught(|| judge(*at)).ok()).flatten();
                said += 1;
                says(
                    *at,
                    match verdict {
                        Some(Ok(verdict)) => Said::Verdict(verdict),
                        Some(Err(forbidden)) => Said::Forbidden(forbidden),
                        None => Said::TooExpensive,
                    },
                );
            }
        });
    });
    if done.is_err() {
        order[said..].iter().for_each(|(at, _)| says(*at, Said::TooExpensive));
    }
}

/// The numbers of the Subscriptions in the order in which their filters are evaluated, each with whether its namespace may
/// spend that much on an event.
fn in_order(subscriptions: &[Arc<Subscription>], variables: &Variables<'_>) -> Vec<(usize, bool)> {
    let mut namespaces: BTreeMap<&str, Vec<(Cost, usize)>> = BTreeMap::new();
    for (at, subscription) in subscriptions.iter().enumerate() {
        let cost = subscription.filters.cost(variables);
        namespaces.entry(subscription.namespace()).or_default().push((cost, at));
    }
    let total = |costs: &Vec<(Cost, usize)>| costs.iter().map(|(cost, _)| *cost).sum::<Cost>();
    let mut namespaces: Vec<_> = namespaces.into_values().collect();
    namespaces.sort_by_key(total);
    let mut order = Vec::with_capacity(subscriptions.len());
    for mut costs in namespaces {
        costs.sort_unstable();
        let mut spent = Cost::default();
        for (cost, at) in costs {
            spent = spent + cost;
            order.push((at, spent <= OF_NAMESPACE));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hookwright_core::delivery::policy::DeliveryPolicy;
    use hookwright_core::nats::ids::{ProducerUid, SubscriptionUid};
    use hookwright_core::payload::{Payload, Renderer};
    use hookwright_core::position::Flow;
    use hookwright_core::select::filter::{Filter, Filters};
    use http::{HeaderMap, HeaderName, HeaderValue};
    use serde_json::{Value, json};

    use super::*;
    use crate::health::Health;
    use crate::http::endpoint::Unusable;
    use crate::limits::outage::Tenants;
    use crate::position::cells::Cells;

    fn subscription(name: &str, filters: Value, withheld: &[&str]) -> Arc<Subscription> {
        let uid = SubscriptionUid::parse(name).unwrap();
        let policy = serde_json::from_value(json!({ "exclude": withheld })).unwrap();
        let filters: Vec<Filter> = serde_json::from_value(filters).unwrap();
        Arc::new(Subscription {
            health: Health::new().0.cell(&uid),
            position: Cells::default().cell(&uid),
            tenant: Tenants::default().of(name),
            flow: Flow::default(),
            uid,
            producer: ProducerUid::parse("p-1").unwrap(),
            generation: 1,
            revision: 1,
            name: format!("{name}/s"),
            event_types: Vec::new(),
            versions: Vec::new(),
            filters: Filters::compile(&filters).unwrap().into(),
            policy: DeliveryPolicy::default(),
            renderer: Renderer::new(&Payload::default(), policy, Vec::new()).unwrap().into(),
            endpoint: Err(Unusable::Unsignable),
        })
    }

    fn event(elements: usize) -> Event {
        let headers = [("ce-tenantid", "acme"), ("content-type", "application/json")];
        let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let body = json!({ "n": 1, "list": vec![1; elements] }).to_string();
        Event::new("t", headers.map(pair).into_iter().collect::<HeaderMap>(), Bytes::from(body))
    }

    #[test]
    fn cheap_filters_do_not_wait_for_expensive_ones() {
        let loops = json!([{ "cel": "data.list.all(a, a >= 0)" }]);
        let selected = [
            subscription("expensive", loops.clone(), &[]),
            subscription("exact", json!([{ "exact": { "tenantid": "acme" } }]), &[]),
            subscription("other", json!([{ "exact": { "tenantid": "other" } }]), &[]),
            subscription("all", json!([]), &["/n"]),
            subscription("data", json!([{ "jmespath": "data.n == `1`" }]), &[]),
            subscription("redacted", json!([{ "jmespath": "data.n == `1`" }]), &["/n"]),
            subscription("hidden", loops, &["/n"]),
        ];
        let names = |subscriptions: &[Arc<Subscription>]| {
            subscriptions.iter().map(|subscription| subscription.namespace().to_owned()).collect::<Vec<_>>()
        };
        for (elements, wanted, out, unsure) in [
            (1, &["expensive", "exact", "all", "data", "hidden"][..], &["other", "redacted"][..], &[][..]),
            // One of the loops would do, but not both of them.
            (150, &["expensive", "exact", "all", "data"], &["other", "redacted"], &["hidden"]),
            (1_000, &["exact", "all", "data"], &["other", "redacted"], &["expensive", "hidden"]),
            (500_000, &["exact", "all"], &["other"], &["expensive", "data", "redacted", "hidden"]),
        ] {
            let event = event(elements);
            let sifted = sift(selected.to_vec(), &Variables::of(&event));
            let left_out: Vec<_> = sifted.out.into_iter().map(|(subscription, _)| subscription).collect();
            let found = [names(&sifted.wanted), names(&left_out), names(&sifted.unsure)];
            assert_eq!(found, [wanted, out, unsure].map(own), "{elements}");
        }
    }

    fn own(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }
}
