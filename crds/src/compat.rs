//! The comparison of two CustomResourceDefinitions: whether the newer one admits everything that the older one
//! admitted. A CRD never tightens between releases, because stored objects would become invalid at their next edit.
//!
//! A change that can't be shown to loosen the definition counts as a tightening: a pattern that differs, a new rule, or
//! an unknown keyword that is new or differs.

use serde_json::{Map, Value};

/// Keywords whose smaller numbers admit less.
const UPPER: [&str; 4] = ["maxLength", "maxItems", "maxProperties", "maximum"];
/// Keywords whose larger numbers admit less.
const LOWER: [&str; 4] = ["minLength", "minItems", "minProperties", "minimum"];
/// Keywords that admit more if they are set.
const OPENING: [&str; 3] = ["nullable", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"];
/// Keywords whose values must not change.
const FIXED: [&str; 4] = ["type", "format", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"];
/// Keywords that are each compared in their own way.
const OTHERS: [&str; 7] =
    ["pattern", "enum", "required", "x-kubernetes-validations", "properties", "items", "additionalProperties"];
/// Keywords that refuse nothing.
const FREE: [&str; 5] = ["title", "description", "example", "externalDocs", "default"];

/// The tightenings from `old` to `new`, which are both CustomResourceDefinitions: everything that `old` admitted and
/// `new` may refuse. Each entry names the version, the path of the field and the change.
#[must_use]
pub fn tightenings(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let (before, after) = (&old["spec"]["scope"], &new["spec"]["scope"]);
    if before != after {
        found.push(format!("scope was {before}, is {after}"));
    }
    for version in list(&old["spec"]["versions"]) {
        let name = version["name"].as_str().unwrap_or_default();
        let same = list(&new["spec"]["versions"]).iter().find(|other| other["name"] == version["name"]);
        match same {
            None => found.push(format!("{name}: the version is gone")),
            Some(other) => {
                if version["served"] == true && other["served"] != true {
                    found.push(format!("{name}: the version is no longer served"));
                }
                let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
                compare(name, &schema(version), &schema(other), &mut found);
            }
        }
    }
    found
}

/// The fields and the values of enums that `ours` has and `live` lacks; both are CustomResourceDefinitions. The API server
/// drops or refuses them if `live` is what it has.
#[must_use]
pub fn lacking(ours: &Value, live: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for version in list(&ours["spec"]["versions"]) {
        let same = list(&live["spec"]["versions"]).iter().find(|other| other["name"] == version["name"]);
        let name = version["name"].as_str().unwrap_or_default();
        match same.filter(|other| other["served"] == true) {
            Some(other) => {
                let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
                lacks("", &schema(version), &schema(other), &mut found);
            }
            None => found.push(format!("the version {name}")),
        }
    }
    found
}

fn lacks(path: &str, ours: &Value, live: &Value, found: &mut Vec<String>) {
    if live["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    for (name, schema) in ours["properties"].as_object().into_iter().flatten() {
        let field = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match live["properties"].get(name) {
            Some(other) => lacks(&field, schema, other, found),
            None => found.push(field),
        }
    }
    for value in
        list(&ours["enum"]).iter().filter(|value| !live["enum"].is_null() && !list(&live["enum"]).contains(value))
    {
        found.push(format!("{path}: {value}"));
    }
    for (keyword, label) in [("items", "[]"), ("additionalProperties", "{}")] {
        if !ours[keyword].is_null() {
            lacks(&format!("{path}{label}"), &ours[keyword], &live[keyword], found);
        }
    }
}

fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let mut tighter = |what: String| found.push(format!("{path}: {what}"));
    for keyword in FIXED {
        if old[keyword] != new[keyword] {
            tighter(format!("{keyword} was {}, is {}", old[keyword], new[keyword]));
        }
    }
    let known =
        |keyword: &&String| [&FIXED[..], &OPENING, &UPPER, &LOWER, &OTHERS, &FREE].concat().contains(&keyword.as_str());
    for keyword in new.as_object().into_iter().flat_map(Map::keys).filter(|keyword| !known(keyword)) {
        if old[keyword] != new[keyword] {
            tighter(format!("{keyword}, of which nothing is known, was {}, is {}", old[keyword], new[keyword]));
        }
    }
    for keyword in OPENING {
        if old[keyword] == true && new[keyword] != true {
            tighter(format!("{keyword} is no longer set"));
        }
    }
    for (keyword, upper) in UPPER.map(|k| (k, true)).into_iter().chain(LOWER.map(|k| (k, false))) {
        if is_tighter(old[keyword].as_f64(), new[keyword].as_f64(), upper) {
            tighter(format!("{keyword} was {}, is {}", old[keyword], new[keyword]));
        }
    }
    if !new["pattern"].is_null() && old["pattern"] != new["pattern"] {
        tighter(format!("pattern was {}, is {}", old["pattern"], new["pattern"]));
    }
    if !new["enum"].is_null() {
        let missing = |value: &&Value| !list(&new["enum"]).contains(value);
        match &old["enum"] {
            Value::Null => tighter("enum is new".to_owned()),
            values => list(values).iter().filter(missing).for_each(|value| tighter(format!("{value} is gone"))),
        }
    }
    for name in list(&new["required"]).iter().filter(|name| !list(&old["required"]).contains(name)) {
        tighter(format!("{name} is required now"));
    }
    let rules = |schema: &Value| -> Vec<Value> {
        list(&schema["x-kubernetes-validations"]).iter().map(|rule| rule["rule"].clone()).collect()
    };
    let known = rules(old);
    for rule in rules(new).into_iter().filter(|rule| !known.contains(rule)) {
        tighter(format!("the rule {rule} is new"));
    }
    descend(path, old, new, found);
}

fn descend(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let (before, after) = (&old["properties"], &new["properties"]);
    for (name, schema) in before.as_object().into_iter().flatten() {
        match after.get(name) {
            Some(other) => compare(&format!("{path}.{name}"), schema, other, found),
            None if new["x-kubernetes-preserve-unknown-fields"] == true => {}
            None => found.push(format!("{path}.{name}: the field is gone")),
        }
    }
    // If unknown fields are preserved, any value of a field without a schema was admitted.
    let anything = old["x-kubernetes-preserve-unknown-fields"] == true;
    for name in after.as_object().into_iter().flat_map(Map::keys).filter(|name| anything && before[name].is_null()) {
        found.push(format!("{path}.{name}: the field is described now"));
    }
    for (keyword, label) in [("items", "[]"), ("additionalProperties", "{}")] {
        match (&old[keyword], &new[keyword]) {
            (Value::Null, Value::Null) => {}
            (Value::Null, _) if anything => found.push(format!("{path}{label}: {keyword} is new")),
            (Value::Null, _) => {}
            (_, Value::Null) => found.push(format!("{path}{label}: {keyword} is gone")),
            (schema, other) => compare(&format!("{path}{label}"), schema, other, found),
        }
    }
}

/// Whether a bound is new or admits less.
fn is_tighter(old: Option<f64>, new: Option<f64>, upper: bool) -> bool {
    match (old, new) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(old), Some(new)) if upper => new < old,
        (Some(old), Some(new)) => new > old,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn crd(schema: Value) -> Value {
        json!({ "spec": { "versions": [{ "name": "v1", "served": true, "schema": { "openAPIV3Schema": schema } }] } })
    }

    #[test]
    fn tells_a_tightening_from_a_loosening() {
        let field = |schema: Value| crd(json!({ "type": "object", "properties": { "a": schema } }));
        let base = json!({ "type": "string", "maxLength": 9, "enum": ["x", "y"] });
        for (change, tighter) in [
            (json!({}), false),
            (json!({ "maxLength": 10 }), false),
            (json!({ "maxLength": 8 }), true),
            (json!({ "minLength": 1 }), true),
            (json!({ "enum": ["x", "y", "z"] }), false),
            (json!({ "enum": ["x"] }), true),
            (json!({ "type": "integer" }), true),
            (json!({ "pattern": "^a" }), true),
            (json!({ "x-kubernetes-validations": [{ "rule": "self != 'x'" }] }), true),
            (json!({ "nullable": true }), false),
            (json!({ "description": "another" }), false),
            (json!({ "multipleOf": 2 }), true),
            (json!({ "not": { "const": "x" } }), true),
            (json!({ "x-kubernetes-validations": [{ "rule": "self != 'y'" }], "uniqueItems": true }), true),
        ] {
            let mut new = base.clone();
            new.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let found = tightenings(&field(base.clone()), &field(new));
            assert_eq!(!found.is_empty(), tighter, "{change}: {found:?}");
        }
    }

    #[test]
    fn fields_may_come_but_not_go_or_become_required() {
        let schema = |fields: &[&str], required: &[&str]| {
            let properties: Map<String, Value> =
                fields.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect();
            crd(json!({ "type": "object", "properties": properties, "required": required }))
        };
        assert!(tightenings(&schema(&["a"], &[]), &schema(&["a", "b"], &[])).is_empty());
        assert!(tightenings(&schema(&["a"], &["a"]), &schema(&["a"], &[])).is_empty());
        assert_eq!(tightenings(&schema(&["a", "b"], &[]), &schema(&["a"], &[])), ["v1.b: the field is gone"]);
        assert_eq!(tightenings(&schema(&["a"], &[]), &schema(&["a"], &["a"])), ["v1: \"a\" is required now"]);
        assert_eq!(tightenings(&schema(&["a"], &[]), &json!({})), ["v1: the version is gone"]);
    }

    #[test]
    fn what_anything_may_stand_in_is_not_described_later_and_the_scope_stays() {
        let free = |more: Value| {
            let mut schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
            schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            crd(schema)
        };
        let field = json!({ "type": "string" });
        let described = free(json!({ "properties": { "a": field } }));
        assert_eq!(tightenings(&free(json!({})), &described), ["v1.a: the field is described now"]);
        let each = free(json!({ "additionalProperties": field }));
        assert_eq!(tightenings(&free(json!({})), &each), ["v1{}: additionalProperties is new"]);
        assert!(tightenings(&described, &free(json!({}))).is_empty());
        let scoped = |scope: &str| json!({ "spec": { "scope": scope, "versions": [] } });
        let found = tightenings(&scoped("Namespaced"), &scoped("Cluster"));
        assert_eq!(found, [r#"scope was "Namespaced", is "Cluster""#]);
    }

    #[test]
    fn what_an_older_definition_lacks() {
        let version = |schema: Value| {
            json!({
                "name": "v1", "served": true, "schema": { "openAPIV3Schema": { "properties": { "spec": schema } } }
            })
        };
        let crd = |schema: Value| json!({ "spec": { "versions": [version(schema)] } });
        let new = crd(json!({ "properties": {
            "a": { "type": "string", "enum": ["X", "Y"] },
            "list": { "items": { "properties": { "b": {}, "c": { "properties": { "d": {} } } } } },
            "free": { "properties": { "e": {} } },
        } }));
        let old = crd(json!({ "properties": {
            "a": { "type": "string", "enum": ["X"], "maxLength": 1 },
            "list": { "items": { "properties": { "b": {} } } },
            "free": { "x-kubernetes-preserve-unknown-fields": true },
            "gone": {},
        } }));
        assert_eq!(lacking(&new, &old), ["spec.a: \"Y\"", "spec.list[].c"]);
        assert_eq!(lacking(&old, &new), ["spec.gone"]);
        assert!(lacking(&new, &new).is_empty());
        assert_eq!(lacking(&new, &json!({ "spec": { "versions": [] } })), ["the version v1"]);
    }
}
