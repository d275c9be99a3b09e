//! Amounts of bytes as users write them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::patterns;

/// An amount of bytes, written as an integer (`1048576`) or as text with a suffix (`1Mi`, `1.5G`). It keeps the form in
/// which it was written, so that writing an object back changes nothing.
///
/// The API server admits only amounts that [`Quantity::to_bytes`] can read, are above zero and fit into 63 bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// A plain number of bytes.
    Int(i64),
    /// A text: digits, at most three decimals, and optionally one of k, M, G, T, P, E (powers of 1000) or Ki, Mi, Gi,
    /// Ti, Pi, Ei (powers of 1024).
    Text(String),
}

impl Quantity {
    /// The number of bytes. A fraction of a byte is rounded up. `None` if the text can't be read or the number exceeds
    /// 64 bits.
    pub fn to_bytes(&self) -> Option<u64> {
        match self {
            Self::Int(bytes) => u64::try_from(*bytes).ok(),
            Self::Text(text) => hookwright_core::quantity::parse(text),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(bytes) => bytes.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "pattern": patterns::QUANTITY,
            "x-kubernetes-validations": [{
                "rule": "type(self) == int ? self > 0 : isQuantity(self) && \
                    quantity(self).isGreaterThan(quantity('0')) && quantity(self).isLessThan(quantity('8Ei'))",
                "message": "must be a number of bytes above 0 and below 8Ei, such as 1048576 or 10Gi",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_schema_admits_and_nothing_else() {
        let text = |t: &str| Quantity::Text(t.into());
        let cases = [
            (Quantity::Int(1024), Some(1024)),
            (Quantity::Int(-1), None),
            (text("1024"), Some(1024)),
            (text("10Gi"), Some(10 << 30)),
            (text("10G"), Some(10_000_000_000)),
            (text("1.5Ki"), Some(1536)),
            (text("0.001"), Some(1)),
            (text("1.001Ki"), Some(1026)),
            (text("7Ei"), Some(7 << 60)),
            (text("999999999999999Ei"), None),
            (text(""), None),
            (text("Gi"), None),
            (text(".5Gi"), None),
            (text("1.Gi"), None),
            (text("1.0001Gi"), None),
            (text("1.5.5Gi"), None),
            (text("-1Gi"), None),
            (text("1e3"), None),
            (text("1m"), None),
            (text("1gi"), None),
            (text("1 Gi"), None),
        ];
        for (quantity, expected) in cases {
            assert_eq!(quantity.to_bytes(), expected, "{quantity}");
        }
    }

    #[test]
    fn keeps_what_was_written() {
        for json in ["1048576", "\"1Mi\"", "\"1048576\""] {
            let quantity: Quantity = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&quantity).unwrap(), json);
        }
    }
}
