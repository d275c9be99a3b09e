//! Tables of streams and what they store.

use serde_json::{Value, json};

use super::*;

/// When the streams are looked at.
const NOON: &str = "2026-03-01T12:00:00Z";

fn transform(source: &str, destination: &str) -> SubjectTransform {
    SubjectTransform { source: source.to_owned(), destination: destination.to_owned() }
}

fn source(name: &str) -> Source {
    Source { name: name.to_owned(), ..Source::default() }
}

fn filtered(name: &str, filter: &str) -> Source {
    Source { filter_subject: Some(filter.to_owned()), ..source(name) }
}

fn renamed(name: &str, from: &str, to: &str) -> Source {
    Source { subject_transforms: vec![transform(from, to)], ..source(name) }
}

fn begins(name: &str, field: &str, with: &Value) -> Source {
    serde_json::from_value(json!({ "name": name, field: with })).unwrap()
}

fn named(name: &str, subjects: &[&str]) -> Config {
    let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
    Config { name: name.to_owned(), subjects, ..Config::default() }
}

fn of(sources: Vec<Source>, subjects: &[&str]) -> Config {
    Config { sources: Some(sources), ..named("s", subjects) }
}

fn mirror(mirror: Source) -> Config {
    Config { mirror: Some(mirror), ..named("s", &[]) }
}

fn with(transform: SubjectTransform, subjects: &[&str]) -> Config {
    Config { subject_transform: Some(transform), ..named("s", subjects) }
}

fn origins() -> Origins {
    let known = |config: Config| Some(Origin { config, last: 7 });
    let circle = Config { name: "circle".to_owned(), ..of(vec![source("circle")], &["shop.c"]) };
    let streams = HashMap::from([
        ("near".to_owned(), known(named("near", &["shop.a.>", "shop.b"]))),
        ("twice".to_owned(), known(Config { name: "twice".to_owned(), ..mirror(source("near")) })),
        ("circle".to_owned(), known(circle)),
        ("crossed".to_owned(), known(named("crossed", &["shop.*.x"]))),
        ("parts".to_owned(), known(with(transform("in.*", "parts.{{partition(3,1)}}"), &["in.*"]))),
        ("partly".to_owned(), known(with(transform("shop.old.>", "old.>"), &["shop.>"]))),
        ("split".to_owned(), known(with(transform("in.*", "split.{{split(1,-)}}.c"), &["in.*"]))),
        ("ahead".to_owned(), known(of(vec![begins("near", "opt_start_seq", &json!(9))], &[]))),
        ("gone".to_owned(), None),
    ]);
    Origins { streams, at: NOON.parse().unwrap() }
}

/// What is stored under a configuration, as it is told.
fn told(config: &Config) -> Vec<String> {
    let told = |stored: Stored| match &stored.unknown {
        None => stored.to_string(),
        Some(Unknown::Elsewhere(source)) => format!("{stored} of {source}"),
        Some(Unknown::Missing(source)) => format!("{stored} of no {source}"),
        Some(Unknown::Later(source, Begin::Time(time))) => format!("{stored} of {source} from {time}"),
        Some(Unknown::Later(source, Begin::Sequence(sequence))) => format!("{stored} of {source} from {sequence}"),
    };
    stored(config, &origins()).into_iter().map(told).collect()
}

