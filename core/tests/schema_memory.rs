//! The most memory that a compiled EventSchema takes. Each case runs in a process of its own, as memory is counted for
//! a process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its figures"
)]

use std::sync::Arc;

use hookwright_core::schema::VersionedSchema;
use hookwright_core::schema::{EventSchema, Instance, SchemaVersion, check};
use serde_json::{Map, Value, json};

/// How many copies of each are held at once, so that they stand out from the other memory of the process.
const COPIES: usize = 8;
/// The bound in bytes: the one that docs/reference/event-schemas.md gives, and a margin for what the allocator keeps.
const MOST: usize = 12 << 20;
/// The bound in bytes while two threads match patterns at the same time and new threads replace them.
const MOST_AT_ONCE: usize = MOST + (4 << 20);

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn versions(schemas: &[Value]) -> Vec<VersionedSchema> {
    let version = |(i, schema): (usize, &Value)| VersionedSchema {
        version: SchemaVersion::parse(&(i + 1).to_string()).unwrap(),
        uri: None,
        json_schema: schema.clone(),
        deprecated: false,
    };
    schemas.iter().enumerate().map(version).collect()
}

fn compile(versions: &[VersionedSchema]) -> Arc<EventSchema> {
    Arc::new(EventSchema::compile(versions).unwrap())
}

/// The largest number of parts, counted down from `parts`, for which the schemas are accepted.
fn largest(parts: usize, schemas: fn(usize) -> Vec<Value>) -> usize {
    let mut n = parts;
    loop {
        match check(&versions(&schemas(n))) {
            Ok(()) => return n,
            Err(error) if n > 1 => {
                assert!(["4 MiB", "5000", "262144"].iter().any(|bound| error.to_string().contains(bound)), "{error}");
                n = n * 9 / 10;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn noise(n: usize) -> String {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { 'a' } else { 'b' }
    };
    (0..n).map(next).collect()
}

fn deep_names(leaves: usize) -> Vec<Value> {
    let name = "n".repeat(250);
    let leaves: Map<String, Value> = (0..leaves)
        .map(|i| (format!("{i}"), json!({ "type": "string", "minLength": 1, "maxLength": 9, "minimum": 2 })))
        .collect();
    vec![(0..20).fold(json!({ "properties": leaves }), |inner, _| json!({ "properties": { &name: inner } }))]
}

fn wild(n: usize) -> Vec<Value> {
    let pattern = |i: usize| json!({ "pattern": format!("(a|b)*a(a|b){{12}}c{i}") });
    (0..n).map(|i| json!({ "items": { "anyOf": [pattern(i), true] } })).collect()
}

fn tame(n: usize) -> Vec<Value> {
    let pattern = |i: usize| json!({ "anyOf": [{ "pattern": format!("^[a-z]{{1,{}}}x?[0-9]*$", 20 + i % 9) }, true] });
    vec![json!({ "items": { "allOf": (0..n).map(pattern).collect::<Vec<_>>() } })]
}

fn values(n: usize) -> Vec<Value> {
    let list: Vec<_> = (0..20_000).collect();
    vec![json!({ "allOf": vec![json!({ "$ref": "#/$defs/e" }); n], "$defs": { "e": { "enum": list } } })]
}

fn parts(n: usize) -> Vec<Value> {
    vec![json!({ "oneOf": (0..n).map(|i| json!({ "const": i })).collect::<Vec<_>>() })]
}

fn many_versions(n: usize) -> Vec<Value> {
    let properties: Value = (0..n).map(|i| (format!("p{i}"), json!({ "type": ["string", "null"] }))).collect();
    vec![json!({ "properties": properties }); 20]
}

fn unevaluated(n: usize) -> Vec<Value> {
    let parts: Vec<_> = (0..n).map(|i| json!({ "properties": { format!("p{i}"): { "type": "string" } } })).collect();
    vec![json!({ "items": { "anyOf": parts, "unevaluatedProperties": false } })]
}

/// A kind of schema: its name, its schemas by their number of parts, and the number to begin with.
type Case = (&'static str, fn(usize) -> Vec<Value>, usize);

const CASES: [Case; 7] = [
    ("unevaluated", unevaluated, 4900),
    ("deep names", deep_names, 4900),
    ("patterns with a large automaton", wild, 20),
    ("patterns with a small one", tame, 180),
    ("values", values, 40),
    ("parts", parts, 4900),
    ("versions", many_versions, 240),
];

/// The environment variable with the number of parts and the name of the case, for a process that measures only this
/// case.
const MEASURE: &str = "HOOKWRIGHT_TEST_MEASURE";

fn measure(name: &str, versions: &[VersionedSchema]) {
    let text = noise(2000);
    let each = |schema: &EventSchema| {
        for version in 1..=versions.len() {
            let data = json!([text, "x".repeat(18), text[..100]]);
            let _ = schema.validate(&Instance { data, version: Some(version.to_string()), uri: None });
        }
    };
    let before = resident();
    let schemas: Vec<_> = (0..COPIES).map(|_| compile(versions)).collect();
    let so_far = || (resident() - before) / COPIES;
    let compiled = so_far();
    schemas.iter().for_each(|schema| each(schema));
    let used = so_far();
    // Two threads at once, replaced by new ones. The long form has more of them (`make test-long`).
    let rounds = if std::env::var_os("HOOKWRIGHT_TEST_LONG").is_some() { 16 } else { 4 };
    for _ in 0..rounds {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| schemas.iter().for_each(|schema| each(schema)));
            }
        });
    }
    let at_once = so_far();
    println!("{name}: compiled {} KiB, used {} KiB, by two threads {} KiB", compiled >> 10, used >> 10, at_once >> 10);
    assert!(used <= MOST, "{name}: {used}");
    assert!(at_once <= MOST_AT_ONCE, "{name}: {at_once}");
}

#[test]
fn an_event_type_takes_bounded_memory() {
    if let Ok(wanted) = std::env::var(MEASURE) {
        let (n, name) = wanted.split_once(' ').unwrap();
        let case = CASES.iter().find(|case| case.0 == name).unwrap();
        return measure(name, &versions(&case.1(n.parse().unwrap())));
    }
    for (name, schemas, most) in CASES {
        let n = largest(most, schemas);
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let status = child.arg("--nocapture").env(MEASURE, format!("{n} {name}")).status().unwrap();
        assert!(status.success(), "{name}");
    }
}
