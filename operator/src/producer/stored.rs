//! Which subjects a stream stores. A stream need not store what it listens to: its transform gives messages other subjects,
//! and sources and mirrors bring those of other streams.

mod pattern;
mod rewrite;
mod unknown;

use std::collections::HashMap;
use std::fmt;

use async_nats::jetstream::stream::{Config, Source, SubjectTransform};
use hookwright_core::nats::subject::is_within;
use jiff::Timestamp;

use pattern::{ANY, Pattern};
use rewrite::rewritten;
use unknown::{Begin, Unknown};

/// What is known of the streams that a stream is filled from, directly or by way of others.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// The streams by their names, and none for those that don't exist. A stream of another account or domain isn't among
    /// them.
    pub(crate) streams: HashMap<String, Option<Origin>>,
    /// When they were looked at.
    pub(crate) at: Timestamp,
}

/// A stream that another is filled from.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) config: Config,
    /// The sequence of the last message that it got.
    pub(crate) last: u64,
}

/// How many streams away an origin is still looked at. What lies beyond may store any subject.
const DEPTH: usize = 4;

/// Subjects that a stream stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Every one of the subjects matches this pattern. Where it can't be known, the pattern is wider.
    pattern: Pattern,
    /// None of the subjects matches one of these patterns: what does is stored under other subjects.
    without: Vec<String>,
    /// The source of which nothing is known, or nothing comes yet, so that the stream may have no subject that matches.
    pub(super) unknown: Option<Unknown>,
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
    let name = || source.name.clone();
    let origin = origin(source, origins);
    let there = match origin {
        Some(Some(origin)) => stored_at(&origin.config, origins, depth - 1),
        Some(None) => vec![Stored::unknown(Unknown::Missing(name()))],
        None => vec![Stored::unknown(Unknown::Elsewhere(name()))],
    };
    let taken = selected(&there, source);
    let Some(begin) = begin(source, origin.and_then(Option::as_ref), origins.at) else { return taken };
    let later = |stored: Stored| match stored.unknown {
        Some(Unknown::Missing(_)) => stored,
        _ => Stored { unknown: Some(Unknown::Later(name(), begin)), ..stored },
    };
    taken.into_iter().map(later).collect()
}

/// Returns what is known of the stream that a source names, unless it is in another account or domain.
fn origin<'a>(source: &Source, origins: &'a Origins) -> Option<&'a Option<Origin>> {
    let is_near = source.external.is_none() && source.domain.is_none();
    origins.streams.get(&source.name).filter(|_| is_near)
}

/// Returns with what the source begins, if that has yet to come.
fn begin(source: &Source, origin: Option<&Origin>, now: Timestamp) -> Option<Begin> {
    if let Some(sequence) = source.start_sequence.filter(|sequence| *sequence > 0) {
        let is_ahead = origin.is_some_and(|origin| sequence > origin.last.saturating_add(1));
        return is_ahead.then_some(Begin::Sequence(sequence));
    }
    let time = Timestamp::from_nanosecond(source.start_time?.unix_timestamp_nanos()).unwrap_or(Timestamp::MAX);
    (time > now).then_some(Begin::Time(time))
}

/// Returns under which subjects a source brings what it takes of these.
fn selected(there: &[Stored], source: &Source) -> Vec<Stored> {
    if !source.subject_transforms.is_empty() {
        let of = |transform: &SubjectTransform| {
            let taken = narrowed(there, from(transform));
            if transform.destination.is_empty() {
                return taken;
            }
            taken.iter().flat_map(|taken| rewritten(taken, from(transform), &transform.destination)).collect()
        };
        return source.subject_transforms.iter().flat_map(of).collect();
    }
    match source.filter_subject.as_deref().filter(|filter| !filter.is_empty()) {
        Some(filter) => narrowed(there, filter),
        None => there.to_vec(),
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
mod tests;
