//! The CustomResourceDefinitions as YAML files, as `crds/yaml` holds them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, Resource};
use serde_json::Value;

use crate::{ConditionStatus, ConditionType, EventSchema, Producer, Reason, Subscription};

const HEADER: &str = "# Generated from the Rust types: cargo run -p hookwright-crds --bin hookwright-crds-yaml\n";

/// The CustomResourceDefinitions of all kinds, as they are installed.
pub fn definitions() -> Result<Vec<CustomResourceDefinition>, Error> {
    [Producer::crd(), EventSchema::crd(), Subscription::crd()].iter().map(readable).collect()
}

/// Name and content of each file in `crds/yaml`.
pub fn files() -> Result<Vec<(String, String)>, Error> {
    definitions()?.iter().map(file).collect()
}

/// Why a CustomResourceDefinition can't be written as YAML.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definition can't be converted to JSON.
    #[error("cannot write a CustomResourceDefinition as JSON")]
    Json(#[source] serde_json::Error),
    /// The definition can't be converted to YAML.
    #[error("cannot write a CustomResourceDefinition as YAML")]
    Yaml(#[source] serde_saphyr::SerializeError),
}

fn readable(crd: &CustomResourceDefinition) -> Result<CustomResourceDefinition, Error> {
    let mut value = serde_json::to_value(crd).map_err(Error::Json)?;
    tidy(&mut value);
    begin_unobserved(&mut value, &crd.spec.names.kind);
    serde_json::from_value(value).map_err(Error::Json)
}

/// Makes the API server give each new object the status `observedGeneration: -1`. GitOps tools judge objects by
/// kstatus, which takes an object without a status for finished before the operator has seen it. A Subscription begins
/// with a condition, too: nobody knows how its endpoint answers.
fn begin_unobserved(crd: &mut Value, kind: &str) {
    let mut first = serde_json::json!({ "observedGeneration": -1 });
    if kind == Subscription::kind(&()) {
        first["conditions"] = serde_json::json!([{
            "type": ConditionType::EndpointHealthy.as_str(),
            "status": ConditionStatus::Unknown.as_str(),
            "reason": Reason::NotAttemptedYet.as_str(),
            "message": "No attempt was made yet.",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }]);
    }
    let versions = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        if let Some(Value::Object(status)) = version.pointer_mut("/schema/openAPIV3Schema/properties/status") {
            status.insert("default".to_owned(), first.clone());
        }
    }
}

fn file(crd: &CustomResourceDefinition) -> Result<(String, String), Error> {
    let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
    let yaml = serde_saphyr::to_string(crd).map_err(Error::Yaml)?;
    Ok((name, format!("{HEADER}{yaml}")))
}

/// Adapts the definitions that kube generates:
/// - It joins the lines of each description. The line breaks come from the source, and `kubectl explain` would print
///   them.
/// - It removes `nullable` and the value `null` from optional enums. The API server (1.36) refuses a null there all the
///   same. Without them it drops the null before it validates, except in a server-side apply.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
                map.remove("nullable");
            }
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "description" => {
                        let paragraphs = text.split("\n\n").map(|p| p.lines().collect::<Vec<_>>().join(" "));
                        *text = paragraphs.collect::<Vec<_>>().join("\n\n");
                    }
                    other => tidy(other),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}
