//! The compatibility rule, case by case.

use serde_json::{Value, json};

use super::*;

/// The place of the violation, if `new` is refused as 1.1 after `old` as 1.0.
fn refused(old: Value, new: Value) -> Option<String> {
    let version = |text, json_schema| SchemaVersionRecord {
        version: SchemaVersion::parse(text).unwrap(),
        uri: None,
        json_schema,
        deprecated: false,
    };
    match check(&[version("1.0", old), version("1.1", new)]) {
        Ok(()) => None,
        Err(SchemaError::Incompatible { place, .. }) => Some(place.0),
        Err(other) => panic!("{other}"),
    }
}

fn object(properties: Value, more: Value) -> Value {
    let mut schema = json!({ "type": "object", "properties": properties });
    schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    schema
}

#[test]
fn what_is_compatible() {
    let base = || object(json!({ "a": { "type": "integer", "minimum": 5 } }), json!({ "required": ["a"] }));
    for (old, new) in [
        (
            base(),
            object(
                json!({ "a": { "type": "integer", "minimum": 5 }, "b": { "type": "string" } }),
                json!({ "required": ["a"] }),
            ),
        ),
        (base(), object(json!({ "a": { "type": "number", "minimum": 1 } }), json!({}))),
        (base(), object(json!({ "a": { "type": ["integer", "null"], "exclusiveMinimum": 4 } }), json!({}))),
        (base(), json!({ "title": "now with words", "x-unknown": 1 })),
        (
            object(json!({}), json!({ "additionalProperties": false })),
            object(json!({ "b": { "const": 1 } }), json!({ "additionalProperties": false })),
        ),
        (
            object(json!({}), json!({ "additionalProperties": { "enum": [1] } })),
            object(json!({ "b": { "enum": [1, 2] } }), json!({ "additionalProperties": { "enum": [1, 2] } })),
        ),
        (json!({ "enum": ["a"] }), json!({ "enum": ["a", "b"] })),
        (json!({ "const": "a" }), json!({ "type": "string", "enum": ["a", "b"] })),
        (
            json!({ "type": "array", "items": { "maxLength": 3 }, "maxItems": 2 }),
            json!({ "type": "array", "items": { "maxLength": 4 }, "maxItems": 3 }),
        ),
        (json!({ "multipleOf": 6 }), json!({ "multipleOf": 3 })),
        (json!({ "anyOf": [{ "type": "string" }] }), json!({ "anyOf": [{ "type": "null" }, { "type": "string" }] })),
        (
            json!({ "allOf": [{ "type": "object", "properties": { "a": true } }] }),
            json!({ "allOf": [{ "type": "object", "properties": { "a": true, "b": { "type": "null" } } }] }),
        ),
        (json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "string" } } }), json!({ "type": "string" })),
        (
            json!({ "oneOf": [{ "minimum": 1 }], "not": { "const": 3 } }),
            json!({ "oneOf": [{ "minimum": 1 }], "not": { "const": 3 } }),
        ),
        (json!({ "type": "string" }), json!({ "type": "string", "minimum": 3, "required": ["x"] })),
        (json!(false), json!({ "type": "string" })),
        (json!({ "type": "string" }), json!(true)),
    ] {
        assert_eq!(refused(old.clone(), new.clone()), None, "{old} -> {new}");
    }
}

#[test]
fn what_is_not_compatible_and_where() {
    let base = || object(json!({ "a": { "type": "integer" } }), json!({}));
    for (old, new, place) in [
        (base(), object(json!({ "a": { "type": "integer" } }), json!({ "required": ["a"] })), "/required"),
        (base(), object(json!({ "a": { "type": "string" } }), json!({})), "/properties/a/type"),
        (
            base(),
            object(json!({ "a": { "type": "integer" } }), json!({ "additionalProperties": false })),
            "/additionalProperties",
        ),
        (
            object(json!({ "a": true }), json!({ "additionalProperties": false })),
            object(json!({}), json!({ "additionalProperties": false })),
            "/additionalProperties",
        ),
        (
            object(json!({}), json!({ "additionalProperties": { "type": "integer" } })),
            object(json!({ "b": { "type": "string" } }), json!({})),
            "/properties/b/type",
        ),
        (
            object(json!({}), json!({ "patternProperties": { "^b": { "type": "integer" } } })),
            object(json!({ "b": { "type": "string" } }), json!({})),
            "/properties/b",
        ),
        (
            base(),
            object(json!({}), json!({ "patternProperties": { "^a": { "type": "string" } } })),
            "/patternProperties/^a",
        ),
        (json!({ "enum": ["a", "b"] }), json!({ "enum": ["a"] }), "/enum"),
        (json!({ "type": "string" }), json!({ "enum": ["a"] }), "/enum"),
        (json!({ "type": "number" }), json!({ "type": "integer" }), "/type"),
        (json!({ "minimum": 1 }), json!({ "minimum": 2 }), "/minimum"),
        (json!({ "minimum": 1 }), json!({ "exclusiveMinimum": 1 }), "/exclusiveMinimum"),
        (json!({ "maximum": 9 }), json!({ "exclusiveMaximum": 9 }), "/exclusiveMaximum"),
        (json!({}), json!({ "maxLength": 9 }), "/maxLength"),
        (json!({ "minItems": 1 }), json!({ "minItems": 2 }), "/minItems"),
        (json!({ "multipleOf": 3 }), json!({ "multipleOf": 6 }), "/multipleOf"),
        (json!({ "pattern": "a" }), json!({ "pattern": "a|b" }), "/pattern"),
        (json!({}), json!({ "uniqueItems": true }), "/uniqueItems"),
        (json!({ "type": "array" }), json!({ "type": "array", "items": { "type": "null" } }), "/items/type"),
        (json!({ "prefixItems": [true] }), json!({ "prefixItems": [false] }), "/prefixItems"),
        (
            json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
            json!({ "anyOf": [{ "type": "string" }] }),
            "/anyOf",
        ),
        (json!({}), json!({ "allOf": [{ "type": "string" }] }), "/allOf/0/type"),
        (json!({}), json!({ "not": { "type": "string" } }), "/not"),
        (json!({ "oneOf": [true] }), json!({ "oneOf": [true, true] }), "/oneOf"),
        (json!({}), json!({ "if": { "type": "string" }, "then": { "maxLength": 1 } }), "/if"),
        (json!({}), json!({ "contains": { "type": "string" } }), "/contains"),
        (json!({}), json!({ "dependentRequired": { "a": ["b"] } }), "/dependentRequired"),
        (json!({}), json!({ "dependentSchemas": { "a": { "required": ["b"] } } }), "/dependentSchemas"),
        (json!({}), json!({ "propertyNames": { "maxLength": 1 } }), "/propertyNames/maxLength"),
        (json!({}), json!({ "$schema": "http://json-schema.org/draft-07/schema#" }), "/$schema"),
        (
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "string" } } }),
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "null" } } }),
            "/$defs/a/type",
        ),
        (json!({}), json!(false), ""),
    ] {
        assert_eq!(refused(old.clone(), new.clone()).as_deref(), Some(place), "{old} -> {new}");
    }
}

