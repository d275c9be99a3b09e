//! Settings from one YAML file, with overrides from the environment.
//!
//! `HOOKWRIGHT__NATS__URL=nats://...` sets `nats.url`: two underscores go one level down, `SNAKE_CASE` stands for the
//! key `snakeCase`, and the value is read as YAML. A key that the process doesn't know is refused, in the file and in
//! the environment.

use std::path::{Path, PathBuf};

use hookwright_core::quantity;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

const PREFIX: &str = "HOOKWRIGHT__";

/// Why settings can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("can't read the settings file {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the settings file {path} is not YAML")]
    Yaml { path: PathBuf, source: Box<serde_saphyr::Error> },
    #[error("the environment variable {name} is not YAML")]
    Variable { name: String, source: Box<serde_saphyr::Error> },
    #[error("the settings in {path} (and HOOKWRIGHT__* in the environment) are wrong")]
    Invalid { path: PathBuf, source: serde_json::Error },
}

/// Reads the file, then applies the overrides from the environment.
///
/// # Errors
/// If the file can't be read, or the file or a variable is not YAML or doesn't fit the settings.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::File { path: path.to_owned(), source })?;
    parse(path, &text, std::env::vars())
}

fn parse<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<T, SettingsError> {
    let mut settings: Value = serde_saphyr::from_str(text)
        .map_err(|source| SettingsError::Yaml { path: path.to_owned(), source: Box::new(source) })?;
    for (name, text) in environment {
        let Some(keys) = name.strip_prefix(PREFIX) else { continue };
        let value = serde_saphyr::from_str(&text)
            .map_err(|source| SettingsError::Variable { name: name.clone(), source: Box::new(source) })?;
        set(&mut settings, &mut keys.split("__").map(camel_case), value);
    }
    serde_json::from_value(settings).map_err(|source| SettingsError::Invalid { path: path.to_owned(), source })
}

fn set(target: &mut Value, keys: &mut dyn Iterator<Item = String>, value: Value) {
    let Some(key) = keys.next() else {
        *target = value;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(map) = target {
        set(map.entry(key).or_insert(Value::Null), keys, value);
    }
}

fn camel_case(snake: &str) -> String {
    let mut out = String::with_capacity(snake.len());
    for (i, word) in snake.split('_').enumerate() {
        let word = word.to_ascii_lowercase();
        match word.split_at_checked(1) {
            Some((first, rest)) if i > 0 => out.extend([&first.to_ascii_uppercase(), rest]),
            _ => out.push_str(&word),
        }
    }
    out
}

/// The form of durations in settings: a text such as `35s` or `1h30m`.
pub mod duration {
    use serde::{Deserialize, Deserializer};
    use std::time::Duration;

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span: jiff::SignedDuration = text.parse().map_err(serde::de::Error::custom)?;
        Duration::try_from(span).map_err(|_| serde::de::Error::custom(format!("{text}: a duration can't be negative")))
    }
}

/// An amount of bytes in settings, above 0: a number, or a text with a unit such as `256Mi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(u64);

impl Bytes {
    /// Makes an amount of so many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let bytes = match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Some(bytes),
            Written::Text(text) => quantity::parse(&text),
        };
        let bytes = bytes.filter(|bytes| *bytes > 0);
        bytes
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("an amount of bytes is above 0, such as 1048576 or 256Mi"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Example {
        nats: Nats,
        #[serde(with = "duration")]
        shutdown_grace: Duration,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Nats {
        url: String,
        ports: Vec<u16>,
    }

    const FILE: &str = "nats: {url: a, ports: [1]}\nshutdownGrace: 35s\n";

    fn read(text: &str, env: &[(&str, &str)]) -> Result<Example, SettingsError> {
        parse(Path::new("x.yaml"), text, env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let env = [("HOOKWRIGHT__NATS__URL", "b"), ("HOOKWRIGHT__SHUTDOWN_GRACE", "1m"), ("HOOKWRIGHT_CACHE", "x")];
        let got = read(FILE, &env).unwrap();
        assert_eq!((got.nats.url.as_str(), got.shutdown_grace), ("b", Duration::from_secs(60)));
        assert_eq!(read(FILE, &[("HOOKWRIGHT__NATS__PORTS", "[2, 3]")]).unwrap().nats.ports, [2, 3]);
    }

    #[test]
    fn unknown_keys_are_refused_wherever_they_stand() {
        assert!(matches!(read(&format!("{FILE}x: 1\n"), &[]), Err(SettingsError::Invalid { .. })));
        assert!(matches!(read(FILE, &[("HOOKWRIGHT__NATS__ULR", "b")]), Err(SettingsError::Invalid { .. })));
        assert!(matches!(read("nats: [", &[]), Err(SettingsError::Yaml { .. })));
        assert!(read(&FILE.replace("35s", "-1s"), &[]).is_err());
    }

    #[test]
    fn bytes_are_a_number_or_have_a_unit() {
        for (text, bytes) in [("1048576", Some(1 << 20)), ("256Mi", Some(256 << 20)), ("1.5k", Some(1500))] {
            assert_eq!(serde_saphyr::from_str::<Bytes>(text).ok().map(Bytes::get), bytes, "{text}");
        }
        for text in ["0", "-1", "256MB", "many", "1.0001Ki"] {
            assert!(serde_saphyr::from_str::<Bytes>(text).is_err(), "{text}");
        }
    }
}
