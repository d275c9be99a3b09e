//! The dispatcher as a process.

use std::process::ExitCode;

use clap::Parser;
use hookwright_dispatcher::{run, settings::Settings};
use hookwright_runtime::start;

/// A delivery allocates memory about fifty times. With the system's allocator this takes a sixth of the delivery's CPU
/// time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "hookwright-dispatcher", version, about)]
struct Command {
    #[command(flatten)]
    arguments: start::Arguments,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command { arguments } = Command::parse();
    start::start(&arguments, |settings: &Settings| &settings.log, run::run).await
}
