//! The operator as a process, and what is done once at its installation and its removal.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hookwright_operator::{kubernetes, make_secrets, release, run, settings::Settings};
use hookwright_runtime::start;

#[derive(Parser)]
#[command(name = "hookwright-operator", version, about)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Command {
    #[command(flatten)]
    arguments: Option<start::Arguments>,
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Makes the Secrets that an installation needs and that don't exist.
    MakeSecrets(make_secrets::Arguments),
    /// Stops the operator and removes its finalizers, before Hookwright is uninstalled.
    Release(release::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Command::parse() {
        Command { task: Some(Task::MakeSecrets(arguments)), .. } => {
            start::once(async { make_secrets::run(arguments, kubernetes::client().await?).await }).await
        }
        Command { task: Some(Task::Release(arguments)), .. } => {
            start::once(async { release::run(arguments, kubernetes::client().await?).await }).await
        }
        Command { arguments: Some(arguments), .. } => {
            start::start(&arguments, |settings: &Settings| &settings.log, run::run).await
        }
        Command { arguments: None, task: None } => unreachable!("clap requires one of them"),
    }
}
