//! Evaluates filters: whether the Subscriptions that select an event's type want the event.
//!
//! What that costs at most is known before, from the filters and the size of the event. Filters that together cost
//! little are evaluated at once. Otherwise a task evaluates them off the runtime, in turns: those of all Subscriptions with
//! expensive validations, the cheapest namespace first. The filters of a namespace share a budget for each event. What is
//! beyond it is given up: whether the event matches is not known, so it must not be treated as no match.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::delivery::health::Waiting;
use hookwright_core::event::Event;
use hookwright_core::expression::{Cost, Variables};
use hookwright_core::payload::Forbidden;
use hookwright_core::select::filter::Verdict;
use tokio::sync::mpsc;

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
    let groups = Groups::of(&selected);
    if groups.cost_of_reading(variables) > QUICK || groups.cost(variables) > QUICK {
        (sifted.unsure, sifted.wanted) = selected.into_iter().partition(|subscription| subscription.is_sifted());
        return sifted;
    }
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

impl Deliverer {
    /// Evaluates the filters of these deliveries, of one event, and hands out those that match.
    pub(crate) async fn sift_later(self: Arc<Self>, unsure: Vec<Queued>) {
        let Some(first) = unsure.first() else { return };
        let event = Arc::clone(&first.event);
        let Some(producer) = self.index.producer(&first.subscription.producer) else { return };
        let subscriptions = unsure.iter().map(|queued| Arc::clone(&queued.subscription)).collect();
        let mut unsure: Vec<Option<Queued>> = unsure.into_iter().map(Some).collect();
        let (results, mut evaluated) = mpsc::unbounded_channel();
        let turn = self.validator.fair_queue().take(&producer.record.namespace, &producer.record.uid).await;
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
