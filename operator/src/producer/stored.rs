//! Which subjects a stream stores. A stream need not store what it listens to: its transform gives messages other subjects,
//! and sources and mirrors bring those of other streams.

mod pattern;
mod rewrite;

use std::collections::HashMap;
use std::fmt;

use async_nats::jetstream::stream::{Config, Source, SubjectTransform};
use hookwright_core::nats::subject::is_within;

use pattern::{ANY, Pattern};
use rewrite::rewritten;

/// The streams that a stream is filled from, directly or by way of others, by their names. Those that don't exist have no
/// configuration. A stream of another account or domain isn't among them.
pub(crate) type Origins = HashMap<String, Option<Config>>;

/// How many streams away an origin is still looked at. What lies beyond may store any subject.
const DEPTH: usize = 4;

/// Subjects that a stream stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Every one of the subjects matches this pattern. Where it can't be known, the pattern is wider.
    pattern: Pattern,
    /// None of the subjects matches one of these patterns: what does is stored under other subjects.
    without: Vec<String>,
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

impl Unknown {
    /// Whether a filter or a transform of what the source brings says what is there. Nothing comes of a
    /// source that doesn't exist, whether it is filtered or not.
    fn ends_with_a_filter(&self) -> bool {
        matches!(self, Self::Elsewhere(_))
    }
}

impl Stored {
    fn known(pattern: &str) -> Self {
        Self { pattern: Pattern::of(pattern), without: Vec::new(), unknown: None }
    }

    fn unknown(unknown: Unknown) -> Self {
        Self { unknown: Some(unknown), ..Self::known(ANY) }
    }

    /// Whether the stream may have the subjects that this one matches.
    pub(super) fn may_have(&self, subject: &str) -> bool {
        self.pattern.may_have(subject) && !self.without.iter().any(|without| is_within(subject, without))
    }

    /// Returns what a filter leaves.
    fn narrowed(&self, filter: &str) -> Vec<Self> {
        let whole = self.pattern.is_within(filter);
        let unknown = self.unknown.clone().filter(|unknown| whole || !unknown.ends_with_a_filter());
        let left = self.pattern.narrowed(filter).into_iter();
        let left = left.filter(|left| !self.without.iter().any(|without| left.is_within(without)));
        left.map(|pattern| Self { pattern, without: self.without.clone(), unknown: unknown.clone() }).collect()
    }
}

/// For the message of a refusal.
impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)?;
        for without in &self.without {
            write!(f, " (but not {without})")?;
        }
        Ok(())
    }
}

/// Returns the sources of a stream, a mirrored one included.
pub(super) fn sources(config: &Config) -> impl Iterator<Item = &Source> {
    config.mirror.iter().chain(config.sources.iter().flatten())
}

/// Returns all subjects that the stream stores.
pub(super) fn stored(config: &Config, origins: &Origins) -> Vec<Stored> {
    let mut stored = stored_at(config, origins, DEPTH);
    stored.sort_by_cached_key(|stored| (stored.to_string(), stored.unknown.clone()));
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
    let taken = config.subjects.iter().map(|subject| Stored::known(subject)).chain(sourced);
    match config.subject_transform.as_ref().filter(|transform| !transform.destination.is_empty()) {
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
        let of = |transform: &SubjectTransform| {
            let taken = narrowed(&there, from(transform));
            if transform.destination.is_empty() {
                return taken;
            }
            taken.iter().flat_map(|taken| rewritten(taken, from(transform), &transform.destination)).collect()
        };
        return source.subject_transforms.iter().flat_map(of).collect();
    }
    match source.filter_subject.as_deref().filter(|filter| !filter.is_empty()) {
        Some(filter) => narrowed(&there, filter),
        None => there,
    }
}

/// Returns what a filter leaves of these subjects.
fn narrowed(subjects: &[Stored], filter: &str) -> Vec<Stored> {
    subjects.iter().flat_map(|subjects| subjects.narrowed(filter)).collect()
}

