//! The sealing key, which operator and dispatchers read from the same file.

use std::path::PathBuf;

use hookwright_core::seal::{SealError, SealingKey};
use serde::Deserialize;

/// The settings of the sealing key.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealingSettings {
    /// The id of the key, which each sealed value names.
    pub key_id: String,
    /// The file with the key: the base64 of 32 random bytes.
    pub key_file: PathBuf,
}

/// Why the sealing key can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SealingKeyError {
    #[error("can't read the sealing key file {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the sealing key file {path} doesn't contain a key")]
    Key { path: PathBuf, source: SealError },
}

impl SealingSettings {
    /// Reads the key from its file.
    ///
    /// # Errors
    /// If the file can't be read, or doesn't contain a key.
    pub fn load(&self) -> Result<SealingKey, SealingKeyError> {
        let path = self.key_file.clone();
        let text =
            std::fs::read_to_string(&path).map_err(|source| SealingKeyError::File { path: path.clone(), source })?;
        SealingKey::parse(&self.key_id, &text).map_err(|source| SealingKeyError::Key { path, source })
    }
}
