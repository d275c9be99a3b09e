//! The cost of hostile schemas and hostile events, in time and in memory.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::compat_tests::soundness;
use super::tests::{by_length, compiled, instance, refused, version};
use super::*;

/// About the size of the largest event, in bytes.
const EVENT: usize = 1_000_000;

/// The limit in this build: in a debug build everything takes many times longer.
fn limit(release: Duration) -> Duration {
    if cfg!(debug_assertions) { release * 40 } else { release }
}

/// Validates the largest event of its kind that is allowed and has at most `parts` parts, and returns how long that takes.
#[expect(clippy::print_stdout, reason = "the figures that the reference gives")]
fn took(name: &str, schema: Value, parts: usize, data: impl Fn(usize) -> Value) -> Duration {
    check(&[version("1", schema.clone())]).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (schema, mut n) = (compiled(schema), parts);
    loop {
        let instance = instance(data(n));
        let start = Instant::now();
        let validated = schema.validate(&instance);
        let took = start.elapsed();
        match validated {
            Err(violation) if violation.to_string().contains("too large") => n = n * 9 / 10,
            _ => {
                println!("{name}: {took:?}, {n} of {parts} parts, accepted: {}", validated.is_ok());
                return took;
            }
        }
    }
}

fn repeat(schema: Value, n: usize) -> Value {
    json!({ "allOf": vec![schema; n] })
}

fn texts(n: usize, len: usize) -> Value {
    (0..n).map(|i| format!("{}{i:06}", "x".repeat(len.saturating_sub(6)))).collect()
}

/// A schema that evaluates `schema` and then accepts everything, so that nothing ends the work early.
fn idle(schema: Value) -> Value {
    json!({ "anyOf": [schema, true] })
}

/// A text that no small automaton has all states for.
fn noise(n: usize) -> String {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { 'a' } else { 'b' }
    };
    (0..n).map(|_| next()).collect()
}

