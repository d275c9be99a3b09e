//! The encoding of everything that is exchanged in NATS: JSON with a version.
//!
//! A reader refuses a record of a newer version and a record that it can't read in full: a record that is only half
//! understood must not cause webhooks. What it says of such a record is for logs and status, so nothing of what is in the
//! record is in it.

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
    /// The record doesn't have the form that its version requires. A newer release may have written it.
    #[error("the record can't be read: {0}")]
    Invalid(String),
    /// No release has written it: it is not JSON, or has no version.
    #[error("this is no record: {0}")]
    NoRecord(String),
    /// The record can't be written.
    #[error("the record can't be written")]
    Encode(#[from] serde_json::Error),
}

/// What `serde_json` says of content, up to the content. `missing field` and `duplicate field` name a field of ours.
const WITHOUT_CONTENT: [&str; 5] =
    ["unknown field", "unknown variant", "invalid type", "invalid value", "invalid length"];
const NAMING_OURS: [&str; 2] = ["missing field", "duplicate field"];

/// Says why JSON can't be read, without what is in it: that may be a secret, and as long as a message.
fn why(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if !error.is_data() || NAMING_OURS.iter().any(|begin| text.starts_with(begin)) {
        return text;
    }
    let what = WITHOUT_CONTENT.iter().find(|begin| text.starts_with(**begin)).unwrap_or(&"a value is invalid");
    format!("{what} at line {} column {}", error.line(), error.column())
}

/// Reads a record of this version or an older one from JSON.
///
/// # Errors
/// If the record has a newer version, is not a record of type `R`, or no record at all.
pub fn decode<R: DeserializeOwned>(json: &[u8]) -> Result<R, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(json).map_err(|error| RecordError::NoRecord(why(&error)))?;
    if version > VERSION {
        return Err(RecordError::Newer(version));
    }
    serde_json::from_slice(json).map_err(|error| RecordError::Invalid(why(&error)))
}

/// Reads a part of a record that has no version of its own.
pub(crate) fn decode_part<R: DeserializeOwned>(json: &str) -> Result<R, RecordError> {
    serde_json::from_str(json).map_err(|error| RecordError::Invalid(why(&error)))
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
        #[serde(default, rename = "names")]
        _names: Vec<String>,
    }

    #[test]
    fn newer_and_unknown_records_are_refused() {
        assert!(decode::<Example>(br#"{"version":1}"#).is_ok());
        assert!(matches!(decode::<Example>(br#"{"version":2,"x":1}"#), Err(RecordError::Newer(2))));
        assert!(matches!(decode::<Example>(br#"{"version":1,"x":1}"#), Err(RecordError::Invalid(_))));
    }

    #[test]
    fn what_is_hostile_is_refused_without_a_word_of_it() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let (long, version) = ("hush".repeat(1 << 18), r#"{"version":1,"#);
        for (json, is_record) in [
            ("hush".to_owned(), false),
            (String::new(), false),
            (r#"{"version":1"#.to_owned(), false),
            (r#"{"version":1} hush"#.to_owned(), false),
            (r#"{"version":"hush"}"#.to_owned(), false),
            (r#"{"hush":1}"#.to_owned(), false),
            (r#"{"version":1,"version":1}"#.to_owned(), false),
            (deep(10_000), false),
            (format!("{version}\"names\":{}}}", deep(10_000)), true),
            (format!("{version}\"hush\":{}}}", deep(10_000)), true),
            (format!("{version}\"{long}\":1}}"), true),
            (format!("{version}\"names\":\"{long}\"}}"), true),
            (format!("{version}\"names\":[7]}}"), true),
            (format!("{version}\"names\":[],\"names\":[\"hush\"]}}"), true),
        ] {
            let told = &json[..json.len().min(80)];
            let error = decode::<Example>(json.as_bytes()).unwrap_err();
            assert_eq!(matches!(error, RecordError::Invalid(_)), is_record, "{told}");
            assert_eq!(matches!(error, RecordError::NoRecord(_)), !is_record, "{told}");
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hush") && text.len() < 300, "{told}: {text}");
        }
        assert!(matches!(decode::<Example>(b"{\"version\":1,\"names\":[\"\xff\"]}"), Err(RecordError::Invalid(_))));
        let missing = decode_part::<Example>("{}").unwrap_err().to_string();
        assert!(missing.contains("missing field `version`"), "{missing}");
    }
}
