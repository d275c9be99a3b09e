//! The cost of matching a pattern: in steps for each byte of text, and in memory.
//!
//! The crate `regex` never goes back in the text. It builds an automaton while it reads, with a state for each set of
//! places in the pattern that the text so far may have led to. If the whole automaton is small, a byte of text costs
//! one step. Otherwise the crate may have to rebuild the automaton again and again, and a byte costs as many steps as
//! the pattern has places.

use std::collections::{BTreeMap, BTreeSet};

use regex_automata::dfa::dense;
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use serde_json::json;

use super::flaw::Flaw;
use super::tree::Node;

/// The most different patterns that all versions of an event type together may have.
const MAX_PATTERNS: usize = 200;
/// The most memory that the patterns of all versions may take, in bytes. Two threads that validate at once take it
/// twice, and so on.
const MAX_BYTES: usize = 4 << 20;

/// The largest size of a compiled pattern, in bytes.
const MAX_PATTERN: usize = 128 << 10;
/// The largest part of a pattern's automaton that is kept, in bytes, for each direction: `regex` also reads texts from
/// their end.
const MAX_CACHE: usize = 192 << 10;
/// The memory in bytes that `regex` takes to match short texts by a pattern whose automaton is too large.
const BACKTRACKING: usize = 256 << 10;
/// About how many bytes a state of the automaton takes beside its transitions.
const STATE: usize = 96;
/// About how many bytes every pattern takes.
const BASE: usize = 4 << 10;
/// How many steps it costs to make a state of the automaton, beside one for each place.
const MAKING: u64 = 50;

/// The cost of matching one pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The steps for each byte of text.
    pub(super) steps: u64,
    /// The bytes of memory that the compiled pattern and the caches of one thread take.
    pub(super) bytes: usize,
}

/// The costs of patterns, by their text.
pub(super) type Costs = BTreeMap<String, Pattern>;

/// The rest of the memory for the patterns of all versions of an event type.
pub(super) struct PatternBudget {
    known: Costs,
    bytes: usize,
}

impl Default for PatternBudget {
    fn default() -> Self {
        Self { known: Costs::new(), bytes: MAX_BYTES }
    }
}

impl PatternBudget {
    /// Takes the memory for the patterns of a schema from the budget, and returns the costs of all patterns so far.
    pub(super) fn take(&mut self, schema: &Node<'_>) -> Result<&Costs, Flaw> {
        self.unit(schema, &mut BTreeSet::new(), false)?;
        Ok(&self.known)
    }

    /// Counts the patterns of a schema. A pattern is compiled once for each unit: the document, each part of an `anyOf`
    /// or `oneOf`, and each schema that is `tracked` for an `unevaluated` keyword.
    fn unit<'a>(&mut self, node: &Node<'a>, unit: &mut BTreeSet<&'a str>, tracked: bool) -> Result<(), Flaw> {
        if node.has_rest() && !tracked {
            return self.unit(node, &mut BTreeSet::new(), true);
        }
        if let Some(pattern) = node.plain.get("pattern").and_then(|pattern| pattern.as_str())
            && unit.insert(pattern)
        {
            self.add(pattern, node, "pattern")?;
        }
        // Patterns of names share the compiled pattern, but each has a cache of its own. For a tracked schema, they are
        // compiled once more.
        for pattern in node.named.get("patternProperties").into_iter().flat_map(BTreeMap::keys) {
            for _ in 0..=usize::from(tracked) {
                self.add(pattern, node, "patternProperties")?;
            }
        }
        let named = |key: &&str| node.named.get(*key).into_iter().flat_map(BTreeMap::values);
        for child in ["properties", "patternProperties"].iter().flat_map(named) {
            self.unit(child, unit, false)?;
        }
        for (_, child) in node.dependent() {
            self.part(child, unit, tracked)?;
        }
        for (keyword, child) in &node.single {
            match *keyword {
                "if" | "then" | "else" => self.part(child, unit, tracked)?,
                _ => self.unit(child, unit, false)?,
            }
        }
        for (keyword, nodes) in &node.lists {
            for node in nodes {
                match *keyword {
                    "anyOf" | "oneOf" => self.unit(node, &mut BTreeSet::new(), tracked)?,
                    "allOf" => self.part(node, unit, tracked)?,
                    _ => self.unit(node, unit, false)?,
                }
            }
        }
        Ok(())
    }

    /// Counts the patterns of a schema in place: a unit of its own if it is tracked.
    fn part<'a>(&mut self, node: &Node<'a>, unit: &mut BTreeSet<&'a str>, tracked: bool) -> Result<(), Flaw> {
        if tracked { self.unit(node, &mut BTreeSet::new(), true) } else { self.unit(node, unit, false) }
    }

    fn add(&mut self, pattern: &str, node: &Node<'_>, keyword: &str) -> Result<(), Flaw> {
        let flaw = |problem: String| Flaw::at(&node.pointer.join(keyword), problem);
        if !self.known.contains_key(pattern) {
            if self.known.len() >= MAX_PATTERNS {
                return Err(flaw(format!("more than {MAX_PATTERNS} different patterns in all versions")));
            }
            let what = "a pattern can't be compiled to run in linear time: it is not a regular expression, has a \
                        back-reference or look-around, or is too large";
            let cost = Pattern::of(pattern).ok_or_else(|| flaw(what.to_owned()))?;
            self.known.insert(pattern.to_owned(), cost);
        }
        let bytes = self.known.get(pattern).map_or(0, |pattern| pattern.bytes);
        let what = "the patterns of all versions take more than 4 MiB compiled, counted again for each part of an anyOf \
                    or oneOf";
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| flaw(what.to_owned()))?;
        Ok(())
    }
}

