//! The encoding of everything that is exchanged in NATS: JSON with a version.
//!
//! A reader refuses a record of a newer version and a record that it can't read in full: a record that is only half
//! understood must not cause webhooks.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The record version that this build writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// Why a record can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A newer release wrote the record.
    #[error("the record has version {0}, this build reads up to {VERSION}: upgrade the dispatchers")]
    Newer(u32),
    /// The record doesn't have the form that its version requires.
    #[error("the record can't be read")]
    Invalid(#[from] serde_json::Error),
}

/// Reads a record of this version or an older one from JSON.
///
/// # Errors
/// If the record has a newer version, or is not a record of type `R`.
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

/// Writes a record as JSON.
///
/// # Errors
/// Never for the record types of this crate; `serde_json` can't know that.
pub fn encode<R: Serialize>(record: &R) -> Result<Vec<u8>, RecordError> {
    Ok(serde_json::to_vec(record)?)
}

/// Writes a record as JSON for the value of a NATS header. JSON escapes line breaks and other control characters.
/// Characters beyond ASCII stay as they are, in UTF-8, which NATS lets through.
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
