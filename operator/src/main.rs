//! The operator as a process.

use std::process::ExitCode;

use clap::Parser;
use hookwright_operator::{run, settings::Settings};
use hookwright_runtime::start;

#[derive(Parser)]
#[command(name = "hookwright-operator", version, about)]
struct Command {
    #[command(flatten)]
    arguments: start::Arguments,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command { arguments } = Command::parse();
    start::start(&arguments, |settings: &Settings| &settings.log, run::run).await
}
