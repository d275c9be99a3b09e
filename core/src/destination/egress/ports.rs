//! The ports of the egress rules.

use serde::{Deserialize, Serialize};

/// A port, or a range of ports with both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PortText", into = "PortText")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The port of HTTPS.
    pub const HTTPS: Self = Self { first: 443, last: 443 };

    /// Whether the port is in the range.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PortText {
    Number(u16),
    Range(String),
}

impl TryFrom<PortText> for PortRange {
    type Error = String;
    fn try_from(text: PortText) -> Result<Self, String> {
        let range = match text {
            PortText::Number(port) => Some((port, port)),
            PortText::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((&text, &text));
                first.trim().parse().ok().zip(last.trim().parse().ok())
            }
        };
        match range {
            Some((first, last)) if first > 0 && first <= last => Ok(Self { first, last }),
            _ => Err("a port is 1 to 65535, a range of ports is \"8000-8999\"".to_owned()),
        }
    }
}

impl From<PortRange> for PortText {
    fn from(range: PortRange) -> Self {
        if range.first == range.last {
            Self::Number(range.first)
        } else {
            Self::Range(format!("{}-{}", range.first, range.last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        for bad in ["[0]", r#"["9-8"]"#, r#"["x"]"#, "[70000]", r#"["1-"]"#] {
            assert!(serde_json::from_str::<Vec<PortRange>>(bad).is_err(), "{bad}");
        }
        let text = r#"[443,"8000-8999"]"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Vec<PortRange>>(text).unwrap()).unwrap(), text);
    }
}
