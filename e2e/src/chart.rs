//! The chart as it is committed: a render for each file of values. Tests, the demo and the bench take the operator's
//! rights, the settings and the users of NATS from one of them, so that they run what a user installs.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace;

/// The namespace and the name for which the chart is rendered.
pub const NAMESPACE: &str = "hookwright-system";
const NAME: &str = "hookwright";

/// The files of all renders.
pub fn renders() -> Result<Vec<PathBuf>> {
    let folder = workspace().join("charts/hookwright/renders");
    let files: Vec<PathBuf> =
        std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>().context("the renders")?;
    ensure!(!files.is_empty(), "{} is empty: run `make generate`", folder.display());
    Ok(files)
}

/// The objects of a render.
pub fn objects(render: &std::path::Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(render).with_context(|| render.display().to_string())?;
    let documents = text.split("\n---\n").filter(|document| document.contains("\nkind: "));
    documents.map(|document| Ok(serde_saphyr::from_str(document)?)).collect()
}

/// The objects that `helm install` with the bundled NATS creates, the CRDs left out.
pub fn installed() -> Result<Vec<Value>> {
    rendered("default")
}

/// One of these.
pub fn object(kind: &str, name: &str) -> Result<Value> {
    object_of("default", kind, name)
}

fn rendered(render: &str) -> Result<Vec<Value>> {
    objects(&workspace().join(format!("charts/hookwright/renders/{render}.yaml")))
}

fn object_of(render: &str, kind: &str, name: &str) -> Result<Value> {
    let named = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    rendered(render)?
        .into_iter()
        .find(named)
        .with_context(|| format!("the chart's render {render} has no {kind} {name}"))
}

/// The settings of `operator` or `dispatcher`.
pub(crate) fn settings(component: &str) -> Result<Value> {
    Ok(serde_saphyr::from_str(&file_of("default", component, &format!("{component}.yaml"))?)?)
}

/// The configuration of the bundled NATS in a render.
pub(crate) fn nats_configuration(render: &str) -> Result<String> {
    file_of(render, "nats", "nats.conf")
}

fn file_of(render: &str, component: &str, file: &str) -> Result<String> {
    let map = object_of(render, "ConfigMap", &format!("{NAME}-{component}"))?;
    Ok(map["data"][file].as_str().with_context(|| format!("{file} in the chart's render"))?.to_owned())
}
