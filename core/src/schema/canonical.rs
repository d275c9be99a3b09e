//! Canonical texts of JSON values: equal values have equal texts. They serve for digests and to find equal items.

use std::collections::HashSet;
use std::fmt::Write;

use serde_json::{Number, Value};

/// Doubles below this size are written as integers if they have no fraction.
const MAX_INTEGER: f64 = 1e19;

/// The canonical text of a value: names are sorted, and numbers are written by their value, so that `1.0` becomes `1`.
pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// Whether no two items are equal. A hash with a random seed compares the texts, so no content makes the time grow
/// faster than the size of the items.
pub(super) fn is_unique(items: &[Value]) -> bool {
    let mut seen = HashSet::with_capacity(items.len());
    items.iter().all(|item| seen.insert(canonical(item)))
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(list) => {
            text.push('[');
            for item in list {
                write(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (name, value) in entries {
                string(name, text);
                text.push(':');
                write(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Number(number) => write_number(number, text),
        Value::String(content) => string(content, text),
        Value::Bool(_) | Value::Null => push(text, value),
    }
}

/// Writes a text with its length first, so that no content can be mistaken for the structure around it.
fn string(content: &str, text: &mut String) {
    push(text, content.len());
    text.push('"');
    text.push_str(content);
}

fn write_number(number: &Number, text: &mut String) {
    match number.as_f64().filter(|_| number.is_f64()) {
        // The conversion is exact: a double of this size without a fraction is an integer.
        Some(double) if double.fract() == 0.0 && double.abs() < MAX_INTEGER => push(text, double as i128),
        _ => push(text, number),
    }
}

fn push(text: &mut String, what: impl std::fmt::Display) {
    // Writing to a String never fails.
    let _ = write!(text, "{what}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_are_equal_as_json_schema_has_it() {
        let same = [
            (json!(1), json!(1.0)),
            (json!(0), json!(-0.0)),
            (json!(9_007_199_254_740_992_i64), json!(9_007_199_254_740_992.0)),
            (json!({ "a": 1, "b": [2.0] }), json!({ "b": [2], "a": 1.0 })),
            (json!(1e300), json!(1e300)),
        ];
        for (a, b) in same {
            assert!(!is_unique(&[a.clone(), json!(null), b.clone()]), "{a} {b}");
        }
        let apart = json!([1, "1", 1.5, true, "true", null, "null", [], {}, "", [[]], [1], ["1"], { "1": 1 }, ["1,", "1"],
            ["1", ",1"], 9_007_199_254_740_993_i64, 9_007_199_254_740_992_i64, u64::MAX, 1e19, "\"", { "a": "b" }]);
        assert!(is_unique(apart.as_array().unwrap()));
    }
}