/// Returns under which subjects a stream with this transform stores messages of these subjects.
fn transformed(mut subjects: Stored, transform: &SubjectTransform) -> Vec<Stored> {
    let from = from(transform);
    let taken = subjects.narrowed(from);
    if taken.is_empty() {
        return vec![subjects];
    }
    let mut made: Vec<_> = taken.iter().flat_map(|taken| rewritten(taken, from, &transform.destination)).collect();
    if !subjects.pattern.is_within(from) {
        subjects.without.push(from.to_owned());
        made.push(subjects);
    }
    made
}

fn from(transform: &SubjectTransform) -> &str {
    if transform.source.is_empty() { ANY } else { &transform.source }
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

    fn with(transform: SubjectTransform, subjects: &[&str]) -> Config {
        Config { subject_transform: Some(transform), ..named("s", subjects) }
    }

    fn origins() -> Origins {
        let circle = Config { name: "circle".to_owned(), ..of(vec![source("circle")], &["shop.c"]) };
        Origins::from([
            ("near".to_owned(), Some(named("near", &["shop.a.>", "shop.b"]))),
            ("twice".to_owned(), Some(Config { name: "twice".to_owned(), ..mirror(source("near")) })),
            ("circle".to_owned(), Some(circle)),
            ("crossed".to_owned(), Some(named("crossed", &["shop.*.x"]))),
            ("parts".to_owned(), Some(with(transform("in.*", "parts.{{partition(3,1)}}"), &["in.*"]))),
            ("partly".to_owned(), Some(with(transform("shop.old.>", "old.>"), &["shop.>"]))),
            ("split".to_owned(), Some(with(transform("in.*", "split.{{split(1,-)}}.c"), &["in.*"]))),
            ("gone".to_owned(), None),
        ])
    }

    /// What is stored under a configuration, as it is told.
    fn told(config: &Config) -> Vec<String> {
        let told = |stored: Stored| match &stored.unknown {
            None => stored.to_string(),
            Some(Unknown::Elsewhere(source)) => format!("{stored} of {source}"),
            Some(Unknown::Missing(source)) => format!("{stored} of no {source}"),
        };
        stored(config, &origins()).into_iter().map(told).collect()
    }

    #[test]
    fn what_transforms_store() {
        let with_source = |transform: SubjectTransform| Config {
            subject_transform: Some(transform),
            ..of(vec![source("unknown")], &[])
        };
        for (config, want) in [
            (named("s", &["shop.>"]), &["shop.>"][..]),
            (with(transform("shop.legacy.>", "shop.v2.>"), &["shop.legacy.>"]), &["shop.v2.>"]),
            (with(transform("", "shop.v2.>"), &["x", "y.*"]), &["shop.v2.x", "shop.v2.y.*"]),
            (
                with(transform("shop.legacy.>", "shop.v2.>"), &["shop.>"]),
                &["shop.> (but not shop.legacy.>)", "shop.v2.>"],
            ),
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
    fn what_a_stream_may_have() {
        let may_have = |config: Config, subject: &str| {
            stored(&config, &Origins::new()).iter().any(|stored| stored.may_have(subject))
        };
        let parts = || with(transform("a.*", "b.{{ Partition(3, 1) }}"), &["a.*"]);
        for (subject, want) in [
            ("b.0", true),
            ("b.2", true),
            ("b.*", true),
            ("b.3", false),
            ("b.02", false),
            ("b.x", false),
            ("b.>", false),
        ] {
            assert_eq!(may_have(parts(), subject), want, "{subject}");
        }
        let partly = || with(transform("a.old.>", "a.new.>"), &["a.>"]);
        for (subject, want) in [("a.x", true), ("a.new.x", true), ("a.old.x", false), ("a.old.>", false), ("a.>", true)]
        {
            assert_eq!(may_have(partly(), subject), want, "{subject}");
        }
    }
}
