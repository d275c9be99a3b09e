//! What it costs to filter an event, in this process alone: a thousand Subscriptions whose filters can't be indexed, and
//! ten thousand that differ in an attribute.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hookwright_core::event::Event;
use hookwright_core::event::event_type::EventTypePattern;
use hookwright_core::expression::Variables;
use hookwright_core::select::filter::{Filter, Filters, Verdict};
use hookwright_core::select::index::Matcher;
use http::{HeaderMap, HeaderValue};

use crate::bombs;
use crate::event;
use crate::figure::Figure;
use crate::tally::median;

/// The Subscriptions whose filters are all evaluated.
const FILTERS: usize = 1_000;
/// The Subscriptions that differ in an attribute, and the most names that it has.
const TENANTS: usize = 10_000;
/// The runs whose median is a figure.
const RUNS: usize = 9;

/// The name of a dialect, the milliseconds that a thousand filters may take, and one of them by its number.
type Dialect = (&'static str, f64, fn(usize) -> Filter);

#[derive(Debug, clap::Args)]
pub(crate) struct FilterArguments {
    /// Filter so few events that only correctness counts.
    #[arg(long)]
    smoke: bool,
}

/// Prints the figures.
#[expect(clippy::print_stdout, reason = "for a person at a terminal")]
pub(crate) fn run(arguments: &FilterArguments) -> Result<()> {
    for figure in figures(arguments.smoke)? {
        println!("{figure}");
    }
    Ok(())
}

/// What filters cost, each dialect and the index; and the most that hostile ones cost.
pub(crate) fn figures(smoke: bool) -> Result<Vec<Figure>> {
    let events = if smoke { 1 } else { 100 };
    let event = event()?;
    let dialects: [Dialect; 3] = [
        ("sql", 1.0, |n| Filter::Sql(format!("tenantid LIKE 't-{n}%' OR priority > {n}"))),
        ("jmespath", 5.0, |n| Filter::Jmespath(format!("data.n == 'x-{n}' || priority == 'x'"))),
        ("cel", 5.0, |n| Filter::Cel(format!("data.n == 'x-{n}' || priority == 'x'"))),
    ];
    let mut figures = Vec::new();
    for (name, most, filter) in dialects {
        let filters = (0..FILTERS).map(|n| Filters::compile(&[filter(n)]));
        let filters: Vec<Filters> = filters.collect::<Result<_, _>>()?;
        let runs = measured(events, || {
            let variables = Variables::of(&event);
            let matching = filters.iter().filter(|filters| filters.evaluate(&variables) == Verdict::Matches).count();
            ensure!(matching <= 8, "{matching} match");
            Ok(())
        })?;
        let runs: Vec<f64> = runs.iter().map(|nanos| nanos / 1e6).collect();
        let figure = Figure::new(format!("{FILTERS} {name} filters, an event of 1 KiB"), median(runs.clone()), "ms");
        figures.push(figure.spread(&runs).at_most(most));
    }
    for (what, tenants, names) in [
        ("1 by exact {tenantid}", 1, 1),
        ("10000 by exact {tenantid}", TENANTS, 1),
        ("10000 by as many attributes", TENANTS, TENANTS),
    ] {
        let matcher = matcher(tenants, names)?;
        let runs = measured(events * 100, || {
            let variables = Variables::of(&event);
            let found = black_box(matcher.matches(&event.event_type, None, &variables));
            ensure!(found.len() == 1, "{} match", found.len());
            Ok(())
        })?;
        let figure = Figure::new(format!("{what}, an event"), median(runs.clone()), "ns");
        figures.push(figure.spread(&runs));
    }
    figures.extend(bombs::figures()?);
    Ok(figures)
}

/// The nanoseconds for each event, in several runs.
fn measured(events: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let mut run = |_| {
        let start = Instant::now();
        for _ in 0..events {
            work()?;
        }
        Ok(start.elapsed().as_nanos() as f64 / events as f64)
    };
    (0..RUNS).map(&mut run).collect()
}

/// The Subscriptions of tenants that differ in an attribute, which has one of these many names.
fn matcher(tenants: usize, names: usize) -> Result<Matcher<usize, usize>> {
    let pattern = EventTypePattern::parse("order.created").context("the pattern")?;
    let mut matcher = Matcher::default();
    for n in 0..tenants {
        let name = if n % names == 0 { "tenantid".to_owned() } else { format!("tenantid{}", n % names) };
        matcher.insert(&n, std::slice::from_ref(&pattern), &[], Some((&name, &format!("t-{n}"))), &n);
    }
    Ok(matcher)
}

fn event() -> Result<Event> {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "e-1"),
        ("ce-source", "/shop"),
        ("ce-type", "order.created"),
        ("ce-tenantid", "t-0"),
        ("ce-priority", "3"),
        ("content-type", "application/json"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let body: Bytes = event::write(1, event::SIZE);
    Ok(Event::new("order.created", headers, body))
}
