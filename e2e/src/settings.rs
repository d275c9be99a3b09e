//! The settings files of the binaries.

use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::{Nats, User, chart};

/// The key that seals secrets on their way from the operator to the dispatchers.
#[derive(Clone, Debug)]
pub struct SealingKey {
    file: PathBuf,
}

impl SealingKey {
    /// Generates a random key in a file of `folder`.
    pub fn generate(folder: &Path) -> Result<Self> {
        let file = folder.join("sealing.key");
        std::fs::write(&file, BASE64_STANDARD.encode(rand::random::<[u8; 32]>()))?;
        Ok(Self { file })
    }
}

/// The egress file of all processes in this folder. The first of them writes it, and lets them send to loopback over plain
/// HTTP.
fn egress_file(folder: &Path) -> Result<PathBuf> {
    let file = folder.join("egress.yaml");
    if !file.exists() {
        let rules = json!({ "allowedCIDRs": ["127.0.0.0/8"], "allowedPorts": ["1-65535"], "plainHttp": true });
        std::fs::write(&file, serde_json::to_string_pretty(&rules)?)?;
    }
    Ok(file)
}

/// Changes the egress file of this folder by a JSON merge patch. A process that runs sees the former one or the new one.
pub(crate) fn change_egress(folder: &Path, patch: &Value) -> Result<()> {
    let mut rules = serde_json::from_str(&std::fs::read_to_string(egress_file(folder)?)?)?;
    merge(&mut rules, patch);
    write_egress(folder, &serde_json::to_string_pretty(&rules)?)
}

/// Puts this text in the place of the egress file.
pub(crate) fn write_egress(folder: &Path, text: &str) -> Result<()> {
    let new = folder.join("egress.yaml.new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, egress_file(folder)?)?)
}

/// The settings that the chart gives to `operator` or `dispatcher`, with this NATS and this sealing key, and logs for
/// people. `folder` has the egress file.
pub(crate) fn common(folder: &Path, nats: &Nats, user: User, sealing: &SealingKey) -> Result<Value> {
    let mut settings = chart::settings(user.name())?;
    let here = json!({
        "nats": {
            "url": nats.url(),
            "user": user.name(),
            "passwordFile": nats.password_file(user),
            "inboxPrefix": user.inbox_prefix(),
        },
        "http": { "listen": "127.0.0.1:0" },
        "sealing": { "keyFile": sealing.file },
        "egressFile": egress_file(folder)?,
        "log": { "format": "Text" },
    });
    merge(&mut settings, &here);
    Ok(settings)
}

/// Changes `target` by a JSON merge patch (RFC 7396).
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    if let Value::Object(object) = target {
        for (name, value) in fields {
            if value.is_null() {
                object.remove(name);
            } else {
                merge(object.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_replaces_adds_and_removes() {
        let mut settings = json!({ "a": { "b": 1, "c": 2 }, "list": [1, 2] });
        merge(&mut settings, &json!({ "a": { "b": null, "d": { "e": 3 } }, "list": [3] }));
        assert_eq!(settings, json!({ "a": { "c": 2, "d": { "e": 3 } }, "list": [3] }));
    }
}