#[test]
fn every_older_minor_counts_not_only_the_one_before() {
    let version = |text, json_schema| SchemaVersionRecord {
        version: SchemaVersion::parse(text).unwrap(),
        uri: None,
        json_schema,
        deprecated: false,
    };
    let open = || object(json!({}), json!({}));
    let with = |kind: &str| object(json!({ "a": { "type": kind } }), json!({}));
    let versions = [version("1.0", with("string")), version("1.1", open()), version("1.2", with("integer"))];
    let refused = check(&versions).unwrap_err().to_string();
    assert!(refused.starts_with("version 1.2 is not compatible with 1.0: /properties/a/type"), "{refused}");
}

mod soundness {
    use proptest::prelude::*;

    use super::super::{compat, compiled, tree};
    use super::*;

    fn schema() -> impl Strategy<Value = Value> {
        let kinds = prop::sample::select(vec!["integer", "number", "string", "null", "object", "array"]);
        let leaf = prop_oneof![
            Just(json!({})),
            kinds.prop_map(|kind| json!({ "type": kind })),
            (0..4, 0..4).prop_map(|(a, b)| json!({ "enum": [a, b, "x"] })),
            (0..4).prop_map(|n| json!({ "minimum": n })),
            (0..4).prop_map(|n| json!({ "exclusiveMaximum": n })),
            (0..3).prop_map(|n| json!({ "maxLength": n, "minItems": n })),
            (1..4).prop_map(|n| json!({ "multipleOf": n })),
        ];
        leaf.prop_recursive(3, 24, 3, |inner| {
            let closed = |a: Value, more: Value| json!({ "properties": { "a": a }, "additionalProperties": more });
            prop_oneof![
                (inner.clone(), any::<bool>()).prop_map(move |(a, more)| closed(a, json!(more))),
                (inner.clone(), inner.clone()).prop_map(move |(a, more)| closed(a, more)),
                inner.clone().prop_map(|items| json!({ "items": items, "type": "array" })),
                (inner.clone(), any::<bool>()).prop_map(|(a, required)| {
                    let names = if required { vec!["a"] } else { vec![] };
                    json!({ "patternProperties": { "^a": a }, "required": names })
                }),
                prop::collection::vec(inner.clone(), 1..3).prop_map(|parts| json!({ "anyOf": parts })),
                prop::collection::vec(inner.clone(), 1..3).prop_map(|parts| json!({ "allOf": parts })),
                inner.clone().prop_map(|part| json!({ "not": part })),
            ]
        })
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            (0..5).prop_map(|n| json!(n)),
            (0..5).prop_map(|n| json!(f64::from(n) + 0.5)),
            prop::sample::select(vec!["", "x", "xyz"]).prop_map(|text| json!(text)),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[ab]", inner, 0..3).prop_map(|map| json!(map)),
            ]
        })
    }

    /// The concession: a name of which the older schema says nothing is no promise.
    fn says_nothing_of_a_name(schema: &Value) -> bool {
        match schema {
            Value::Object(map) => !map.contains_key("additionalProperties") || map.values().any(says_nothing_of_a_name),
            Value::Array(list) => list.iter().any(says_nothing_of_a_name),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_shown_compatible_is(old in schema(), change in schema(), values in prop::collection::vec(value(), 16), mix in any::<bool>()) {
            let new = if mix { json!({ "anyOf": [change, old.clone()] }) } else { change };
            let draft = jsonschema::Draft::Draft202012;
            let trees = (tree::read(&new, draft).unwrap(), tree::read(&old, draft).unwrap());
            if compat::accepts(&trees.0, &trees.1).is_ok() {
                let (_, before) = compiled::compile(&old).unwrap();
                let (_, now) = compiled::compile(&new).unwrap();
                for value in values {
                    let concession = value.to_string().contains('{') && says_nothing_of_a_name(&old);
                    prop_assert!(!before.is_valid(&value) || now.is_valid(&value) || concession, "{old} -> {new}: {value}");
                }
            }
        }
    }
}