#[test]
fn what_transforms_store() {
    let with_source =
        |transform: SubjectTransform| Config { subject_transform: Some(transform), ..of(vec![source("unknown")], &[]) };
    for (config, want) in [
        (named("s", &["shop.>"]), &["shop.>"][..]),
        (with(transform("shop.legacy.>", "shop.v2.>"), &["shop.legacy.>"]), &["shop.v2.>"]),
        (with(transform("", "shop.v2.>"), &["x", "y.*"]), &["shop.v2.x", "shop.v2.y.*"]),
        (with(transform("shop.legacy.>", "shop.v2.>"), &["shop.>"]), &["shop.> (but not shop.legacy.>)", "shop.v2.>"]),
        (with(transform("shop.>", "shop.v2.>"), &["shop.legacy.>"]), &["shop.v2.legacy.>"]),
        (with(transform("shop.*.*", "v2.$1.$2"), &["shop.a.*"]), &["v2.a.*"]),
        (with(transform("other.>", "shop.v2.>"), &["shop.a"]), &["shop.a"]),
        (
            with(transform("a.*.*", "b.$2.{{wildcard(1)}}.{{partition(3,1)}}.$x"), &["a.b.c"]),
            &["b.c.b.*.$x (token 4 is a number below 3)"],
        ),
        (with(transform("a.*", ""), &["a.*"]), &["a.*"]),
        (
            with(transform("a.*", "b.{{SplitFromLeft(1,3)}}.c"), &["a.*"]),
            &["b.*.*.c (token 2 has 3 bytes)", "b.*.c (token 2 has at most 3 bytes)"],
        ),
        (
            with(transform("a.*", "b.{{ Split(1, -) }}.c"), &["a.*"]),
            &[r#"b.*.c (token 2 stands for one or more and has no "-")"#],
        ),
        (with_source(transform("", "shop.v2.>")), &["shop.v2.>"]),
        (with_source(transform("shop.v1.>", "shop.v2.>")), &["> (but not shop.v1.>) of unknown", "shop.v2.>"]),
        // The stream's own transform comes after those of its sources.
        (
            Config {
                subject_transform: Some(transform("new.>", "shop.v3.>")),
                ..of(vec![renamed("near", "shop.a.>", "new.>")], &["shop.d"])
            },
            &["shop.d", "shop.v3.>"],
        ),
    ] {
        assert_eq!(told(&config), want, "{config:?}");
    }
}

#[test]
fn what_sources_and_mirrors_store() {
    let far = Source { domain: Some("hub".to_owned()), ..source("near") };
    for (config, want) in [
        (of(vec![source("near")], &[]), &["shop.a.>", "shop.b"][..]),
        (of(vec![source("unknown")], &["shop.d"]), &["> of unknown", "shop.d"]),
        (of(vec![source("gone")], &["shop.d"]), &["> of no gone", "shop.d"]),
        (mirror(source("gone")), &["> of no gone"]),
        (of(vec![far], &[]), &["> of near"]),
        (of(vec![filtered("unknown", ">")], &[]), &["> of unknown"]),
        (of(vec![renamed("unknown", "", "new.>")], &[]), &["new.>"]),
        (of(vec![renamed("unknown", "a.>", "")], &[]), &["a.>"]),
        (of(vec![renamed("gone", "a.>", "b.>")], &[]), &["b.> of no gone"]),
        (of(vec![filtered("gone", "a.>")], &[]), &["a.> of no gone"]),
        (of(vec![filtered("near", "shop.a.x")], &[]), &["shop.a.x"]),
        (of(vec![filtered("crossed", "shop.a.*")], &[]), &["shop.a.x"]),
        (of(vec![filtered("parts", "parts.2")], &[]), &["parts.2"]),
        (of(vec![filtered("parts", "parts.3")], &[]), &[]),
        (of(vec![renamed("parts", "parts.*", "new.x.$1")], &[]), &["new.x.* (token 3 is a number below 3)"]),
        (of(vec![filtered("partly", "shop.>")], &[]), &["shop.> (but not shop.old.>)"]),
        (of(vec![filtered("partly", "shop.old.a")], &[]), &[]),
        (
            of(vec![filtered("split", "split.x.>")], &[]),
            &[r#"split.x.*.c (token 3 stands for one or more and has no "-")"#, "split.x.c"],
        ),
        (of(vec![filtered("split", "split.x.y")], &[]), &[]),
        (of(vec![filtered("split", "split.x-y.c")], &[]), &[]),
        (of(vec![renamed("split", "split.*.*", "new.$1")], &[]), &[r#"new.* (token 2 has no "-")"#]),
        (of(vec![filtered("near", "shop.>")], &[]), &["shop.a.>", "shop.b"]),
        (of(vec![filtered("near", "other.>")], &[]), &[]),
        (of(vec![renamed("near", "shop.a.>", "new.>")], &[]), &["new.>"]),
        (of(vec![renamed("near", "shop.>", "new.>")], &[]), &["new.a.>", "new.b"]),
        (of(vec![renamed("near", "shop.b", "")], &[]), &["shop.b"]),
        (of(vec![renamed("near", "other", "new")], &[]), &[]),
        (mirror(source("near")), &["shop.a.>", "shop.b"]),
        (mirror(source("twice")), &["shop.a.>", "shop.b"]),
        (mirror(filtered("unknown", "shop.>")), &["shop.>"]),
        (of(vec![source("circle")], &[]), &["> of circle", "shop.c"]),
    ] {
        assert_eq!(told(&config), want, "{config:?}");
    }
}

#[test]
fn sources_that_begin_later_are_told() {
    let time = |name: &str, time: &str| begins(name, "opt_start_time", &json!(time));
    let sequence = |name: &str, sequence: u64| begins(name, "opt_start_seq", &json!(sequence));
    for (source, want) in [
        (time("near", NOON), &["shop.a.>", "shop.b"][..]),
        (
            time("near", "2026-03-01T12:00:01Z"),
            &["shop.a.> of near from 2026-03-01T12:00:01Z", "shop.b of near from 2026-03-01T12:00:01Z"],
        ),
        (time("unknown", "2026-03-01T12:00:01Z"), &["> of unknown from 2026-03-01T12:00:01Z"]),
        (time("gone", "2026-03-01T12:00:01Z"), &["> of no gone"]),
        (sequence("near", 8), &["shop.a.>", "shop.b"]),
        (sequence("near", 9), &["shop.a.> of near from 9", "shop.b of near from 9"]),
        (sequence("unknown", 9), &["> of unknown"]),
        (Source { filter_subject: Some("shop.b".to_owned()), ..sequence("near", 9) }, &["shop.b of near from 9"]),
        (filtered("ahead", "shop.b"), &["shop.b of near from 9"]),
    ] {
        assert_eq!(told(&of(vec![source.clone()], &[])), want, "{source:?}");
        assert_eq!(told(&mirror(source.clone())), want, "{source:?}");
    }
}

#[test]
fn what_a_stream_may_have() {
    let may_have = |config: Config, subject: &str| {
        stored(&config, &Origins::default()).iter().any(|stored| stored.may_have(subject))
    };
    let parts = || with(transform("a.*", "b.{{ Partition(3, 1) }}"), &["a.*"]);
    for (subject, want) in
        [("b.0", true), ("b.2", true), ("b.*", true), ("b.3", false), ("b.02", false), ("b.x", false), ("b.>", false)]
    {
        assert_eq!(may_have(parts(), subject), want, "{subject}");
    }
    let partly = || with(transform("a.old.>", "a.new.>"), &["a.>"]);
    for (subject, want) in [("a.x", true), ("a.new.x", true), ("a.old.x", false), ("a.old.>", false), ("a.>", true)] {
        assert_eq!(may_have(partly(), subject), want, "{subject}");
    }
}
