//! The generated CustomResourceDefinitions: complete documentation, bounds, and the committed files.

use std::path::Path;

use hookwright_crds::{EventSchema, Producer, Subscription, yaml};
use serde_json::{Map, Value, json};

/// Calls `visit` with the path and schema of each property.
fn properties(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    if let Some(map) = schema["properties"].as_object() {
        for (name, property) in map {
            let path = format!("{path}.{name}");
            visit(&path, property);
            properties(property, &path, visit);
        }
    }
    if schema["items"].is_object() {
        properties(&schema["items"], &format!("{path}[]"), visit);
    }
}

fn schemas() -> impl Iterator<Item = (String, Value)> {
    yaml::definitions().expect("definitions").into_iter().map(|crd| {
        let crd = serde_json::to_value(crd).expect("JSON");
        let kind = crd["spec"]["names"]["kind"].as_str().expect("a kind").to_owned();
        (kind, crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
    })
}

#[test]
fn every_property_has_a_description_of_its_own() {
    for (kind, schema) in schemas() {
        assert!(!schema["description"].as_str().unwrap().contains("Auto-generated"));
        properties(&schema, &kind, &mut |path, property| {
            let text = property["description"].as_str().unwrap_or_default();
            assert!(text.ends_with('.'), "{path}: {text:?} is no description");
            assert!(!text.starts_with("Time is a wrapper"), "{path}: {text:?} is the type's, not the field's");
        });
    }
}

#[test]
fn descriptions_list_the_values_of_enums() {
    for (kind, schema) in schemas() {
        properties(&schema, &kind, &mut |path, property| {
            for value in property["enum"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let text = property["description"].as_str().unwrap();
                assert!(text.contains(value), "{path} does not mention {value}");
            }
        });
    }
}

#[test]
fn everything_in_a_spec_is_bounded_and_nothing_has_a_default() {
    for (kind, schema) in schemas() {
        properties(&schema["properties"]["spec"], &kind, &mut |path, property| {
            assert!(property.get("default").is_none(), "{path} has a default");
            let bounded = |s: &Value| match s["type"].as_str() {
                Some("array") => s["maxItems"].is_u64(),
                Some("string") => s["maxLength"].is_u64() || s["enum"].is_array(),
                Some("integer") => s["minimum"].is_number() && s["maximum"].is_number(),
                Some(_) => true,
                None => s["maxLength"].is_u64(),
            };
            assert!(bounded(property), "{path} has no bound");
            assert!(property["items"].is_null() || bounded(&property["items"]), "{path}[] has no bound");
        });
    }
}

#[test]
fn the_committed_yaml_is_what_the_types_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let files = yaml::files().unwrap();
    for (name, content) in &files {
        let committed = std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        assert!(
            committed == *content,
            "crds/yaml/{name} is out of date: run cargo run -p hookwright-crds --bin hookwright-crds-yaml"
        );
    }
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), files.len(), "a file in crds/yaml belongs to no kind");
}

/// A value of each field that the schema has.
fn sample(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("object") if schema["properties"].is_object() => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            fields.map(|(name, field)| (name.clone(), sample(field))).collect::<Map<_, _>>().into()
        }
        Some("object") if schema["additionalProperties"].is_object() => {
            json!({ "key": sample(&schema["additionalProperties"]) })
        }
        Some("object") => json!({}),
        Some("array") => json!([sample(&schema["items"])]),
        Some("boolean") => json!(true),
        Some("integer") => json!(1),
        Some("string") if schema["format"] == "date-time" => json!("2026-01-02T03:04:05Z"),
        Some("string") => json!("1s"),
        _ => json!(1),
    }
}

/// Calls `visit` with the path of each object whose fields the schema names.
fn objects(schema: &Value, path: &str, visit: &mut impl FnMut(&str)) {
    if schema["properties"].is_object() {
        visit(path);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        objects(field, &format!("{path}/{name}"), visit);
    }
    if schema["items"].is_object() {
        objects(&schema["items"], &format!("{path}/0"), visit);
    }
}

/// Whether the operator can read an object with this spec.
fn is_read(kind: &str, spec: &Value) -> Result<(), serde_json::Error> {
    let object = json!({
        "apiVersion": "hookwright.dev/v1alpha1", "kind": kind, "metadata": { "name": "a" }, "spec": spec,
    });
    match kind {
        "Producer" => serde_json::from_value::<Producer>(object).map(drop),
        "EventSchema" => serde_json::from_value::<EventSchema>(object).map(drop),
        _ => serde_json::from_value::<Subscription>(object).map(drop),
    }
}

/// An operator that was rolled back must not take an object for less than its author wrote.
#[test]
fn a_spec_is_read_in_full_or_not_at_all() {
    for (kind, schema) in schemas() {
        let schema = &schema["properties"]["spec"];
        let whole = sample(schema);
        is_read(&kind, &whole).unwrap_or_else(|error| panic!("{kind} {whole}: {error}"));
        objects(schema, "", &mut |path| {
            let mut later = whole.clone();
            later.pointer_mut(path).unwrap()["later"] = json!(1);
            assert!(is_read(&kind, &later).is_err(), "{kind} spec{path} hides an unknown field");
        });
    }
}
