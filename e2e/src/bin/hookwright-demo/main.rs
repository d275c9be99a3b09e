//! Shows the main job of Hookwright, for real, on one machine: everything starts, `examples/quickstart` is applied,
//! events are published with the `nats` CLI, and a receiver verifies each webhook with the official library.
//!
//! The demo stays up until Ctrl-C. With `ONCE=1` it verifies what happened and exits.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a person at a terminal")]

mod checks;
mod guide;
mod receiver;
mod scenario;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use hookwright_e2e::{Options, Use, World};
use tokio::signal::unix::{SignalKind, signal};

use receiver::PythonReceiver;

#[tokio::main]
async fn main() -> ExitCode {
    let once = std::env::var("ONCE").is_ok_and(|value| !value.is_empty() && value != "0");
    let up = AtomicBool::new(false);
    tokio::select! {
        outcome = run(once, &up) => match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("\nThe demo failed: {error:#}");
                ExitCode::FAILURE
            }
        },
        () = interrupted() => {
            println!("\nStopped.");
            // Once everything has been shown, Ctrl-C is how the demo ends.
            if up.load(Ordering::Relaxed) { ExitCode::SUCCESS } else { ExitCode::from(130) }
        }
    }
}

async fn run(once: bool, up: &AtomicBool) -> Result<()> {
    println!("==> Starting Kubernetes, NATS, the operator and two dispatchers");
    let world =
        World::start(Options { dispatchers: 2, tools: Use::Demo, progress: done, ..Options::default() }).await?;
    let outcome = show(&world, once, up).await;
    if outcome.is_err() {
        scenario::print_logs(&world);
    }
    outcome
}

async fn show(world: &World, once: bool, up: &AtomicBool) -> Result<()> {
    let receiver = PythonReceiver::start(world).await?;
    let published = scenario::play(world, &receiver).await?;
    let checked = checks::check(world, &receiver, &published).await;
    scenario::print_outcome(world, &receiver).await?;
    checked?;
    println!("\nEach event arrived once, each signature is good, and the status says so.");
    if once {
        return Ok(());
    }
    guide::print(world);
    up.store(true, Ordering::Relaxed);
    receiver.follow().await
}

/// Prints a step that is done.
fn done(step: &str, took: Duration) {
    println!("    {:<44}{:>7.1} s", step, took.as_secs_f64());
}

async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
