//! The sealing keys, which operator and dispatchers read from the same files.

use std::path::{Path, PathBuf};

use hookwright_core::seal::{SealError, SealingKey, SealingKeys};
use serde::Deserialize;

/// The settings of the sealing keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealingSettings {
    /// The id of the key that seals, which each sealed value names.
    pub key_id: String,
    /// The file with the key: the base64 of 32 random bytes.
    pub key_file: PathBuf,
    /// Other keys that open what they have sealed: the next one, before it seals, and the last one, until nothing is
    /// sealed with it any more.
    #[serde(default)]
    pub accepted: Vec<AcceptedKey>,
}

/// A key that opens.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceptedKey {
    /// The id of the key.
    pub key_id: String,
    /// The file with the key.
    pub key_file: PathBuf,
}

/// Why the sealing keys can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SealingKeyError {
    #[error("can't read the sealing key file {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the sealing key file {path} doesn't contain a key")]
    Key { path: PathBuf, source: SealError },
    #[error("the settings of the sealing keys can't be used")]
    Keys { source: SealError },
}

impl SealingSettings {
    /// Reads the keys from their files.
    ///
    /// # Errors
    /// If a file can't be read or doesn't contain a key, or two keys have the same id.
    pub fn load(&self) -> Result<SealingKeys, SealingKeyError> {
        let accepted = self.accepted.iter().map(|key| read(&key.key_id, &key.key_file));
        let accepted = accepted.collect::<Result<_, _>>()?;
        SealingKeys::new(read(&self.key_id, &self.key_file)?, accepted)
            .map_err(|source| SealingKeyError::Keys { source })
    }
}

fn read(id: &str, path: &Path) -> Result<SealingKey, SealingKeyError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SealingKeyError::File { path: path.to_owned(), source })?;
    SealingKey::parse(id, &text).map_err(|source| SealingKeyError::Key { path: path.to_owned(), source })
}
