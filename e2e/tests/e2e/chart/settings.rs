//! The chart's values, the documented examples of settings and of the egress file, and the defaults are the same. That an
//! example has the defaults is a test beside what reads it.

use hookwright_e2e::workspace;
use serde_json::Value;

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap()
}

#[test]
fn the_documented_examples_have_all_settings_with_the_charts_values() {
    let values: Value = serde_saphyr::from_str(&read("charts/hookwright/values.yaml")).unwrap();
    let docs = read("docs/reference/settings.md");
    let (operator, dispatcher) = (&values["operator"]["settings"], &values["dispatcher"]["settings"]);
    for (name, values) in [("operator", operator), ("dispatcher", dispatcher), ("egress", &values["egress"])] {
        let (_, after) = docs.split_once(&format!("`{name}.yaml`")).unwrap();
        let (_, example) = after.split_once("```yaml\n").unwrap();
        let example: Value = serde_saphyr::from_str(example.split("```").next().unwrap()).unwrap();
        compare(name, values, &example);
    }
}

/// The example has each value, with these exceptions: what is null is the same as nothing, and `tenancy` shows how.
fn compare(path: &str, value: &Value, example: &Value) {
    let Value::Object(fields) = value else { return assert_eq!(value, example, "{path}") };
    assert!(example.is_object(), "{path} is missing");
    for (key, value) in fields.iter().filter(|(key, value)| !value.is_null() && *key != "tenancy") {
        compare(&format!("{path}.{key}"), value, &example[key]);
    }
}
