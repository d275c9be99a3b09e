//! A dispatcher as a process.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use crate::settings::{common, merge};
use crate::{Component, Nats, SealingKey, User};

/// A running `hookwright-dispatcher`, which has no Kubernetes credential. [`Component`] has the functions of the
/// process.
pub struct Dispatcher(Component);

impl Dispatcher {
    /// Starts a dispatcher that may send to loopback over plain HTTP. `name` names its files. `patch` changes its
    /// settings (a JSON merge patch), except that the fields under `environment` become environment variables.
    pub fn spawn(folder: &Path, name: &str, nats: &Nats, sealing: &SealingKey, patch: &Value) -> Result<Self> {
        let mut settings = common(folder, nats, User::Dispatcher, sealing)?;
        merge(&mut settings, patch);
        let environment = settings.as_object_mut().and_then(|settings| settings.remove("environment"));
        let environment = environment.map(serde_json::from_value::<HashMap<String, String>>).transpose()?;
        let environment = environment.unwrap_or_default().into_iter().collect();
        Ok(Self(Component::spawn(folder, name, "hookwright-dispatcher", &settings, environment)?))
    }
}

impl Deref for Dispatcher {
    type Target = Component;

    fn deref(&self) -> &Component {
        &self.0
    }
}
