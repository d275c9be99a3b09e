//! The start of a process: its command line, its settings and its logs.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use tracing::error;

use crate::logging::{self, LogSettings};
use crate::settings;

/// The arguments of a process on the command line.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The settings file.
    #[arg(long)]
    pub config: PathBuf,
    /// Reads the settings and the files that they name, then exits.
    #[arg(long)]
    pub check_config: bool,
}

/// Reads the settings, starts the logs, and runs the process to its end. `run` gets the settings and whether it only
/// has to check them. An error is logged once, with all its causes.
pub async fn start<S, F>(
    arguments: &Arguments,
    log: impl Fn(&S) -> &LogSettings,
    run: impl FnOnce(S, bool) -> F,
) -> ExitCode
where
    S: DeserializeOwned,
    F: Future<Output = anyhow::Result<()>>,
{
    let loaded: Result<S, _> = settings::load(&arguments.config);
    logging::init(&loaded.as_ref().map(|settings| log(settings).clone()).unwrap_or_default());
    let ended = match loaded {
        Ok(settings) => run(settings, arguments.check_config).await,
        Err(error) => Err(error.into()),
    };
    exit_code(ended)
}

/// Runs what has no settings file to its end. An error is logged once, with all its causes.
pub async fn once(run: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    logging::init(&LogSettings::default());
    exit_code(run.await)
}

fn exit_code(ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}", logging::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
