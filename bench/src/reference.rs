//! What Hookwright is measured against: the cost of the HTTP request alone, and the floor of any sender that reads from
//! JetStream. Each is a process of its own, as a dispatcher is, with a runtime like a dispatcher's.

mod bare;
mod floor;
mod handle;

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Client;

pub(crate) use bare::{BareArguments, bare};
pub(crate) use floor::{FloorArguments, floor};
pub(crate) use handle::{BareLoad, FloorLoad, Reference, Routes};

/// The client of the dispatchers, without their guard.
fn client() -> Result<Client> {
    Client::builder()
        .user_agent("hookwright-bench")
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .retry(reqwest::retry::never())
        .http1_only()
        .pool_max_idle_per_host(64)
        .pool_idle_timeout(Duration::from_secs(30))
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_secs(15))
        .build()
        .context("can't start the HTTP client")
}
