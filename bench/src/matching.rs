//! What it costs to find the Subscriptions that want an event, in this process alone. The cost has to grow with how many
//! want it, not with how many there are.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hookwright_core::event::event_type::EventTypePattern;
use hookwright_core::select::index::Matcher;

use crate::figure::Figure;
use crate::tally::median;

/// The Subscriptions of one kind.
const MANY: usize = 10_000;
/// The Subscriptions of the references.
const FEW: usize = 10;
/// The runs whose median is a figure.
const RUNS: usize = 5;
/// The matches of a run.
const MATCHES: usize = 1_000_000;
/// The type of all events.
const EVENT: &str = "tenant-1.created";
/// The first tokens of hostile patterns, each of which is `a` or `*`, and those that follow in each: as many as fit into a
/// pattern.
const BRANCHES: usize = 13;
const TAIL: usize = 110;

#[derive(Debug, clap::Args)]
pub(crate) struct MatchArguments {
    /// Match so few events that only correctness counts.
    #[arg(long)]
    smoke: bool,
}

/// Subscriptions, and an event that some of them want.
struct Case {
    name: String,
    patterns: Vec<String>,
    event: String,
    wanted: usize,
}

impl Case {
    /// Subscriptions of `>`, and Subscriptions of `tenant-<n>.>`, one for each tenant.
    fn tenants(all: usize, tenants: usize) -> Self {
        let patterns = (0..all).map(|_| ">".to_owned()).chain((0..tenants).map(|n| format!("tenant-{n}.>"))).collect();
        let name = format!("{all:>6} of >, {tenants:>6} of tenant-<n>.>");
        Self { name, patterns, event: EVENT.to_owned(), wanted: all + tenants.min(1) }
    }

    /// Subscriptions of which an event fits all tokens but the last, whichever way it takes.
    fn hostile() -> Self {
        let (tail, count) = ("a.".repeat(TAIL), 1 << BRANCHES);
        let head = |n: usize| (0..BRANCHES).map(move |bit| if (n >> bit) & 1 == 0 { "a." } else { "*." });
        let patterns = (0..count).map(|n| format!("{}{tail}z", head(n).collect::<String>())).collect();
        let event = format!("{}{tail}b", "a.".repeat(BRANCHES));
        Self { name: format!("{count:>6} of {{a,*}}.{{a,*}}..., each with another end"), patterns, event, wanted: 0 }
    }

    fn matcher(&self) -> Result<Matcher<usize, usize>> {
        let mut matcher = Matcher::default();
        for (n, pattern) in self.patterns.iter().enumerate() {
            let pattern = EventTypePattern::parse(pattern).with_context(|| format!("the pattern {pattern}"))?;
            matcher.insert(&n, &[pattern], &[], None, &n);
        }
        Ok(matcher)
    }

    /// The nanoseconds for each event, in several runs.
    fn measure(&self, events: usize) -> Result<Vec<f64>> {
        let matcher = self.matcher()?;
        let run = |_| {
            let start = Instant::now();
            for _ in 0..events {
                let found = black_box(matcher.matches(black_box(&self.event), None, &()));
                ensure!(found.len() == self.wanted, "{} instead of {}", found.len(), self.wanted);
            }
            Ok(start.elapsed().as_nanos() as f64 / events as f64)
        };
        (0..RUNS).map(run).collect()
    }
}

/// Prints the figures.
#[expect(clippy::print_stdout, reason = "for a person at a terminal")]
pub(crate) fn run(arguments: &MatchArguments) -> Result<()> {
    let matches = if arguments.smoke { MANY } else { MATCHES };
    for case in [
        Case::tenants(FEW, 0),
        Case::tenants(MANY, 0),
        Case::tenants(0, FEW),
        Case::tenants(0, MANY),
        Case::tenants(MANY, MANY),
        Case::hostile(),
    ] {
        // What nobody wants costs the most, if all patterns have to be looked at.
        let work = if case.wanted == 0 { case.patterns.len() } else { case.wanted };
        let runs = case.measure(matches / work)?;
        println!("{}: {} want an event", case.name, case.wanted);
        println!("    {}", Figure::new("an event", median(runs.clone()), "ns").spread(&runs));
        if case.wanted > 0 {
            let each: Vec<f64> = runs.iter().map(|run| run / case.wanted as f64).collect();
            println!("    {}", Figure::new("a match", median(each.clone()), "ns").spread(&each));
        }
    }
    Ok(())
}
