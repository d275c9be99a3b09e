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

#[derive(Debug, clap::Args)]
pub(crate) struct MatchArguments {
    /// Match so few events that only correctness counts.
    #[arg(long)]
    smoke: bool,
}

/// Subscriptions of `>`, and Subscriptions of `tenant-<n>.>`, one for each tenant.
struct Case {
    all: usize,
    tenants: usize,
}

impl Case {
    /// The number of Subscriptions that want an event.
    fn wanted(&self) -> usize {
        self.all + self.tenants.min(1)
    }

    fn matcher(&self) -> Result<Matcher<usize, usize>> {
        let tenants = (0..self.tenants).map(|n| format!("tenant-{n}.>"));
        let mut matcher = Matcher::default();
        for (n, pattern) in (0..self.all).map(|_| ">".to_owned()).chain(tenants).enumerate() {
            let pattern = EventTypePattern::parse(&pattern).with_context(|| format!("the pattern {pattern}"))?;
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
                let found = black_box(matcher.matches(black_box(EVENT), None, |_| None));
                ensure!(found.len() == self.wanted(), "{} instead of {}", found.len(), self.wanted());
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
        Case { all: FEW, tenants: 0 },
        Case { all: MANY, tenants: 0 },
        Case { all: 0, tenants: FEW },
        Case { all: 0, tenants: MANY },
        Case { all: MANY, tenants: MANY },
    ] {
        let wanted = case.wanted();
        let runs = case.measure(matches / wanted)?;
        let each: Vec<f64> = runs.iter().map(|run| run / wanted as f64).collect();
        println!("{:>6} of >, {:>6} of tenant-<n>.>: {wanted} want an event", case.all, case.tenants);
        println!("    {}", Figure::new("an event", median(runs.clone()), "ns").spread(&runs));
        println!("    {}", Figure::new("a match", median(each.clone()), "ns").spread(&each));
    }
    Ok(())
}
