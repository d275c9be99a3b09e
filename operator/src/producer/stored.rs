//! Which subjects a stream stores. A stream need not store what it listens to: its transform gives messages other subjects,
//! and sources and mirrors bring those of other streams.

use std::collections::HashMap;

use async_nats::jetstream::stream::{Config, Source, SubjectTransform};
use hookwright_core::nats::subject::{is_within, overlap};

/// The streams that a stream is filled from, directly or by way of others, by their names. Those that don't exist have no
/// configuration. A stream of another account or domain isn't among them.
pub(crate) type Origins = HashMap<String, Option<Config>>;

/// How many streams away an origin is still looked at. What lies beyond may store any subject.
const DEPTH: usize = 4;
/// The pattern of every subject.
const ANY: &str = ">";

/// Subjects that a stream stores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stored {
    /// Every one of the subjects matches this pattern. Where it can't be known, the pattern is wider.
    pub(super) pattern: String,
    /// The source of which nothing is known, so that the stream may have no subject that matches.
    pub(super) unknown: Option<Unknown>,
}

/// A source of which it can't be known what it brings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unknown {
    /// No stream of this name exists.
    Missing(String),
    /// The stream of this name is in another account or domain, or too many streams away.
    Elsewhere(String),
}

impl Stored {
    fn known(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), unknown: None }
    }

    fn unknown(unknown: Unknown) -> Self {
        Self { pattern: ANY.to_owned(), unknown: Some(unknown) }
    }
}

/// Returns the sources of a stream, a mirrored one included.
pub(super) fn sources(config: &Config) -> impl Iterator<Item = &Source> {
    config.mirror.iter().chain(config.sources.iter().flatten())
}

/// Returns all subjects that the stream stores.
pub(super) fn stored(config: &Config, origins: &Origins) -> Vec<Stored> {
    let mut stored = stored_at(config, origins, DEPTH);
    stored.sort();
    stored.dedup();
    stored
}

fn stored_at(config: &Config, origins: &Origins, depth: usize) -> Vec<Stored> {
    if depth == 0 {
        return vec![Stored::unknown(Unknown::Elsewhere(config.name.clone()))];
    }
    if let Some(mirror) = &config.mirror {
        return brought(mirror, origins, depth);
    }
    let sourced = config.sources.iter().flatten().flat_map(|source| brought(source, origins, depth));
    let taken = config.subjects.iter().map(Stored::known).chain(sourced);
    match &config.subject_transform {
        None => taken.collect(),
        Some(transform) => taken.flat_map(|subjects| transformed(subjects, transform)).collect(),
    }
}

/// Returns the subjects that a source brings.
fn brought(source: &Source, origins: &Origins, depth: usize) -> Vec<Stored> {
    let is_near = source.external.is_none() && source.domain.is_none();
    let name = || source.name.clone();
    let there = match origins.get(&source.name).filter(|_| is_near) {
        Some(Some(origin)) => stored_at(origin, origins, depth - 1),
        Some(None) => vec![Stored::unknown(Unknown::Missing(name()))],
        None => vec![Stored::unknown(Unknown::Elsewhere(name()))],
    };
    if !source.subject_transforms.is_empty() {
        let of = |transform: &SubjectTransform| match narrowed(&there, from(transform)) {
            taken if taken.is_empty() || transform.destination.is_empty() => taken,
            _ => vec![Stored::known(pattern(&transform.destination))],
        };
        return source.subject_transforms.iter().flat_map(of).collect();
    }
    match source.filter_subject.as_deref().filter(|filter| !filter.is_empty()) {
        Some(filter) => narrowed(&there, filter),
        None => there,
    }
}

/// Returns what a filter leaves of these subjects. Whoever filters knows what is there.
fn narrowed(subjects: &[Stored], filter: &str) -> Vec<Stored> {
    let left = subjects.iter().filter(|subjects| overlap(&subjects.pattern, filter));
    left.map(|subjects| if is_within(&subjects.pattern, filter) { subjects.clone() } else { Stored::known(filter) })
        .collect()
}

/// Returns under which subjects a stream with this transform stores messages of these subjects.
fn transformed(subjects: Stored, transform: &SubjectTransform) -> Vec<Stored> {
    let destination = || Stored::known(pattern(&transform.destination));
    if is_within(&subjects.pattern, from(transform)) {
        vec![destination()]
    } else if overlap(&subjects.pattern, from(transform)) {
        vec![destination(), subjects]
    } else {
        vec![subjects]
    }
}

fn from(transform: &SubjectTransform) -> &str {
    if transform.source.is_empty() { ANY } else { &transform.source }
}

