//! Measures what a delivery costs and how long it takes, for real: with a Kubernetes API server, a nats-server, the
//! operator, dispatchers, and a sink that compares every input with every output. The important figures are ratios to
//! references that are measured in the same run, because machines differ and are never quiet.

mod bombs;
mod chart;
mod client;
mod cpu;
mod event;
mod figure;
mod filtering;
mod lab;
mod matching;
mod reference;
mod report;
mod role;
mod scale;
mod scenario;
mod sink;
mod tally;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};

use filtering::FilterArguments;
use lab::Lab;
use matching::MatchArguments;
use reference::{BareArguments, FloorArguments};
use report::Report;
use scale::Scale;
use scenario::Scenario;

/// The allocator of the dispatcher, so that the references have the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Hookwright.
#[derive(Debug, Parser)]
#[command(name = "hookwright-bench", version)]
enum Role {
    /// Run scenarios and print their figures.
    Run(RunArguments),
    /// Print what matching costs, with 10,000 Subscriptions of wildcards. It needs no server.
    Match(MatchArguments),
    /// Print what filters cost, a thousand of each dialect. It needs no server.
    Filter(FilterArguments),
    /// The receiver of all webhooks; started by `run`.
    #[command(hide = true)]
    Sink,
    /// R1; started by `run`.
    #[command(hide = true)]
    Bare(BareArguments),
    /// R2; started by `run`.
    #[command(hide = true)]
    Floor(FloorArguments),
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Only these scenarios, with commas between them. Default: all.
    #[arg(long, value_delimiter = ',', ignore_case = true)]
    only: Vec<Scenario>,
    /// Run so little of each scenario that only its correctness counts.
    #[arg(long)]
    smoke: bool,
    /// The file to which the figures are written as JSON. A chart is written beside it as SVG.
    #[arg(long, default_value = "target/bench/bench.json")]
    json: PathBuf,
    /// Settings of the dispatchers, as JSON, in place of the defaults.
    #[arg(long, value_parser = settings, default_value = "{}")]
    dispatcher: serde_json::Map<String, serde_json::Value>,
}

fn settings(text: &str) -> serde_json::Result<serde_json::Map<String, serde_json::Value>> {
    serde_json::from_str(text)
}

#[tokio::main]
async fn main() -> Result<()> {
    // Installs the one crypto provider, as the binaries do.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("another TLS provider is installed");
    }
    match Role::parse() {
        Role::Run(arguments) => run(arguments).await,
        Role::Match(arguments) => matching::run(&arguments),
        Role::Filter(arguments) => filtering::run(&arguments),
        Role::Sink => sink::serve().await,
        Role::Bare(arguments) => reference::bare(arguments).await,
        Role::Floor(arguments) => reference::floor(arguments).await,
    }
}

async fn run(arguments: RunArguments) -> Result<()> {
    let scenarios = if arguments.only.is_empty() { Scenario::value_variants().to_vec() } else { arguments.only };
    let scale = if arguments.smoke { Scale::SMOKE } else { Scale::FULL };
    let mut report = Report::default();
    report.progress("starting Kubernetes, NATS, the operator, a dispatcher and the sink");
    let mut lab = Lab::start(arguments.dispatcher, done).await?;
    report.on(lab.nats_version());
    for scenario in scenarios {
        report.begin(format!("{scenario:?}"), scenario.title());
        scenario.run(&mut lab, scale, &mut report).await?;
        report.end(lab.compared());
        // Saved after each scenario, so that figures stay if a later scenario fails.
        report.save(&arguments.json)?;
    }
    chart::draw(&report, &arguments.json.with_extension("svg"))?;
    report.finish();
    Ok(())
}

#[expect(clippy::print_stdout, reason = "for a person at a terminal")]
fn done(step: &str, took: Duration) {
    println!("    {:<44}{:>7.1} s", step, took.as_secs_f64());
}
