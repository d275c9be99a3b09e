//! The sealing key, from a file that is mounted into operator and dispatchers alike.

use std::path::PathBuf;

use hookwright_core::seal::{SealError, SealingKey};
use serde::Deserialize;

/// Where the sealing key is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealingSettings {
    /// Names the key in what it sealed.
    pub key_id: String,
    /// The base64 of 32 random bytes.
    pub key_file: PathBuf,
}

/// The sealing key can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SealingKeyError {
    #[error("can't read the sealing key file {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the sealing key file {path} holds no key")]
    Key { path: PathBuf, source: SealError },
}

impl SealingSettings {
    /// Reads the key.
    pub fn load(&self) -> Result<SealingKey, SealingKeyError> {
        let path = self.key_file.clone();
        let text =
            std::fs::read_to_string(&path).map_err(|source| SealingKeyError::File { path: path.clone(), source })?;
        SealingKey::parse(&self.key_id, &text).map_err(|source| SealingKeyError::Key { path, source })
    }
}