/// Returns a pattern that all subjects match which a transform makes with this destination.
fn pattern(destination: &str) -> String {
    let mut tokens = Vec::new();
    for token in destination.split('.') {
        let function = token.strip_prefix("{{").map(str::to_ascii_lowercase);
        // These may make several tokens of one.
        if function.as_ref().is_some_and(|name| name.contains("split") || name.contains("slice")) {
            tokens.push(ANY);
            break;
        }
        let number = token.strip_prefix('$').is_some_and(|number| number.parse::<u32>().is_ok());
        tokens.push(if function.is_some() || number { "*" } else { token });
    }
    tokens.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn origins() -> Origins {
        let circle = Config { name: "circle".to_owned(), ..of(vec![source("circle")], &["shop.c"]) };
        Origins::from([
            ("near".to_owned(), Some(named("near", &["shop.a.>", "shop.b"]))),
            ("twice".to_owned(), Some(Config { name: "twice".to_owned(), ..mirror(source("near")) })),
            ("circle".to_owned(), Some(circle)),
            ("gone".to_owned(), None),
        ])
    }

    #[test]
    fn stored_table() {
        let with = |transform: SubjectTransform, subjects: &[&str]| Config {
            subject_transform: Some(transform),
            ..named("s", subjects)
        };
        let with_source = |transform: SubjectTransform| Config {
            subject_transform: Some(transform),
            ..of(vec![source("unknown")], &[])
        };
        let far = Source { domain: Some("hub".to_owned()), ..source("near") };
        for (config, want) in [
            (named("s", &["shop.>"]), &["shop.>"][..]),
            // Transforms.
            (with(transform("shop.legacy.>", "shop.v2.>"), &["shop.legacy.>"]), &["shop.v2.>"]),
            (with(transform("", "shop.v2.>"), &["x", "y.*"]), &["shop.v2.>"]),
            (with(transform("shop.legacy.>", "shop.v2.>"), &["shop.>"]), &["shop.>", "shop.v2.>"]),
            (with(transform("other.>", "shop.v2.>"), &["shop.a"]), &["shop.a"]),
            (with(transform("a.*.*", "b.$2.{{wildcard(1)}}.{{partition(3,1)}}.$x"), &["a.b.c"]), &["b.*.*.*.$x"]),
            (with(transform("a.*", "b.{{SplitFromLeft(1,3)}}.c"), &["a.*"]), &["b.>"]),
            // Sources and mirrors.
            (of(vec![source("near")], &[]), &["shop.a.>", "shop.b"]),
            (of(vec![source("unknown")], &["shop.d"]), &["> of unknown", "shop.d"]),
            (of(vec![source("gone")], &["shop.d"]), &["> of no gone", "shop.d"]),
            (mirror(source("gone")), &["> of no gone"]),
            (of(vec![far], &[]), &["> of near"]),
            (of(vec![filtered("unknown", ">")], &[]), &["> of unknown"]),
            (of(vec![renamed("unknown", "", "new.>")], &[]), &["new.>"]),
            (of(vec![renamed("unknown", "a.>", "")], &[]), &["a.>"]),
            (of(vec![filtered("near", "shop.a.x")], &[]), &["shop.a.x"]),
            (of(vec![filtered("near", "shop.>")], &[]), &["shop.a.>", "shop.b"]),
            (of(vec![filtered("near", "other.>")], &[]), &[]),
            (of(vec![renamed("near", "shop.a.>", "new.>")], &[]), &["new.>"]),
            (of(vec![renamed("near", "shop.b", "")], &[]), &["shop.b"]),
            (of(vec![renamed("near", "other", "new")], &[]), &[]),
            (mirror(source("near")), &["shop.a.>", "shop.b"]),
            (mirror(source("twice")), &["shop.a.>", "shop.b"]),
            (mirror(filtered("unknown", "shop.>")), &["shop.>"]),
            (of(vec![source("circle")], &[]), &["> of circle", "shop.c"]),
            (with_source(transform("", "shop.v2.>")), &["shop.v2.>"]),
            (with_source(transform("shop.v1.>", "shop.v2.>")), &["> of unknown", "shop.v2.>"]),
            // The stream's own transform comes after those of its sources.
            (
                Config {
                    subject_transform: Some(transform("new.>", "shop.v3.>")),
                    ..of(vec![renamed("near", "shop.a.>", "new.>")], &["shop.d"])
                },
                &["shop.d", "shop.v3.>"],
            ),
        ] {
            let told = |Stored { pattern, unknown }| match unknown {
                None => pattern,
                Some(Unknown::Elsewhere(source)) => format!("{pattern} of {source}"),
                Some(Unknown::Missing(source)) => format!("{pattern} of no {source}"),
            };
            let got: Vec<String> = stored(&config, &origins()).into_iter().map(told).collect();
            assert_eq!(got, want, "{config:?}");
        }
    }
}
