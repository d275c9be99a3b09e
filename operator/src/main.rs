//! The operator's binary: it reads its arguments and runs the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hookwright_operator::{run, settings::Settings};
use hookwright_runtime::{logging, settings};

#[derive(Parser)]
#[command(name = "hookwright-operator", version, about)]
struct Arguments {
    /// The settings file.
    #[arg(long)]
    config: PathBuf,
    /// Reads the settings and the sealing key, then exits.
    #[arg(long)]
    check_config: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", logging::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let loaded: Result<Settings, _> = settings::load(&arguments.config);
    logging::init(&loaded.as_ref().map(|settings| settings.log.clone()).unwrap_or_default());
    run::run(loaded?, arguments.check_config).await
}
