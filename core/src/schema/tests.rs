use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::compat_tests::soundness;
use super::*;
use crate::event::event_type::EventTypeRule;
use crate::event::{Event, Message, Reading, attribute_value, parse};

/// The number of cases in the short form of a test, or in the long one (`make test-long`).
pub(super) fn by_length(short: u32, long: u32) -> u32 {
    if std::env::var_os("HOOKWRIGHT_TEST_LONG").is_some() { long } else { short }
}

pub(super) fn version(text: &str, json_schema: Value) -> VersionedSchema {
    VersionedSchema { version: SchemaVersion::parse(text).unwrap(), uri: None, json_schema, deprecated: false }
}

pub(super) fn compiled(schema: Value) -> EventSchema {
    EventSchema::compile(&[version("1", schema)]).unwrap()
}

pub(super) fn instance(data: Value) -> Instance {
    Instance { data, version: None, uri: None }
}

fn violation(schema: Value, data: Value) -> Option<(String, String)> {
    let violation = compiled(schema).validate(&instance(data)).err()?;
    Some((violation.pointer, violation.keyword.unwrap_or_default()))
}

/// Why a single schema is refused: the pointer and the problem.
pub(super) fn refused(schema: Value) -> (String, String) {
    match check(&[version("1", schema)]) {
        Err(SchemaError::Invalid { place, problem, .. }) => (place.0, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_violation_is_named_by_pointer_and_keyword_and_never_by_value() {
    let schema = json!({
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": { "$ref": "#/$defs/id" },
            "lines": { "type": "array", "items": { "anyOf": [{ "type": "string" }, { "$ref": "#/$defs/line" }] } },
            "a/b": { "oneOf": [{ "minimum": 1 }, { "minimum": 5 }] },
        },
        "$defs": {
            "id": { "type": "string", "pattern": "^[a-z]+$" },
            "line": { "properties": { "n": { "type": "integer" } }, "required": ["n"], "type": "object" },
        },
    });
    for (data, want) in [
        (json!({ "id": "a", "lines": ["x", { "n": 1 }], "a/b": 2 }), None),
        (json!([]), Some(("", "type"))),
        (json!({}), Some(("", "required"))),
        (json!({ "id": "HUSH" }), Some(("/id", "pattern"))),
        (json!({ "id": "a", "lines": [{ "n": "HUSH" }] }), Some(("/lines/0", "anyOf"))),
        (json!({ "id": "a", "a/b": 7 }), Some(("/a~1b", "oneOf"))),
    ] {
        let want = want.map(|(pointer, keyword)| (pointer.to_owned(), keyword.to_owned()));
        assert_eq!(violation(schema.clone(), data.clone()), want, "{data}");
        if let Err(violation) = compiled(schema.clone()).validate(&instance(data)) {
            assert!(!violation.to_string().contains("HUSH"), "{violation}");
        }
    }
}

#[test]
fn draft_07_is_read_as_it_is_meant() {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": { "a": { "$ref": "#/definitions/text", "maxLength": 1 } },
        "definitions": { "text": { "type": "string" } },
    });
    assert_eq!(violation(schema.clone(), json!({ "a": "long" })), None, "what stands beside a $ref doesn't count");
    assert_eq!(violation(schema, json!({ "a": 1 })), Some(("/a".into(), "type".into())));
    let modern = json!({ "properties": { "a": { "$ref": "#/$defs/t", "maxLength": 1 } }, "$defs": { "t": true } });
    assert_eq!(violation(modern, json!({ "a": "long" })), Some(("/a".into(), "maxLength".into())));
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    let deep = (0..70).fold(json!({}), |schema, _| json!({ "not": schema }));
    let nested = (0..50).fold(json!({}), |schema, _| json!({ "not": schema }));
    for (schema, place, problem) in [
        (json!(7), "", "not a valid JSON Schema"),
        (json!({ "type": "strin" }), "/type", "not a valid JSON Schema"),
        (json!({ "properties": { "a": { "minLength": "1" } } }), "/properties/a/minLength", "not a valid JSON Schema"),
        (json!({ "$schema": "http://127.0.0.1:1/schema" }), "/$schema", "only 2020-12"),
        (json!({ "$ref": "http://127.0.0.1:1/schema" }), "/$ref", "within the document"),
        (json!({ "items": { "$ref": "file:///etc/passwd" } }), "/items/$ref", "within the document"),
        (json!({ "$defs": { "a": { "$ref": "other.json#/a" } } }), "/$defs/a/$ref", "within the document"),
        (json!({ "$ref": "#/$defs/none" }), "/$ref", "must be a JSON pointer"),
        (json!({ "properties": { "a": { "$ref": "#" } } }), "/properties/a/$ref", "lead back to itself"),
        (json!({ "items": { "$id": "x", "$ref": "#/items" } }), "/items/$ref", "must be a JSON pointer"),
        (json!({ "items": { "$id": "x", "$ref": "#" } }), "/items/$ref", "lead back to itself"),
        (json!({ "$anchor": "a", "items": { "$ref": "#a" } }), "/items/$ref", "lead back to itself"),
        (json!({ "$ref": "#a", "$defs": { "a": { "$id": "x", "$anchor": "a" } } }), "/$ref", "or an anchor"),
        (json!({ "items": { "$id": "x" }, "not": { "$id": "x" } }), "/not/$id", "the same $id"),
        (json!({ "items": { "$anchor": "x" }, "not": { "$anchor": "x" } }), "/not/$anchor", "the same anchor"),
        (json!({ "$id": format!("http://x.test/{}", "x".repeat(1024)) }), "/$id", "longer than 1024"),
        (json!({ "$ref": format!("#/{}", "x".repeat(2048)) }), "/$ref", "longer than 2048"),
        (
            json!({ "allOf": (0..501).map(|i| json!({ "$id": i.to_string() })).collect::<Vec<_>>() }),
            "/allOf/500/$id",
            "more than 500",
        ),
        (
            json!({ "items": { "$schema": "http://json-schema.org/draft-07/schema#" } }),
            "/items/$schema",
            "the same draft",
        ),
        (
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "unevaluatedItems": false }),
            "/unevaluatedItems",
            "not a keyword of draft-07",
        ),
        (json!({ "$dynamicRef": "#a" }), "/$dynamicRef", "not supported"),
        (json!({ "properties": { "a": { "pattern": "(a" } } }), "/properties/a/pattern", "linear time"),
        (json!({ "pattern": "(?=a)b" }), "/pattern", "linear time"),
        (json!({ "pattern": "(a)\\1" }), "/pattern", "linear time"),
        (json!({ "patternProperties": { "(?<!a)b": true } }), "/patternProperties", "linear time"),
        (json!({ "pattern": "((((a{1,99}){1,99}){1,99}){1,99})" }), "/pattern", "linear time"),
        (deep, "", "nested more than 64"),
        (nested, &"/not".repeat(49), "nested more than 48"),
    ] {
        let (found, said) = refused(schema.clone());
        assert!(found == place && said.contains(problem), "{schema}: {found}: {said}");
    }
}