/// Validates events by schemas, both as hostile as the bounds allow, and returns how long each takes.
fn worst() -> Vec<(&'static str, Duration)> {
    let ints = |n: usize| json!((0..n).collect::<Vec<_>>());
    let object = |n: usize| (0..n).map(|i| (format!("p{i}"), json!(1))).collect::<Value>();
    let wild = json!({ "pattern": "(a|b)*a(a|b){12}c" });
    let mut all = Vec::new();
    let mut kinds = 0..;
    let mut add = |name, schema, parts, data: &dyn Fn(usize) -> Value| {
        // The short form measures some of them.
        if kinds.next().is_some_and(|kind: u32| kind.is_multiple_of(by_length(5, 1))) {
            all.push((name, took(name, schema, parts, data)));
        }
    };
    add("backtracking", json!({ "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$" }), EVENT, &|n| json!("a".repeat(n)));
    add("a large automaton", wild.clone(), EVENT, &|n| json!(noise(n)));
    add("many strings", json!({ "items": idle(wild) }), EVENT / 20, &|n| json!(vec![noise(17); n]));
    add("from the end", json!({ "pattern": "x(a|b){12}a(a|b)*SUFFIX" }), EVENT, &|n| json!(noise(n) + "SUFFIX"));
    add("from the end again", json!({ "pattern": "x(a|b){12}a(a|b)*SUFFIX" }), EVENT / 300, &|n| {
        json!((noise(300) + "SUFFIX").repeat(n))
    });
    let unicode = json!({ "items": idle(json!({ "pattern": r"^\p{L}{1,3}\b" })) });
    add("Unicode", unicode, EVENT / 20, &|n| json!(vec!["\u{df}\u{e4}\u{1f00}\u{10400}x!"; n]));
    let many: Vec<_> = (0..90).map(|i| idle(json!({ "pattern": format!("^[a-z]*x{i}[a-z]{{1,9}}$") }))).collect();
    add("many patterns", json!({ "items": { "allOf": many } }), EVENT / 20, &|n| texts(n, 18));
    let names: Map<String, Value> = (0..60).map(|i| (format!("[a-z]{i}x"), json!({ "type": "null" }))).collect();
    add("names", json!({ "patternProperties": names }), EVENT / 8, &object);
    add(
        "enum",
        json!({ "items": repeat(json!({ "enum": (0..60).map(|i| json!([i])).collect::<Vec<_>>() }), 60) }),
        EVENT / 3,
        &|n| json!(vec![json!([59]); n]),
    );
    add("lengths", repeat(json!({ "maxLength": 2_000_000 }), 4900), EVENT, &|n| json!("x".repeat(n)));
    add("equal items", repeat(json!({ "uniqueItems": true }), 4900), EVENT, &|n| texts(15, n / 15));
    add("unique numbers", json!({ "uniqueItems": true }), EVENT / 20, &|n| {
        json!((0..n as u64).map(|i| u64::MAX - i).collect::<Vec<_>>())
    });
    let nested =
        (0..40).fold(json!({ "uniqueItems": true }), |inner, _| json!({ "uniqueItems": true, "items": inner }));
    add("unique in each other", nested, EVENT / 6, &|n| (0..38).fold(ints(n), |inner, _| json!([inner, 1])));
    let objects = |n: usize| (0..n).map(|i| json!({ format!("k{}", i % 50): i, "b": i * 2 })).collect::<Value>();
    add("unique objects", json!({ "uniqueItems": true }), EVENT / 20, &objects);
    let parts: Vec<_> = (0..4900).map(|i| json!({ "const": i })).collect();
    add("oneOf", json!({ "items": { "oneOf": parts } }), EVENT / 5, &|n| json!(vec![4899; n]));
    add("contains", json!({ "contains": repeat(json!({ "const": -1 }), 2400), "minContains": 9 }), EVENT / 2, &|n| {
        json!(vec![-1; n])
    });
    add("division", json!({ "items": idle(json!({ "multipleOf": 5e-324 })) }), EVENT / 23, &|n| {
        json!(vec![1.797_693_134_862_3e308; n])
    });
    add("division of cents", json!({ "items": idle(json!({ "multipleOf": 0.01 })) }), EVENT / 8, &|n| {
        json!(vec![1234.57; n])
    });
    let required: Vec<_> = (0..8000).map(|i| format!("p{i}")).collect();
    add("required", json!({ "items": { "required": required } }), 30, &|n| json!(vec![object(8000); n]));
    let large: Map<String, Value> = (0..2400).map(|i| (format!("p{i}"), json!({ "type": "integer" }))).collect();
    add("properties", json!({ "items": { "properties": large, "additionalProperties": false } }), 50, &|n| {
        json!(vec![object(2400); n])
    });
    add(
        "property names",
        json!({ "propertyNames": repeat(json!({ "maxLength": 99, "minLength": 1 }), 1500) }),
        EVENT / 8,
        &object,
    );
    let nots = (0..44).fold(json!({ "type": "integer" }), |inner, _| json!({ "not": inner }));
    add("not not", json!({ "items": nots }), EVENT / 2, &|n| ints(n / 3));
    let ifs =
        (0..10).fold(json!({ "type": "integer" }), |inner, _| json!({ "if": inner, "then": inner, "else": false }));
    add("if if", json!({ "items": ifs }), EVENT / 2, &|n| ints(n / 3));
    let anys = (0..11).fold(json!({ "type": "string" }), |inner, _| json!({ "anyOf": [inner, inner] }));
    add("anyOf anyOf", json!({ "items": anys }), EVENT / 2, &|n| ints(n / 3));
    let dependent: Map<String, Value> = (0..2000).map(|i| (format!("p{i}"), json!({ "required": ["p1"] }))).collect();
    add("dependentSchemas", json!({ "items": { "dependentSchemas": dependent } }), 50, &|n| {
        json!(vec![object(2000); n])
    });
    let closed = |inner: Value| json!({ "allOf": [inner], "properties": { "a": true }, "unevaluatedProperties": true });
    add("unevaluated in place", (0..28).fold(json!(true), |inner, _| closed(inner)), EVENT / 8, &object);
    let below =
        (0..30).fold(json!(true), |inner, _| json!({ "properties": { "a": inner }, "unevaluatedProperties": false }));
    let refused = |n: usize| (0..29).fold(json!({ "b": ints(n) }), |inner, _| json!({ "a": inner }));
    add("unevaluated below", below, EVENT / 3, &refused);
    let one = json!({ "prefixItems": [true], "contains": { "const": -1 }, "unevaluatedItems": { "type": "integer" } });
    add(
        "unevaluated items",
        (0..20).fold(one, |inner, _| json!({ "anyOf": [inner], "unevaluatedItems": true })),
        EVENT / 3,
        &|n| ints(n),
    );
    let apart = json!({ "items": { "type": "integer" }, "uniqueItems": true, "contains": { "const": -1 } });
    add("a plain schema", apart, EVENT / 2, &|n| ints(n / 3));
    all
}

