//! How everything that is exchanged in NATS is written: JSON with a version.
//!
//! A reader that meets a newer version, or a text that it can't read in full, says so: what is half understood must not
//! send webhooks.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version that this build writes.
pub const VERSION: u32 = 1;

/// A record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer release.
    #[error(
        "the record has version {0}, this build reads up to {VERSION}: upgrade the dispatchers before the operator"
    )]
    Newer(u32),
    /// Not what the version says.
    #[error("the record can't be read")]
    Invalid(#[from] serde_json::Error),
}

/// Reads a record of this version or an older one.
///
/// # Errors
/// If it is newer, or not a record of this kind.
pub fn decode<R: DeserializeOwned>(json: &[u8]) -> Result<R, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(json)?;
    if version > VERSION {
        return Err(RecordError::Newer(version));
    }
    Ok(serde_json::from_slice(json)?)
}

/// Writes a record.
///
/// # Errors
/// Never for the types of this module; `serde_json` can't know that.
pub fn encode<R: Serialize>(record: &R) -> Result<Vec<u8>, RecordError> {
    Ok(serde_json::to_vec(record)?)
}

/// Writes a record as the value of a header.
///
/// # Errors
/// See [`encode`].
pub fn encode_header<R: Serialize>(record: &R) -> Result<String, RecordError> {
    Ok(serde_json::to_string(record)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[serde(rename = "version")]
        _version: u32,
    }

    #[test]
    fn newer_and_unknown_records_are_refused() {
        assert!(decode::<Example>(br#"{"version":1}"#).is_ok());
        assert!(matches!(decode::<Example>(br#"{"version":2,"x":1}"#), Err(RecordError::Newer(2))));
        assert!(matches!(decode::<Example>(br#"{"version":1,"x":1}"#), Err(RecordError::Invalid(_))));
    }
}
