//! An event as Subscriptions may see it: by what their Producer withholds. Those that share a policy share what was made
//! for it, so that the event is not taken apart and judged for each of them.

use std::sync::Arc;

use hookwright_core::event::Event;
use hookwright_core::expression::{Cost, Variables};
use hookwright_core::payload::{Forbidden, Renderer};
use hookwright_core::select::filter::Verdict;

use crate::config::subscription::Subscription;

/// Some Subscriptions, by their policies.
pub(super) struct Groups<'s> {
    subscriptions: &'s [Arc<Subscription>],
    /// The number of the group of each Subscription.
    of: Vec<usize>,
    groups: Vec<Group<'s>>,
}

#[derive(Clone)]
struct Group<'s> {
    renderer: &'s Renderer,
    /// Whether one of its Subscriptions has filters.
    looks: bool,
    /// Whether one of these filters looks at the data.
    looks_at_data: bool,
}

impl<'s> Group<'s> {
    fn of(renderer: &'s Renderer) -> Self {
        Self { renderer, looks: false, looks_at_data: false }
    }

    fn add(&mut self, subscription: &Subscription) {
        self.looks |= !subscription.filters.is_empty();
        self.looks_at_data |= subscription.filters.look_at_data();
    }

    fn with(&self, subscription: &Subscription) -> Self {
        let mut group = self.clone();
        group.add(subscription);
        group
    }

    /// The cost of reading the event for all filters of the group, and its policy's.
    fn cost_of_reading(&self, variables: &Variables<'_>) -> Cost {
        if !self.looks && !self.renderer.has_filters() {
            return Cost::default();
        }
        let read = variables.cost_of_reading(self.looks_at_data || self.renderer.filters_look_at_data());
        let redacts = self.looks && self.renderer.withholds();
        if redacts { read + variables.cost_of_reading(true) } else { read }
    }
}

/// An event as the Subscriptions of a group may see it.
struct View {
    permitted: Result<(), Forbidden>,
    /// The event without the withheld fields; `None` if it is seen as it is, or not looked at.
    redacted: Option<Event>,
}

impl<'s> Groups<'s> {
    pub(super) fn of(subscriptions: &'s [Arc<Subscription>]) -> Self {
        let (mut of, mut groups) = (Vec::with_capacity(subscriptions.len()), Vec::<Group<'s>>::new());
        for subscription in subscriptions {
            let renderer = &subscription.renderer;
            let known = groups.iter().position(|group| group.renderer.shares_policy(renderer));
            let at = known.unwrap_or_else(|| {
                groups.push(Group::of(renderer));
                groups.len() - 1
            });
            groups[at].add(subscription);
            of.push(at);
        }
        Self { subscriptions, of, groups }
    }

    /// The cost of reading the event for all filters. Ask for it before [`Self::cost`], which may take the event apart.
    pub(super) fn cost_of_reading(&self, variables: &Variables<'_>) -> Cost {
        self.groups.iter().map(|group| group.cost_of_reading(variables)).sum()
    }

    /// The cost of all filters: each policy's once, and those of each Subscription.
    pub(super) fn cost(&self, variables: &Variables<'_>) -> Cost {
        let policies: Cost = self.groups.iter().map(|group| group.renderer.cost_of_policy(variables)).sum();
        policies + self.subscriptions.iter().map(|subscription| subscription.filters.cost(variables)).sum()
    }

    /// Which Subscriptions have filters that cost at most so much together, with all that [`Self::cost_of_reading`] and
    /// [`Self::cost`] count: as many as possible, the cheapest first.
    pub(super) fn affordable(&self, variables: &Variables<'_>, most: Cost) -> Vec<bool> {
        let alone = |at: usize| Group::of(self.groups[self.of[at]].renderer).with(&self.subscriptions[at]);
        let is_read_quickly = |at: &usize| alone(*at).cost_of_reading(variables) <= most;
        let cost = |at: usize| (self.subscriptions[at].filters.cost(variables), at);
        let mut order: Vec<_> = (0..self.subscriptions.len()).filter(is_read_quickly).map(cost).collect();
        order.sort_unstable();
        let mut affordable = vec![false; self.subscriptions.len()];
        // Each group with those of its Subscriptions that are affordable, and what it costs besides their filters.
        let mut groups: Vec<_> = self.groups.iter().map(|group| (Group::of(group.renderer), Cost::default())).collect();
        let mut spent = Cost::default();
        for (own, at) in order {
            let (group, before) = &mut groups[self.of[at]];
            let with = group.with(&self.subscriptions[at]);
            let after = with.cost_of_reading(variables) + with.renderer.cost_of_policy(variables);
            let total = Cost(spent.0.saturating_sub(before.0)) + after + own;
            if total <= most {
                (*group, *before, spent) = (with, after, total);
                affordable[at] = true;
            }
        }
        affordable
    }

    /// Calls `judge` with what judges a Subscription by its number: whether the Producer permits the event and, if so,
    /// what the Subscription's filters say.
    pub(super) fn with_views<T>(
        &self,
        whole: &Variables<'_>,
        judge: impl FnOnce(&dyn Fn(usize) -> Result<Verdict, Forbidden>) -> T,
    ) -> T {
        let view = |group: &Group<'_>| {
            let permitted = group.renderer.permits(whole);
            let looks = group.looks && permitted.is_ok();
            View { permitted, redacted: looks.then(|| group.renderer.redacted(whole.event())).flatten() }
        };
        let views: Vec<View> = self.groups.iter().map(view).collect();
        let redacted: Vec<Option<Variables<'_>>> =
            views.iter().map(|view| view.redacted.as_ref().map(Variables::of)).collect();
        judge(&|at| {
            let group = self.of[at];
            views[group].permitted?;
            let filters = &self.subscriptions[at].filters;
            Ok(redacted[group].as_ref().map_or_else(|| filters.evaluate(whole), |redacted| filters.evaluate(redacted)))
        })
    }
}