#[test]
fn validating_takes_bounded_time() {
    for (name, took) in worst() {
        assert!(took < limit(Duration::from_millis(100)), "{name}: {took:?}");
    }
}

/// Event types whose schemas take as much work to check and to compile as the bounds allow.
fn laborious() -> Vec<(&'static str, Vec<VersionedSchema>)> {
    let patterns = |n: usize, pattern: &dyn Fn(usize) -> String| -> Vec<VersionedSchema> {
        let parts: Vec<_> = (0..n).map(|i| json!({ "pattern": pattern(i) })).collect();
        vec![version("1", json!({ "allOf": parts }))]
    };
    let names = |n: usize| (0..n).map(|i| (format!("property{i}"), json!({ "type": "string" }))).collect::<Value>();
    let nested = (0..11).fold(json!({ "type": "string" }), |inner, _| json!({ "anyOf": [inner, inner] }));
    vec![
        ("patterns", patterns(190, &|i| format!("^x{i}[a-z]{{1,9}}$"))),
        ("large automata", patterns(5, &|i| format!("(a|b)*a(a|b){{{}}}c", 12 + i))),
        ("parts", vec![version("1", nested)]),
        ("patterns in parts", vec![version("1", json!({ "anyOf": vec![json!({ "pattern": "^[a-z]+$" }); 150] }))]),
        ("versions", (0..20).map(|i| version(&format!("1.{i}"), json!({ "properties": names(220 + i) }))).collect()),
    ]
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures that the reference gives")]
fn compiling_takes_bounded_time() {
    for (name, versions) in laborious() {
        let start = Instant::now();
        assert_eq!(check(&versions), Ok(()), "{name}");
        let took = start.elapsed();
        println!("compiling {name}: {took:?}");
        assert!(took < limit(Duration::from_millis(250)), "{name}: {took:?}");
    }
    let patterns: Vec<_> = (0..201).map(|i| json!({ "pattern": format!("x{i}") })).collect();
    assert!(refused(json!({ "allOf": patterns })).1.contains("more than 200"));
    let wild: Vec<_> = (0..50).map(|i| json!({ "pattern": format!("(a|b)*a(a|b){{12}}c{i}") })).collect();
    assert!(refused(json!({ "allOf": wild })).1.contains("4 MiB"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: by_length(15, 100), ..ProptestConfig::default() })]

    #[test]
    fn no_schema_and_no_event_take_longer(parts in vec(soundness::schema(), 1..30), values in vec(soundness::value(), 1..20)) {
        let schema = json!({ "items": { "allOf": parts.into_iter().map(idle).collect::<Vec<_>>() } });
        let data: Value = values.iter().cycle().take(20_000).cloned().collect();
        let (schema, instance) = (compiled(schema), instance(data));
        let start = Instant::now();
        let _ = schema.validate(&instance);
        prop_assert!(start.elapsed() < limit(Duration::from_millis(100)), "{:?}", start.elapsed());
    }
}