#[test]
fn references_lead_to_names_in_the_document() {
    let schema = json!({
        "$id": "https://x.test/orders/",
        "properties": {
            "anchor": { "$ref": "#text" },
            "id": { "$ref": "line" },
            "both": { "$ref": "https://x.test/orders/line#count" },
            "pointer": { "$ref": "line#/properties/n" },
            "urn": { "$ref": "urn:x:y" },
            "enum": { "enum": [{ "$id": "line", "$anchor": "text", "$ref": "http://elsewhere.test" }] },
        },
        "$defs": {
            "text": { "$anchor": "text", "type": "string" },
            "line": {
                "$id": "line",
                "properties": { "n": { "$ref": "#count" } },
                "$defs": { "count": { "$anchor": "count", "type": "integer" } },
            },
            "urn": { "$id": "urn:x:y", "$ref": "#/$defs/a", "$defs": { "a": { "type": "null" } } },
        },
    });
    for (name, data, want) in [
        ("anchor", json!("x"), None),
        ("anchor", json!(1), Some("type")),
        ("id", json!({ "n": 1 }), None),
        ("both", json!("x"), Some("type")),
        ("pointer", json!("x"), Some("type")),
        ("urn", json!(null), None),
        ("urn", json!(1), Some("type")),
        ("enum", json!(1), Some("enum")),
    ] {
        let found = violation(schema.clone(), json!({ name: data.clone() })).map(|(_, keyword)| keyword);
        assert_eq!(found.as_deref(), want, "{name}: {data}");
    }
    let old = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": { "a": { "$ref": "#text" }, "b": { "$id": "http://y.test/", "$ref": "x.test#text" } },
        "definitions": { "text": { "$id": "#text", "type": "string" }, "x": { "$id": "x.test", "definitions": {} } },
        "dependencies": { "a": ["b"], "c": { "minProperties": 2 } },
    });
    let (_, problem) = refused(old.clone());
    assert!(problem.contains("or an anchor"), "a name beside a reference is none: {problem}");
    let mut old = old;
    old["properties"]["b"] = json!(true);
    for (data, want) in [
        (json!({ "a": "x", "b": 1 }), None),
        (json!({ "a": 1, "b": 1 }), Some("type")),
        (json!({ "a": "x" }), Some("dependencies")),
        (json!({ "c": 1 }), Some("dependencies")),
    ] {
        let found = violation(old.clone(), data.clone()).map(|(_, keyword)| keyword);
        assert_eq!(found.is_some(), want.is_some(), "{data}: {found:?}");
    }
}