/// The options of the pattern engine: it runs in linear time, within the bounds on memory.
pub(super) fn engine() -> jsonschema::PatternOptions<jsonschema::Regex> {
    jsonschema::PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_CACHE)
}

/// The options of the validator: nothing is fetched, formats only annotate, and patterns take linear time.
pub(super) fn options() -> jsonschema::ValidationOptions<'static> {
    jsonschema::options().offline().should_validate_formats(false).with_pattern_options(engine())
}

impl Pattern {
    /// The cost of a pattern; `None` if it can't be compiled.
    pub(super) fn of(pattern: &str) -> Option<Self> {
        options().build(&json!({ "pattern": pattern })).ok()?;
        let translated = jsonschema_regex::to_rust_regex(pattern).ok()?;
        let (forward, backward) = (nfa(&translated, false)?, nfa(&translated, true)?);
        let compiled = BASE + 2 * (forward.memory_usage() + backward.memory_usage());
        Some(match (automaton(&forward), automaton(&backward)) {
            (Some(a), Some(b)) => Self { steps: 1, bytes: compiled + a + b },
            _ => Self {
                steps: MAKING + forward.states().len().max(backward.states().len()) as u64,
                bytes: compiled + 2 * MAX_CACHE + BACKTRACKING,
            },
        })
    }
}

fn nfa(pattern: &str, reverse: bool) -> Option<NFA> {
    let config = thompson::Config::new().reverse(reverse).which_captures(WhichCaptures::None);
    // The pattern has kept to the engine's own limit, which counts somewhat more.
    NFA::compiler().configure(config.nfa_size_limit(Some(2 * MAX_PATTERN))).build(pattern).ok()
}

/// The size of the automaton in bytes, if it can be kept as a whole.
fn automaton(nfa: &NFA) -> Option<usize> {
    let limit = Some(MAX_CACHE);
    let config = dense::Config::new().dfa_size_limit(limit).determinize_size_limit(limit).accelerate(false);
    let dfa = dense::Builder::new().configure(config).build_from_nfa(nfa).ok()?;
    let states = dfa.memory_usage() / (dfa.stride() * size_of::<u32>()).max(1);
    Some(dfa.memory_usage() + states * STATE).filter(|bytes| *bytes <= MAX_CACHE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_people_write_cost_a_step_for_each_byte() {
        for pattern in [
            "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
            r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$",
            r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$",
            "^(EUR|USD|GBP)$",
            r"^\+[1-9]\d{1,14}$",
            "^(0|[1-9][0-9]*)[.](0|[1-9][0-9]*)$",
            r"^\S+$",
            "^.{1,100}$",
            "^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$",
        ] {
            assert_eq!(Pattern::of(pattern).map(|found| found.steps), Some(1), "{pattern}");
        }
    }

    #[test]
    fn patterns_whose_automaton_is_large_cost_more() {
        for pattern in ["(a|b)*a(a|b){12}c", r"x(a|b){12}a(a|b)*SUFFIX", r"\p{L}{1,3}\b"] {
            assert!(Pattern::of(pattern).is_some_and(|found| found.steps > 50), "{pattern}");
        }
        for pattern in ["(a", "(?=a)b", r"(a)\1", "((((a{1,99}){1,99}){1,99}){1,99})"] {
            assert_eq!(Pattern::of(pattern), None, "{pattern}");
        }
    }
}
