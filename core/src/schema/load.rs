//! What an event can cost against a schema, and the bound on it.
//!
//! From the tree follows how many checks can fall on a single value of an event, and how large the patterns are that can
//! fall on a single string. Times the number of values, and times the bytes, that bounds the work before it begins.
//! Patterns are matched in time linear in text and pattern (the crate `regex`): no back-references, no look-around.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::tree::Node;
use super::{Flaw, compiled};

/// How many different patterns a schema may have.
const MAX_PATTERNS: usize = 200;
/// How large a compiled pattern may be, in bytes; the steps in which its size is found.
const PATTERN_SIZES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, MAX_PATTERN];
/// The largest of them.
pub(super) const MAX_PATTERN: usize = 128 << 10;
/// About what one state of a compiled pattern takes, in bytes.
const STATE: usize = 32;
/// What comparing all items of an array with each other counts for.
const UNIQUE: usize = 64;

/// How many checks fall on one value, and how many states of patterns on one string, at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) checks: usize,
    pub(super) states: usize,
}

/// How much work an event may be: about a second.
const MAX_CHECKS: usize = 100_000_000;
const MAX_STATES: usize = 500_000_000;
/// From here on it is more than a few milliseconds.
const SMALL: usize = 1_000_000;

/// How much work an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Milliseconds at most.
    Small,
    /// Up to about a second.
    Large,
    /// More than is allowed.
    TooLarge,
}

impl Load {
    fn and(self, other: Self) -> Self {
        Self { checks: self.checks.saturating_add(other.checks), states: self.states.saturating_add(other.states) }
    }

    fn max(self, other: Self) -> Self {
        Self { checks: self.checks.max(other.checks), states: self.states.max(other.states) }
    }

    /// What data of so many values, in so many bytes, comes to.
    pub(super) fn effort(self, values: usize, bytes: usize) -> Effort {
        let (checks, states) = (self.checks.saturating_mul(values), self.states.saturating_mul(bytes));
        if checks > MAX_CHECKS || states > MAX_STATES {
            Effort::TooLarge
        } else if checks.max(states) > SMALL {
            Effort::Large
        } else {
            Effort::Small
        }
    }
}

/// The load of a tree; refuses patterns that can't be compiled.
pub(super) fn measure(root: &Node<'_>) -> Result<Load, Flaw> {
    let mut patterns = BTreeMap::new();
    collect(root, &mut patterns)?;
    Ok(worst(root, &patterns))
}

fn collect<'a>(node: &Node<'a>, patterns: &mut BTreeMap<&'a str, usize>) -> Result<(), Flaw> {
    let own = node.plain.get("pattern").and_then(|pattern| pattern.as_str()).map(|pattern| ("pattern", pattern));
    let by_name = node.named.get("patternProperties").into_iter().flatten();
    let by_name = by_name.map(|(pattern, _)| ("patternProperties", *pattern));
    for (keyword, pattern) in own.into_iter().chain(by_name) {
        if patterns.contains_key(pattern) {
            continue;
        }
        let at = node.pointer.join(keyword);
        if patterns.len() >= MAX_PATTERNS {
            return Err(Flaw::at(&at, format!("more than {MAX_PATTERNS} different patterns")));
        }
        let Some(states) = states(pattern) else {
            let what = "a pattern can't be compiled to run in linear time: it is no regular expression, has a \
                        back-reference or look-around, or is too large";
            return Err(Flaw::at(&at, what));
        };
        patterns.insert(pattern, states);
    }
    children(node).try_for_each(|child| collect(child, patterns))
}

fn children<'n, 'a>(node: &'n Node<'a>) -> impl Iterator<Item = &'n Node<'a>> {
    let named = node.named.values().flat_map(BTreeMap::values);
    node.single.values().chain(node.lists.values().flatten()).chain(named)
}

/// How many states a pattern has, about; none if it can't be compiled.
fn states(pattern: &str) -> Option<usize> {
    let compiles = |limit| {
        compiled::options()
            .with_pattern_options(compiled::patterns(limit))
            .build(&json!({ "pattern": pattern }))
            .is_ok()
    };
    PATTERN_SIZES.into_iter().find(|limit| compiles(*limit)).map(|limit| limit / STATE)
}

/// The most that falls on any value within what the node describes, that value included.
fn worst(node: &Node<'_>, patterns: &BTreeMap<&str, usize>) -> Load {
    let (here, below) = split(node, patterns);
    here.max(below)
}

/// What falls on the value itself, and at most on any value in it.
fn split(node: &Node<'_>, patterns: &BTreeMap<&str, usize>) -> (Load, Load) {
    let mut here = own(node, patterns);
    let mut below = Load::default();
    let in_place = ["not", "if", "then", "else"].iter().filter_map(|key| node.single.get(*key));
    let in_place = in_place.chain(["allOf", "anyOf", "oneOf"].iter().filter_map(|key| node.lists.get(*key)).flatten());
    let in_place = in_place.chain(node.named.get("dependentSchemas").into_iter().flat_map(BTreeMap::values));
    for node in in_place {
        let (child_here, child_below) = split(node, patterns);
        here = here.and(child_here);
        below = below.and(child_below);
    }
    let all = |nodes: &mut dyn Iterator<Item = &Node<'_>>| {
        nodes.fold(Load::default(), |sum, node| sum.and(worst(node, patterns)))
    };
    let one = |nodes: &mut dyn Iterator<Item = &Node<'_>>| {
        nodes.fold(Load::default(), |most, node| most.max(worst(node, patterns)))
    };
    let apart = ["items", "additionalItems", "additionalProperties", "propertyNames", "contains"];
    below = below.and(all(&mut apart.iter().filter_map(|key| node.single.get(*key))));
    below = below.and(all(&mut node.named.get("patternProperties").into_iter().flat_map(BTreeMap::values)));
    below = below.and(one(&mut node.named.get("properties").into_iter().flat_map(BTreeMap::values)));
    let positions = ["prefixItems", "items"].iter().filter_map(|key| node.lists.get(*key)).flatten();
    below = below.and(one(&mut { positions }));
    (here, below)
}

/// What the node's own keywords come to, for one value.
fn own(node: &Node<'_>, patterns: &BTreeMap<&str, usize>) -> Load {
    let weight = |(key, value): (&&str, &&Value)| match *key {
        "uniqueItems" => UNIQUE,
        _ => 1 + values(value),
    };
    let names = node.named.values().map(BTreeMap::len).sum::<usize>();
    let by_name = node.named.get("patternProperties").into_iter().flat_map(BTreeMap::keys);
    let pattern = node.plain.get("pattern").and_then(|pattern| pattern.as_str());
    let used: BTreeSet<&str> = by_name.copied().chain(pattern).collect();
    Load {
        checks: 1 + names + node.plain.iter().map(weight).sum::<usize>(),
        states: used.iter().filter_map(|pattern| patterns.get(pattern)).sum(),
    }
}

/// How many values there are in a value, itself included; a long text counts for more.
pub(super) fn values(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / 64,
        Value::Array(list) => 1 + list.iter().map(values).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(values).sum::<usize>(),
        _ => 1,
    }
}
