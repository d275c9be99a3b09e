//! Checks the rules by which a Subscription goes behind and becomes live, in every order of their steps.
//!
//! The world is small: one Subscription, some events, two dispatchers that share a consumer and whose views of the
//! position and of `suspend` lag, and an owner. The model decides nothing itself: what becomes of an event and what the
//! owner does next is what [`hookwright_core::position`] says. Each test visits every state that its bounds allow. The
//! tests with a fault break a rule, and the check has to find what goes wrong; so the rule is needed, and the model is
//! able to see it. The numbers of the dispatchers in a printed path may change places on the way: they are alike.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its figures"
)]

mod model;
mod state;
mod steps;

use std::time::Instant;

use model::{Bounds, Fault, LOST, STUCK, World};
use stateright::{Checker, HasDiscoveries, Model};

/// More steps than any world here has: a check that comes here was stopped too early to say anything.
const MOST_STEPS: usize = 100_000_000;

/// Views lag, and nobody fails.
const LAG: Bounds = Bounds { events: 2, toggles: 2, lapses: 0, takeovers: 0, unseen: 1, behind: false, count_to: 3 };
/// It begins behind and becomes live; views lag.
const RESUME: Bounds = Bounds { toggles: 1, behind: true, count_to: 1, ..LAG };

fn check(name: &str, bounds: Bounds, fault: Option<Fault>) -> Vec<(&'static str, String)> {
    let begun = Instant::now();
    let builder = World::new(bounds, fault).checker().target_state_count(MOST_STEPS);
    let checker = builder.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (states, seconds) = (checker.unique_state_count(), begun.elapsed().as_secs_f32());
    let (positions, two) = checker.model().variety();
    println!("{name}: {states} states, {} steps, {seconds:.1} s", checker.state_count());
    println!("{name}: {positions} positions, {two} with two ranges");
    // Who is suspended again on the way to being live has two ranges: the check must come there.
    assert!(fault.is_some() || bounds.toggles < 3 || two > 0, "{name}: no two ranges");
    assert!(checker.state_count() < MOST_STEPS, "{name}: too many steps");
    let text = |actions: Vec<model::Action>| actions.iter().map(|action| format!("\n  {action:?}")).collect();
    checker.discoveries().into_iter().map(|(property, path)| (property, text(path.into_actions()))).collect()
}

fn holds(name: &str, bounds: Bounds) {
    if let Some((property, path)) = check(name, bounds, None).first() {
        panic!("{name}: \"{property}\" doesn't hold after:{path}");
    }
}

fn is_found(fault: Fault, bounds: Bounds) {
    let found = check(&format!("{fault:?}"), bounds, Some(fault));
    for (property, path) in &found {
        println!("{fault:?} breaks \"{property}\":{path}");
    }
    assert!(found.iter().any(|(property, _)| [LOST, STUCK].contains(property)), "{fault:?} isn't found");
}

/// The larger worlds of `make test-long`.
fn holds_in_the_long_form(name: &str, bounds: Bounds) {
    if std::env::var_os("HOOKWRIGHT_TEST_LONG").is_some() {
        holds(name, bounds);
    }
}

#[test]
fn views_lag() {
    holds("views lag", LAG);
    holds_in_the_long_form("views lag, 3 events", Bounds { events: 3, ..RESUME });
}

#[test]
fn it_is_suspended_again_while_it_becomes_live() {
    holds("suspended again", Bounds { toggles: 3, ..RESUME });
}

#[test]
fn views_are_the_newest() {
    holds("views are the newest", Bounds { events: 3, toggles: 3, unseen: 0, ..LAG });
}

#[test]
fn positions_are_loaded_one_by_one() {
    holds("positions are loaded one by one", Bounds { unseen: 3, count_to: 1, ..LAG });
}

#[test]
fn a_dispatcher_lapses() {
    let lapses = Bounds { lapses: 1, count_to: 1, ..LAG };
    holds("a dispatcher lapses, 1 event", Bounds { events: 1, ..lapses });
    holds("a dispatcher lapses, 2 events", Bounds { unseen: 0, ..lapses });
    holds_in_the_long_form("a dispatcher lapses", Bounds { lapses: 1, ..RESUME });
}

#[test]
fn another_owner_takes_over() {
    let takeovers = Bounds { takeovers: 1, count_to: 1, ..LAG };
    holds("another owner takes over", takeovers);
    holds("a dispatcher lapses and another owner takes over", Bounds { events: 1, lapses: 1, ..takeovers });
}

#[test]
fn an_ack_before_the_position_is_stored_loses_events() {
    is_found(Fault::AckFirst, LAG);
}

#[test]
fn until_before_all_have_loaded_to_loses_events() {
    is_found(Fault::UntilEarly, Bounds { events: 1, ..RESUME });
}

#[test]
fn a_range_that_goes_before_the_ack_floor_loses_events() {
    is_found(Fault::DropEarly, LAG);
}

#[test]
fn a_mirror_that_goes_back_loses_events() {
    is_found(Fault::Regress, Bounds { events: 1, ..RESUME });
}

#[test]
fn an_old_position_taken_for_the_newest_loses_events() {
    is_found(Fault::StoreOnOld, Bounds { events: 1, ..RESUME });
}
