//! Versions of event schemas, which are compared as numbers.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A version: one to three numbers of at most nine digits, such as `1`, `1.2` or `1.2.0`. Missing numbers are zero, so
/// `1.2` and `1.2.0` are the same version. The text is kept as it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SchemaVersion {
    text: String,
    numbers: [u32; 3],
}

/// One version of an event type, with the JSON Schema of its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VersionedSchema {
    /// The version.
    pub version: SchemaVersion,
    /// The URI by which events name this version in `dataschema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The JSON Schema of the data.
    pub json_schema: Value,
    /// Whether publishers should move on to another version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deprecated: bool,
}

/// A text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version: one to three numbers of at most nine digits, with dots between them")]
pub struct InvalidVersion(String);

impl SchemaVersion {
    /// Reads a version from its text.
    ///
    /// # Errors
    /// If the text doesn't match `^[0-9]{1,9}(\.[0-9]{1,9}){0,2}$`.
    pub fn parse(text: &str) -> Result<Self, InvalidVersion> {
        let invalid = || InvalidVersion(text.chars().take(40).collect());
        let mut numbers = [0; 3];
        let mut tokens = text.split('.');
        for (i, token) in tokens.by_ref().take(3).enumerate() {
            let digits = (1..=9).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_digit());
            let number = token.parse().ok().filter(|_| digits);
            numbers[i] = number.ok_or_else(invalid)?;
        }
        if tokens.next().is_some() {
            return Err(invalid());
        }
        Ok(Self { text: text.to_owned(), numbers })
    }

    /// The version as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first number, the major version. Within it, each version accepts everything that the older ones accept.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.numbers[0]
    }
}

impl PartialEq for SchemaVersion {
    fn eq(&self, other: &Self) -> bool {
        self.numbers == other.numbers
    }
}

impl Eq for SchemaVersion {}

impl PartialOrd for SchemaVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SchemaVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers)
    }
}

impl TryFrom<String> for SchemaVersion {
    type Error = InvalidVersion;
    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        Self::parse(&text)
    }
}

impl From<SchemaVersion> for String {
    fn from(version: SchemaVersion) -> String {
        version.text
    }
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text| SchemaVersion::parse(text).unwrap();
        for (a, b, want) in [
            ("1.9", "1.10", Ordering::Less),
            ("1.2", "1.2.0", Ordering::Equal),
            ("01", "1", Ordering::Equal),
            ("2", "1.999999999", Ordering::Greater),
            ("1.2.3", "1.2.4", Ordering::Less),
        ] {
            assert_eq!(version(a).cmp(&version(b)), want, "{a} {b}");
        }
        assert_eq!(version("1.2.0").as_str(), "1.2.0");
        for bad in ["", ".", "1.", ".1", "v1", "1.2.3.4", "1234567890", "+1", "-1", "1 ", "1.a"] {
            assert!(SchemaVersion::parse(bad).is_err(), "{bad:?}");
        }
    }
}