#[test]
fn what_nothing_has_evaluated() {
    let schema = json!({
        "type": "object",
        "allOf": [{ "properties": { "a": { "type": "string" } } }, { "patternProperties": { "^x": true } }],
        "if": { "required": ["b"], "properties": { "b": true } },
        "then": { "properties": { "c": true } },
        "not": { "properties": { "d": { "const": 1 } }, "required": ["d"] },
        "anyOf": [{ "required": ["e"], "properties": { "e": true } }, true],
        "unevaluatedProperties": false,
    });
    let items = json!({
        "properties": { "list": { "prefixItems": [true], "contains": { "const": "x" }, "unevaluatedItems": { "type": "null" } } },
        "allOf": [{ "unevaluatedProperties": { "minimum": 5 } }],
        "unevaluatedProperties": false,
    });
    for (schema, data, want) in [
        (&schema, json!({ "a": "x", "x1": 1, "b": 1, "c": 1, "e": 1 }), None),
        (&schema, json!({ "c": 1 }), Some(("/c", "unevaluatedProperties"))),
        (&schema, json!({ "d": 2 }), Some(("/d", "unevaluatedProperties"))),
        (&schema, json!({ "d": 1 }), Some(("", "not"))),
        (&schema, json!({ "a": 1 }), Some(("/a", "type"))),
        (&schema, json!([]), Some(("", "type"))),
        (&schema, json!({ "~/": 1 }), Some(("/~0~1", "unevaluatedProperties"))),
        (&items, json!({ "list": [1, "x", null, "x"], "n": 5 }), None),
        (&items, json!({ "list": [1, 2] }), Some(("/list", "contains"))),
        (&items, json!({ "list": ["x", 2] }), Some(("/list/1", "unevaluatedItems"))),
        (&items, json!({ "n": 4 }), Some(("/n", "unevaluatedProperties"))),
    ] {
        let nested = json!({ "properties": { "in": schema } });
        let found = violation(schema.clone(), data.clone());
        let found = found.as_ref().map(|(pointer, keyword)| (pointer.as_str(), keyword.as_str()));
        assert!(found == want || want.is_some_and(|want| want.1 == "contains") && found.is_some(), "{data}: {found:?}");
        let below = violation(nested, json!({ "in": data }));
        assert_eq!(below.map(|(pointer, _)| pointer), found.map(|(pointer, _)| format!("/in{pointer}")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: by_length(200, 5000), ..ProptestConfig::default() })]

    #[test]
    fn a_schema_accepts_what_the_library_accepts(schema in soundness::schema(), values in vec(soundness::value(), 1..20)) {
        let (ours, library) = (compiled(schema.clone()), jsonschema::validator_for(&schema).unwrap());
        for value in values {
            let accepted = ours.validate(&instance(value.clone()));
            prop_assert_eq!(accepted.is_ok(), library.is_valid(&value), "{} {} {:?}", schema, value, accepted);
        }
    }
}

