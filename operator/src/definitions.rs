//! Whether the CustomResourceDefinitions are as new as the operator.
//!
//! The API server drops the fields that its definition of a kind doesn't have. An object would then say less than its
//! author wrote: a Subscription that has lost a filter gets more than it should. So an operator works only once the
//! definitions have all that it knows.

use std::time::Duration;

use hookwright_crds::compat;
use hookwright_crds::yaml;
use hookwright_runtime::logging;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt};
use tracing::error;

use crate::readiness::{Part, Readiness};

const AGAIN: Duration = Duration::from_secs(5);
/// How many of the missing fields a message names.
const NAMED: usize = 5;

/// The definitions can't be used.
#[derive(Debug, thiserror::Error)]
enum DefinitionError {
    #[error("can't read the CustomResourceDefinition {name}")]
    Read { name: String, source: kube::Error },
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

async fn check(client: &Client) -> Result<(), DefinitionError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for ours in yaml::definitions()? {
        let name = ours.name_any();
        let live = api.get(&name).await.map_err(|source| DefinitionError::Read { name: name.clone(), source })?;
        let lacking = compat::lacking(&serde_json::to_value(&ours)?, &serde_json::to_value(&live)?);
        if !lacking.is_empty() {
            let more = if lacking.len() > NAMED { ", ..." } else { "" };
            let lacking = format!("{}{more}", lacking[..lacking.len().min(NAMED)].join(", "));
            return Err(DefinitionError::Older { name, lacking });
        }
    }
    Ok(())
}
