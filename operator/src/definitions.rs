//! Whether the CustomResourceDefinitions are as new as the operator.
//!
//! The API server drops the fields that its definition of a kind doesn't have. An object would then say less than its
//! author wrote: a Subscription that has lost a filter gets more than it should. So an operator works only once the
//! definitions have all that it knows.

use std::time::Duration;

use hookwright_crds::{EventSchema, Producer, Subscription, compat, yaml};
use hookwright_runtime::logging;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use tracing::{debug, error};

use crate::lenient::{Lenient, Metadata};
use crate::readiness::{Part, Readiness};

const AGAIN: Duration = Duration::from_secs(5);
/// How many of the missing fields a message names.
const NAMED: usize = 5;

/// The definitions can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionError {
    #[error("can't read the CustomResourceDefinition {name}")]
    Read { name: String, source: kube::Error },
    #[error("the CustomResourceDefinition {name} has a form that can't be read")]
    Unreadable { name: String },
    #[error("can't compare the CustomResourceDefinitions")]
    Compare(#[from] serde_json::Error),
    #[error("can't make the CustomResourceDefinitions of this release")]
    Own(#[from] yaml::Error),
    #[error(
        "the CustomResourceDefinition {name} is older than this operator: it lacks {lacking}. Nothing is done, as objects \
         would lose what their authors wrote: upgrade the CustomResourceDefinitions (crds.enabled of the chart)"
    )]
    Older { name: String, lacking: String },
}

/// Waits until the definitions are as new as the operator.
pub(crate) async fn wait(client: &Client, readiness: &Readiness) {
    let mut last: Option<String> = None;
    while let Err(failure) = check(client).await {
        let text = logging::chain(&failure);
        readiness.missing(Part::Definitions, text.clone());
        if last.as_ref() != Some(&text) {
            error!("{text}");
            last = Some(text);
        }
        tokio::time::sleep(AGAIN).await;
    }
    readiness.there(Part::Definitions);
}

/// Looks again and again, as definitions can be rolled back. Returns the error when they have become older than the
/// operator.
pub(crate) async fn keep(client: &Client, readiness: &Readiness) -> DefinitionError {
    readiness.until(Part::Definitions).await;
    let mut seen = None;
    loop {
        tokio::time::sleep(AGAIN).await;
        match looked_at(client, &mut seen).await {
            Err(older @ DefinitionError::Older { .. }) => return older,
            Err(error) => debug!(error = logging::chain(&error), "can't check the CustomResourceDefinitions"),
            Ok(()) => {}
        }
    }
}

/// Checks the definitions if one of them has changed since the last check.
async fn looked_at(client: &Client, seen: &mut Option<Vec<Option<i64>>>) -> Result<(), DefinitionError> {
    let api: Api<Metadata<CustomResourceDefinition>> = Api::all(client.clone());
    let mut generations = Vec::new();
    for name in [Producer::crd_name(), EventSchema::crd_name(), Subscription::crd_name()] {
        let live = api.get(name).await.map_err(|source| DefinitionError::Read { name: name.to_owned(), source })?;
        generations.push(live.meta.generation);
    }
    if seen.as_ref() != Some(&generations) {
        check(client).await?;
        *seen = Some(generations);
    }
    Ok(())
}

async fn check(client: &Client) -> Result<(), DefinitionError> {
    let api: Api<Lenient<CustomResourceDefinition>> = Api::all(client.clone());
    for ours in yaml::definitions()? {
        let name = ours.name_any();
        let live = api.get(&name).await.map_err(|source| DefinitionError::Read { name: name.clone(), source })?;
        let Some(live) = live.object else { return Err(DefinitionError::Unreadable { name }) };
        let lacking = compat::lacking(&serde_json::to_value(&ours)?, &serde_json::to_value(&live)?);
        if !lacking.is_empty() {
            let more = if lacking.len() > NAMED { ", ..." } else { "" };
            let lacking = format!("{}{more}", lacking[..lacking.len().min(NAMED)].join(", "));
            return Err(DefinitionError::Older { name, lacking });
        }
    }
    Ok(())
}