#[test]
fn references_that_multiply_are_refused() {
    let mut defs = serde_json::Map::new();
    for i in 0..15 {
        let next = json!({ "$ref": format!("#/$defs/d{}", i + 1) });
        defs.insert(format!("d{i}"), json!({ "allOf": [next, next] }));
    }
    defs.insert("d15".into(), json!({ "type": "string" }));
    let start = Instant::now();
    let (_, problem) = refused(json!({ "$ref": "#/$defs/d0", "$defs": defs }));
    assert!(problem.contains("more than 5000 schemas"), "{problem}");
    let large = json!({ "$defs": { "e": { "enum": ["x".repeat(100_000)] } }, "allOf": vec![json!({ "$ref": "#/$defs/e" }); 60] });
    assert!(refused(large).1.contains("4 MiB"));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_event_says_which_version_it_is_of() {
    let versions = [("1", "string"), ("1.9", "null"), ("1.10", "integer"), ("2", "boolean")];
    let mut versions: Vec<_> = versions.iter().map(|(v, kind)| version(v, json!({ "type": kind }))).collect();
    versions[0].uri = Some("urn:one".into());
    versions[1].deprecated = true;
    let schema = EventSchema::compile(&versions).unwrap();
    let fits = |version: Option<&str>, uri: Option<&str>, data: Value| {
        let instance = Instance { version: version.map(str::to_owned), uri: uri.map(str::to_owned), ..instance(data) };
        schema.validate(&instance).map(|()| schema.is_deprecated(&instance)).map_err(|violation| violation.to_string())
    };
    assert_eq!(fits(Some("1.0.0"), Some("urn:none"), json!("x")), Ok(false));
    assert_eq!(fits(Some("1.9"), None, json!(null)), Ok(true));
    assert_eq!(fits(Some("1.10"), Some("urn:one"), json!(1)), Ok(false), "ce-schemaversion comes first");
    assert_eq!(fits(None, Some("urn:one"), json!("x")), Ok(false));
    assert_eq!(fits(None, Some("urn:unknown"), json!(true)), Ok(false), "the highest");
    assert_eq!(fits(None, None, json!("x")).unwrap_err(), "the data: violates: type (schema version 2)");
    assert!(fits(Some("3"), None, json!(true)).unwrap_err().contains("lacks"));
    assert!(fits(Some("x"), None, json!(true)).unwrap_err().contains("no version"));
}

fn event(headers: &[(&str, &str)], body: &str) -> Event {
    let body = bytes::Bytes::copy_from_slice(body.as_bytes());
    let published = "2026-01-01T00:00:00Z".parse().unwrap();
    let message = Message { subject: "a.b", headers, body: &body, stream: "s", sequence: 1, published };
    parse(&message, Reading { rule: &EventTypeRule::default(), source: &attribute_value("/s"), known_type: None })
        .unwrap()
}

#[test]
fn what_is_validated_is_the_data_of_the_event() {
    let structured = [("content-type", "application/cloudevents+json")];
    let plain =
        Instance::of(&event(&[("ce-schemaversion", "1.2"), ("ce-dataschema", "urn:a%20b")], r#"{"a":1}"#)).unwrap();
    assert_eq!(plain, Instance { data: json!({ "a": 1 }), version: Some("1.2".into()), uri: Some("urn:a b".into()) });
    let body = r#"{"type":"t","schemaversion":"2","dataschema":"urn:x","data":{"b":2}}"#;
    let read = Instance::of(&event(&structured, body)).unwrap();
    assert_eq!(
        (read.data, read.version.as_deref(), read.uri.as_deref()),
        (json!({ "b": 2 }), Some("2"), Some("urn:x"))
    );
    for (data, want) in [
        (r#""data_base64":"eyJjIjozfQ==""#, json!({ "c": 3 })),
        // With a byte order mark.
        (r#""data_base64":"77u/NQ==""#, json!(5)),
        (r#""data":null,"data_base64":"NQ==""#, json!(5)),
        (r#""data":6,"data_base64":null"#, json!(6)),
        (r#""data":null"#, Value::Null),
    ] {
        let read = Instance::of(&event(&structured, &format!(r#"{{"type":"t",{data}}}"#)));
        assert_eq!(read.unwrap().data, want, "{data}");
    }
    let deep = "[".repeat(200) + &"]".repeat(200);
    for (headers, body) in [
        (&[][..], "<a/>"),
        (&[], ""),
        (&[], "{} x"),
        (&[], &deep),
        (&structured, r#"{"type":"t"}"#),
        (&structured, r#"{"type":"t","data_base64":"!"}"#),
        (&structured, r#"{"type":"t","data_base64":"PGEvPg=="}"#),
    ] {
        assert!(Instance::of(&event(headers, body)).is_err(), "{body}");
    }
    for (headers, body, what) in [
        (&[][..], "{", "the data can't be read as JSON: EOF"),
        (
            &structured,
            r#"{"type":"t","x":"\ud800","data":1}"#,
            "the event can't be read as JSON: unexpected end of hex",
        ),
        (&structured, r#"{"type":"t","data_base64":"PGEvPg=="}"#, "the data can't be read as JSON: expected value"),
        (&structured, r#"{"type":"t","data_base64":5}"#, "data_base64 is not base64"),
        (&structured, r#"{"type":"t","data_base64":null}"#, "the event has no data"),
    ] {
        let problem = Instance::of(&event(headers, body)).unwrap_err().problem;
        assert!(problem.starts_with(what), "{problem}");
    }
}

#[test]
fn versions_of_one_type() {
    let any = || json!(true);
    assert_eq!(check(&[]), Err(SchemaError::Count(0)));
    assert!(matches!(check(&[version("1.2", any()), version("1.2.0", any())]), Err(SchemaError::SameVersion(..))));
    let uri = |v: &str| VersionedSchema { uri: Some("urn:x".into()), ..version(v, any()) };
    assert!(matches!(check(&[uri("1"), uri("2")]), Err(SchemaError::SameUri(..))));
    let large = json!({ "description": "x".repeat(MAX_BYTES) });
    assert!(matches!(check(&[version("1", large)]), Err(SchemaError::TooLarge(_))));
    let (open, narrow) = (json!({}), json!({ "type": "string" }));
    assert_eq!(check(&[version("2", narrow.clone()), version("1", open.clone())]), Ok(()), "another major");
    let refused = check(&[version("1.10", narrow), version("1.9", open)]).unwrap_err().to_string();
    assert_eq!(refused, "version 1.10 is not compatible with 1.9: /type: null is not accepted any more");
}

#[test]
fn the_digest_is_of_schema_and_uri_whatever_the_order_of_names() {
    let a = version("1", serde_json::from_str(r#"{"type":"object","required":["a"]}"#).unwrap());
    let b = version("1", serde_json::from_str(r#"{"required":["a"],"type":"object"}"#).unwrap());
    assert_eq!(digest(&a), digest(&b));
    assert_eq!(digest(&a), digest(&VersionedSchema { deprecated: true, ..a.clone() }));
    assert_ne!(digest(&a), digest(&VersionedSchema { uri: Some("urn:x".into()), ..a.clone() }));
    assert_ne!(digest(&a), digest(&version("1", json!({ "type": "object" }))));
}
