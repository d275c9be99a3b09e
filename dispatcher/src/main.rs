//! The dispatcher: JetStream in, signed webhooks out. See `app` for how its parts fit together.

mod acks;
mod app;
mod backlog;
mod budget;
mod clock;
mod config;
mod deliver;
mod dial;
mod disabled;
mod due;
mod fanout;
mod guard;
mod health;
mod hold;
mod index;
mod lane;
mod liveness;
mod messages;
mod metrics;
mod observer;
mod pending;
mod pressure;
mod pull;
mod quota;
mod reader;
mod readers;
mod request;
mod schema;
mod send_test;
mod sender;
mod settings;
mod slots;
mod store;
mod subscription;
mod turns;
mod validation;
mod violations;

use std::process::ExitCode;

use clap::Parser;
use hookwright_runtime::logging;

/// Each delivery allocates some fifty times; the system's allocator takes a sixth of the CPU for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = settings::Arguments::parse();
    match app::run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::init(&logging::LogSettings::default());
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
