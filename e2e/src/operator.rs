//! The operator as a process.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::settings::{common, merge};
use crate::{Component, Nats, SealingKey, User};

/// A running `hookwright-operator`. [`Component`] has the functions of the process.
pub struct Operator(Component);

impl Operator {
    /// Starts an operator. `patch` changes its settings (a JSON merge patch), except that the fields under `environment`
    /// become environment variables. `kubeconfig` should be the file of [`crate::ControlPlane::operator_kubeconfig`].
    pub fn spawn(folder: &Path, nats: &Nats, sealing: &SealingKey, kubeconfig: PathBuf, patch: &Value) -> Result<Self> {
        let mut settings = common(folder, nats, User::Operator, sealing)?;
        let system_streams = json!({ "replicas": nats.replicas() });
        let quotas = json!({ "subscriptions": 1_000_000 });
        merge(&mut settings, &json!({ "systemStreams": system_streams, "quotas": quotas }));
        merge(&mut settings, patch);
        let environment = settings.as_object_mut().and_then(|settings| settings.remove("environment"));
        let mut environment = environment.map(serde_json::from_value::<HashMap<_, _>>).transpose()?.unwrap_or_default();
        environment.insert("KUBECONFIG".to_owned(), kubeconfig.to_string_lossy().into_owned());
        let environment = environment.into_iter().collect();
        Ok(Self(Component::spawn(folder, "operator", "hookwright-operator", &settings, environment)?))
    }
}

impl Deref for Operator {
    type Target = Component;

    fn deref(&self) -> &Component {
        &self.0
    }
}
