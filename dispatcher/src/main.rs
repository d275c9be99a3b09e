//! The dispatcher: JetStream in, signed webhooks out. See `run` for how its parts fit together.

mod ack;
mod clock;
mod config;
mod deliver;
mod health;
mod http;
mod intake;
mod limits;
mod liveness;
mod metrics;
mod observer;
mod parking;
mod run;
mod settings;
mod validate;

use std::process::ExitCode;

use clap::Parser;
use hookwright_runtime::logging;

/// Each delivery allocates some fifty times; the system's allocator takes a sixth of the CPU for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = settings::Arguments::parse();
    match run::run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::init(&logging::LogSettings::default());
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
