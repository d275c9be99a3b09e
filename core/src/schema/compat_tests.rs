//! The compatibility rule, case by case.

use serde_json::{Value, json};

use super::*;

/// The place of the violation, if `new` is refused as version 1.1 after `old` as 1.0.
fn refused(old: Value, new: Value) -> Option<String> {
    let version = |text, json_schema| VersionedSchema {
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
        (json!({ "enum": [1] }), json!({ "enum": [1.0, 2] })),
        (json!({ "const": 1 }), json!({ "const": 1, "enum": [1, 2] })),
        (
            json!({ "maximum": 9_007_199_254_740_993_i64 }),
            json!({ "maximum": 9_007_199_254_740_993_i64, "title": "x" }),
        ),
        (
            object(json!({}), json!({ "additionalProperties": false })),
            object(json!({ "b": { "type": "string" } }), json!({ "additionalProperties": true })),
        ),
        (json!({ "format": "email" }), json!({ "format": "uuid" })),
        (
            object(json!({}), json!({ "unevaluatedProperties": false })),
            object(json!({ "b": { "const": 1 } }), json!({ "unevaluatedProperties": false })),
        ),
        (
            json!({ "allOf": [object(json!({ "a": true }), json!({}))], "unevaluatedProperties": false, "title": "x" }),
            json!({ "allOf": [object(json!({ "a": true }), json!({}))], "unevaluatedProperties": false }),
        ),
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
        (json!({ "const": 1 }), json!({ "const": 2 }), "/const"),
        (json!({ "const": 1 }), json!({ "const": 1, "enum": [2, 3] }), "/enum"),
        (json!({ "const": 1, "enum": [1, 2] }), json!({ "const": 2, "enum": [1, 2] }), "/const"),
        (json!({ "enum": [1, 2] }), json!({ "const": 1 }), "/const"),
        (json!({ "minimum": 1 }), json!({ "minimum": 9_007_199_254_740_993_i64 }), "/minimum"),
        (
            json!({ "maximum": 9_007_199_254_740_993_i64 }),
            json!({ "maximum": 9_007_199_254_740_992_i64 - 1 }),
            "/maximum",
        ),
        (json!({ "maximum": 9_007_199_254_740_994_i64 }), json!({ "maximum": 9_007_199_254_740_995_i64 }), "/maximum"),
        (
            object(json!({}), json!({ "additionalProperties": true })),
            object(json!({}), json!({ "additionalProperties": false })),
            "/additionalProperties",
        ),
        (
            object(json!({}), json!({ "additionalProperties": { "type": "number" } })),
            object(json!({}), json!({ "additionalProperties": { "type": "integer" } })),
            "/additionalProperties/type",
        ),
        (
            object(json!({ "a": { "items": { "enum": [1, 2] } } }), json!({})),
            object(json!({ "a": { "items": { "enum": [1] } } }), json!({})),
            "/properties/a/items/enum",
        ),
        (
            json!({ "$ref": "#/definitions/a", "definitions": { "a": { "required": [] } } }),
            json!({ "$ref": "#/definitions/a", "definitions": { "a": { "required": ["b"] } } }),
            "/definitions/a/required",
        ),
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

/// Tests a new property whose name the older schema restricts by other keywords than `properties`.
#[test]
fn what_hides_behind_other_keywords() {
    let typed = |kind: &str| json!({ "properties": { "b": { "type": kind } } });
    let with_b = |older: &Value| {
        let mut new = older.clone();
        new.as_object_mut().unwrap().insert("properties".into(), json!({ "b": { "type": "string" } }));
        new
    };
    for older in [
        json!({ "allOf": [typed("integer")] }),
        json!({ "allOf": [{ "allOf": [typed("integer")] }] }),
        json!({ "anyOf": [typed("integer"), true] }),
        json!({ "oneOf": [typed("integer")] }),
        json!({ "if": { "required": ["b"] }, "then": typed("integer") }),
        json!({ "if": { "required": ["x"] }, "else": typed("integer") }),
        json!({ "not": typed("string") }),
        json!({ "dependentSchemas": { "a": typed("integer") } }),
        json!({ "allOf": [{ "patternProperties": { "^b": { "type": "integer" } } }] }),
        json!({ "allOf": [{ "additionalProperties": { "type": "integer" } }] }),
        json!({ "$ref": "#/$defs/x", "maxProperties": 9, "$defs": { "x": typed("integer") } }),
        json!({ "required": ["b"] }),
        json!({ "allOf": [{ "required": ["b"] }] }),
        json!({ "dependentRequired": { "a": ["b"] } }),
    ] {
        assert_eq!(refused(older.clone(), with_b(&older)).as_deref(), Some("/properties/b"), "{older}");
        let mut elsewhere = older.clone();
        elsewhere["properties"] = json!({ "c": { "type": "string" } });
        let speaks_of_all = older.to_string().contains("patternProperties") || older.to_string().contains("additional");
        assert_eq!(refused(older.clone(), elsewhere).is_some(), speaks_of_all, "{older}");
    }
    // One level deeper: other schemas restrict the object in which the name is new.
    let inner = |properties: Value| json!({ "properties": { "a": { "properties": properties } } });
    for (older, newer, place) in [
        (
            json!({ "allOf": [inner(json!({ "x": { "type": "integer" } }))], "properties": { "a": { "type": "object" } } }),
            json!({ "allOf": [inner(json!({ "x": { "type": "integer" } }))],
                "properties": { "a": { "type": "object", "properties": { "x": { "type": "string" } } } } }),
            Some("/properties/a/properties/x"),
        ),
        (
            json!({ "allOf": [inner(json!({})), { "properties": { "z": { "type": "null" } } }] }),
            json!({ "allOf": [inner(json!({ "x": { "type": "integer" } })), { "properties": { "z": { "type": "null" } } }] }),
            None,
        ),
        (
            json!({ "allOf": [{ "items": { "properties": { "x": { "type": "integer" } } } }], "items": { "type": "object" } }),
            json!({ "allOf": [{ "items": { "properties": { "x": { "type": "integer" } } } }],
                "items": { "type": "object", "properties": { "x": { "type": "string" } } } }),
            Some("/items/properties/x"),
        ),
        (
            json!({ "items": { "type": "object" } }),
            json!({ "items": { "type": "object", "properties": { "x": { "type": "string" } } } }),
            None,
        ),
    ] {
        assert_eq!(refused(older.clone(), newer.clone()).as_deref(), place, "{older} -> {newer}");
    }
}

#[test]
fn comparing_takes_bounded_time() {
    let start = std::time::Instant::now();
    // Many values are compared with many, names with names, and parts with parts, nested in each other.
    let values = |n: usize| (0..18_000).map(|i| i + n).collect::<Vec<_>>();
    let names = |n: usize| (0..14_000).map(|i| format!("n{}", i + n)).collect::<Vec<_>>();
    assert_eq!(refused(json!({ "enum": values(1) }), json!({ "enum": values(0) })).as_deref(), Some("/enum"));
    assert_eq!(refused(json!({ "required": names(0) }), json!({ "required": names(1) })).as_deref(), Some("/required"));
    let parts = |depth: usize, leaf: Value| {
        (0..depth).fold(leaf, |inner, _| json!({ "anyOf": [inner, inner, inner], "maxLength": 3 }))
    };
    let (older, newer) = (parts(6, json!({ "minLength": 1 })), parts(6, json!({ "minLength": 2 })));
    assert!(refused(older, newer).is_some());
    let large = |kind: &str| json!({ "oneOf": [{ "enum": names(0) }, { "type": kind }] });
    let nested = |kind: &str| (0..20).fold(large(kind), |inner, _| json!({ "allOf": [inner] }));
    assert!(refused(nested("string"), nested("null")).is_some());
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn every_older_minor_counts_not_only_the_one_before() {
    let version = |text, json_schema| VersionedSchema {
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

pub(super) mod soundness {
    use proptest::prelude::*;

    use super::super::compat::Comparison;
    use super::super::compiled::{self, SchemaBudget};
    use super::super::tests::by_length;
    use super::super::unevaluated::Cause;
    use super::*;

    pub(in super::super) fn schema() -> impl Strategy<Value = Value> {
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
                (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({ "properties": { "a": a, "b": b } })),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({ "properties": { "b": a }, "allOf": [b] })),
                (inner.clone(), 0..3).prop_map(|(a, n)| json!({ "const": n, "allOf": [a] })),
                inner.clone().prop_map(|a| json!({ "dependentRequired": { "a": ["b"] }, "propertyNames": a })),
                inner.clone().prop_map(|a| json!({ "contains": a, "uniqueItems": true })),
                inner.clone().prop_map(|items| json!({ "items": items, "type": "array" })),
                (inner.clone(), any::<bool>()).prop_map(|(a, required)| {
                    let names = if required { vec!["a"] } else { vec![] };
                    json!({ "patternProperties": { "^a": a }, "required": names })
                }),
                prop::collection::vec(inner.clone(), 1..3).prop_map(|parts| json!({ "anyOf": parts })),
                prop::collection::vec(inner.clone(), 1..3).prop_map(|parts| json!({ "allOf": parts })),
                inner.clone().prop_map(|part| json!({ "not": part })),
                (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, part, rest)| {
                    json!({ "properties": { "a": a }, "allOf": [part], "unevaluatedProperties": rest })
                }),
                (inner.clone(), any::<bool>())
                    .prop_map(|(a, rest)| { json!({ "properties": { "a": a }, "unevaluatedProperties": rest }) }),
                (inner.clone(), inner.clone()).prop_map(|(part, rest)| {
                    json!({ "anyOf": [{ "prefixItems": [part] }, { "contains": part }], "unevaluatedItems": rest })
                }),
            ]
        })
    }

    pub(in super::super) fn value() -> impl Strategy<Value = Value> {
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

    /// The exception to the rule: whether a schema doesn't restrict the value at a place in an object. Parts that apply
    /// to the same value count as the schema.
    fn is_silent(schemas: &[Value], path: &[String]) -> bool {
        let Some((name, rest)) = path.split_first() else { return false };
        let is_object = name.parse::<usize>().is_err();
        let (mut all, mut next) = (schemas.to_vec(), Vec::new());
        while let Some(schema) = all.pop() {
            for part in ["allOf", "anyOf"] {
                all.extend(schema[part].as_array().into_iter().flatten().cloned());
            }
            all.extend(schema.get("not").cloned());
            if !is_object {
                next.extend(schema.get("items").cloned());
                continue;
            }
            let own = schema["properties"].get(name).cloned();
            let by_pattern = schema["patternProperties"].as_object().filter(|_| name.starts_with('a'));
            let rest = schema.get("additionalProperties").or(schema.get("unevaluatedProperties"));
            let additional = rest.filter(|more| !is_open(more));
            if own.is_none() && by_pattern.is_none() {
                next.extend(additional.cloned());
            }
            next.extend(own.into_iter().chain(by_pattern.into_iter().flat_map(|map| map.values().cloned())));
        }
        if next.is_empty() { is_object || is_silent(&[json!({})], rest) } else { is_silent(&next, rest) }
    }

    fn is_open(schema: &Value) -> bool {
        *schema == json!(true) || *schema == json!({})
    }

    fn path(pointer: &str) -> Vec<String> {
        pointer.split('/').skip(1).map(str::to_owned).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: by_length(500, 4000), max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_shown_compatible_is(old in schema(), change in schema(), values in prop::collection::vec(value(), 16), mix in 0..3) {
            let new = match mix {
                0 => change,
                1 => json!({ "anyOf": [change, old.clone()] }),
                _ => {
                    let mut new = old.clone();
                    new["properties"]["b"] = change;
                    new
                }
            };
            let mut budget = SchemaBudget::default();
            let (now, before) = (compiled::read(&new, &mut budget).unwrap(), compiled::read(&old, &mut budget).unwrap());
            if Comparison::default().schemas(&now, &before).is_ok() {
                let (now, before) = (now.compile(&mut budget).unwrap().1, before.compile(&mut budget).unwrap().1);
                for value in values.iter().filter(|value| before.is_valid(value)) {
                    if let Err(error) = now.validate(value) {
                        // Within anyOf and not, the error doesn't name the place where the schemas disagree.
                        let cause = Cause::of(&error);
                        let unnamed = ["anyOf", "not"].contains(&cause.keyword.as_str()) && value.to_string().contains('{');
                        let silent = is_silent(std::slice::from_ref(&old), &path(&cause.pointer));
                        prop_assert!(unnamed || silent, "{old} -> {new}: {value}: {cause}");
                    }
                }
            }
        }
    }
}
