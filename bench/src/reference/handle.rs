//! A reference as a child process.

use std::path::Path;

use anyhow::Result;
use hookwright_e2e::{Nats, Process, User};

use crate::cpu::Watched;
use crate::role;

/// A running reference. It ends when dropped.
pub(crate) struct Reference {
    process: Process,
}

/// The webhooks that R1 sends.
pub(crate) struct BareLoad {
    pub(crate) url: String,
    pub(crate) first: u64,
    pub(crate) events: u64,
    pub(crate) size: usize,
    pub(crate) in_flight: usize,
}

/// The names of consumers, each with the URL to which its events go.
pub(crate) type Routes = Vec<(String, String)>;

/// The consumers that R2 reads, and where it sends their events.
pub(crate) struct FloorLoad {
    pub(crate) stream: String,
    pub(crate) routes: Routes,
    pub(crate) in_flight: usize,
}

/// How many events R2 pulls at a time, over all of its consumers.
const BATCH: usize = 512;

impl Reference {
    /// Starts R1. Its log is in `folder`.
    pub(crate) fn bare(folder: &Path, load: &BareLoad) -> Result<Self> {
        let (first, events) = (load.first.to_string(), load.events.to_string());
        let (size, in_flight) = (load.size.to_string(), load.in_flight.to_string());
        let arguments = ["bare", "--url", &load.url, "--first", &first, "--events", &events, "--size", &size];
        let arguments = [arguments.as_slice(), &["--in-flight", &in_flight]].concat();
        Ok(Self { process: role::spawn("bare", &arguments, &folder.join("bare.log"))? })
    }

    /// Starts R2 with a dispatcher's rights. Its log is in `folder`.
    pub(crate) fn floor(folder: &Path, nats: &Nats, load: &FloorLoad) -> Result<Self> {
        let user = User::Dispatcher;
        let (url, password, in_flight) = (nats.url(), nats.password_file(user), load.in_flight.to_string());
        let batch = (BATCH / load.routes.len().max(1)).max(load.in_flight).to_string();
        let password = password.to_string_lossy();
        let mut arguments = vec!["floor", "--nats", &url, "--user", user.name(), "--password-file", &password];
        arguments.extend(["--inbox-prefix", user.inbox_prefix(), "--stream", &load.stream]);
        arguments.extend(["--in-flight", &in_flight, "--batch", &batch]);
        for (consumer, url) in &load.routes {
            arguments.extend(["--consumer", consumer, "--url", url]);
        }
        Ok(Self { process: role::spawn("floor", &arguments, &folder.join("floor.log"))? })
    }

    pub(crate) fn watched(&self, name: &'static str) -> Result<Watched> {
        Watched::new(name, self.process.id())
    }

    /// Returns an error if the reference has ended.
    pub(crate) fn check(&self) -> Result<()> {
        self.process.check_running()
    }
}
