//! The cost of validating data, counted before the validation so that an event that costs too much is not validated.
//!
//! The count walks the schema and the data together, as the validation does. It counts each keyword that the validation
//! might evaluate, even if an earlier keyword would already decide the result. The walk ends when the bound is reached.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::patterns::Costs;
use super::tree::Node;

/// The most steps that an event may take. The tests measure how long a step takes; docs/reference/event-schemas.md
/// gives the figures.
pub(super) const MAX_STEPS: u64 = 4_000_000;
/// Up to this many steps, validating takes a fraction of a millisecond.
pub(super) const FEW_STEPS: u64 = 20_000;
/// How many steps it takes to look up a name in an object.
const LOOKUP: u64 = 4;
/// How many steps it takes to divide two numbers.
const DIVISION: u64 = 200;
/// How many steps it takes to copy or compare a value, beside its texts.
const COPY: u64 = 8;
/// How many bytes of a text one step counts, copies or compares.
const TEXT: u64 = 16;

/// The steps that are left.
pub(super) struct Steps(u64);

/// No steps are left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Steps {
    pub(super) fn new(steps: u64) -> Self {
        Self(steps)
    }

    fn take(&mut self, steps: u64) -> Result<(), Exhausted> {
        self.0 = self.0.checked_sub(steps).ok_or(Exhausted)?;
        Ok(())
    }
}

/// The cost of a schema's keywords in steps, with the costs of the schemas in it.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// The steps for any value.
    here: u64,
    /// The steps for a number.
    number: u64,
    /// The steps for each byte of a text, in units of 1/[`TEXT`].
    byte: u64,
    /// The steps for an object.
    lookups: u64,
    /// Whether all items are compared with each other.
    unique: bool,
    in_place: Vec<Work>,
    properties: HashMap<Box<str>, Work>,
    /// For each pattern of names: the steps for each byte of a name, in units of 1/[`TEXT`], and the cost of the value.
    patterns: Vec<(u64, Work)>,
    additional: Option<Box<Work>>,
    names: Option<Box<Work>>,
    items: Vec<Work>,
    positions: Vec<Work>,
    /// The cost of each property for `unevaluatedProperties`.
    rest: Option<Box<Work>>,
    /// Whether the schema has an `unevaluated` keyword.
    copies: bool,
    /// Whether the schema tells which parts of a value it evaluates, for an `unevaluated` keyword.
    tracked: bool,
}

impl Work {
    pub(super) fn of(node: &Node<'_>, patterns: &Costs) -> Self {
        Self::node(node, patterns, false)
    }

    /// The cost of a schema. `tracked`: an `unevaluated` keyword of a schema in whose place it stands asks what it
    /// evaluates.
    fn node(node: &Node<'_>, patterns: &Costs, tracked: bool) -> Self {
        let tracked = tracked || node.has_rest();
        let of = |node: &Node<'_>| Self::node(node, patterns, false);
        // What is in `contains` is evaluated once to validate, and once to tell.
        let again = ["contains"].into_iter().filter(|_| tracked);
        let steps = |pattern: &str| patterns.get(pattern).map_or(1, |pattern| pattern.steps) * TEXT;
        let named = |key: &str| node.named.get(key).into_iter().flatten();
        let mut work = Self {
            here: 1 + node.named.len() as u64,
            in_place: node.in_place().map(|node| Self::node(node, patterns, tracked)).collect(),
            properties: named("properties").map(|(name, node)| (Box::from(*name), of(node))).collect(),
            patterns: named("patternProperties").map(|(pattern, node)| (steps(pattern), of(node))).collect(),
            additional: node.single.get("additionalProperties").map(|node| Box::new(of(node))),
            names: node.single.get("propertyNames").map(|node| Box::new(of(node))),
            items: ["items", "additionalItems", "contains", "unevaluatedItems"]
                .into_iter()
                .chain(again)
                .filter_map(|key| node.single.get(key))
                .map(of)
                .collect(),
            positions: ["prefixItems", "items"]
                .iter()
                .filter_map(|key| node.lists.get(key))
                .flatten()
                .map(of)
                .collect(),
            rest: node.single.get("unevaluatedProperties").map(|node| Box::new(of(node))),
            copies: node.has_rest(),
            tracked,
            ..Self::default()
        };
        work.lookups += LOOKUP * (work.properties.len() + node.dependent().count()) as u64;
        for (keyword, value) in &node.plain {
            work.add(keyword, value, &steps);
        }
        work
    }

    fn add(&mut self, keyword: &str, value: &Value, steps: &impl Fn(&str) -> u64) {
        self.here += 1;
        match keyword {
            "pattern" => self.byte += value.as_str().map_or(0, steps),
            "minLength" | "maxLength" => self.byte += 1,
            "multipleOf" => self.number += DIVISION,
            "uniqueItems" => self.unique |= *value == Value::Bool(true),
            "required" | "dependentRequired" => self.lookups += LOOKUP * size(value),
            "enum" | "const" => self.here += size(value),
            _ => {}
        }
    }

    /// Takes the steps that validating a value needs.
    pub(super) fn count(&self, value: &Value, left: &mut Steps) -> Result<(), Exhausted> {
        left.take(self.here)?;
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(_) => left.take(self.number)?,
            Value::String(text) => left.take(self.byte * text.len() as u64 / TEXT)?,
            Value::Array(list) => self.array(list, left)?,
            Value::Object(map) => self.object(map, left)?,
        }
        if self.copies {
            // Each error is handed on with a copy of the value.
            copy(value, left)?;
        }
        self.in_place.iter().try_for_each(|work| work.count(value, left))
    }

    fn array(&self, list: &[Value], left: &mut Steps) -> Result<(), Exhausted> {
        if self.tracked {
            left.take(list.len() as u64)?;
        }
        if !self.unique && self.items.is_empty() && self.positions.is_empty() {
            return Ok(());
        }
        for (i, item) in list.iter().enumerate() {
            left.take(1)?;
            if self.unique {
                copy(item, left)?;
            }
            self.items.iter().chain(self.positions.get(i)).try_for_each(|work| work.count(item, left))?;
        }
        Ok(())
    }

    fn object(&self, map: &Map<String, Value>, left: &mut Steps) -> Result<(), Exhausted> {
        left.take(self.lookups)?;
        let each = !self.properties.is_empty() || !self.patterns.is_empty() || self.rest.is_some();
        if !each && !self.tracked && self.additional.is_none() && self.names.is_none() {
            return Ok(());
        }
        map.iter().try_for_each(|(name, value)| self.property(name, value, left))
    }

    fn property(&self, name: &str, value: &Value, left: &mut Steps) -> Result<(), Exhausted> {
        let times = 1 + u64::from(self.tracked);
        left.take(times * (LOOKUP + name.len() as u64 / TEXT))?;
        if let Some(names) = &self.names {
            names.text(name.len() as u64, left)?;
        }
        for (byte, work) in &self.patterns {
            left.take(times * byte * name.len() as u64 / TEXT)?;
            work.count(value, left)?;
        }
        if let Some(rest) = &self.rest {
            rest.count(value, left)?;
        }
        match self.properties.get(name) {
            Some(work) => work.count(value, left),
            None => self.additional.iter().try_for_each(|work| work.count(value, left)),
        }
    }

    /// Takes the steps that validating a name of an object needs.
    fn text(&self, len: u64, left: &mut Steps) -> Result<(), Exhausted> {
        left.take(self.here + len / TEXT + self.byte * len / TEXT)?;
        self.in_place.iter().try_for_each(|work| work.text(len, left))
    }
}

/// Takes the steps for copying a value in order to compare it with others.
fn copy(value: &Value, left: &mut Steps) -> Result<(), Exhausted> {
    left.take(COPY)?;
    match value {
        Value::String(text) => left.take(text.len() as u64 / TEXT),
        Value::Array(list) => list.iter().try_for_each(|item| copy(item, left)),
        Value::Object(map) => map.iter().try_for_each(|(name, value)| {
            left.take(COPY + name.len() as u64 / TEXT)?;
            copy(value, left)
        }),
        _ => Ok(()),
    }
}

/// The number of values within a value of a schema, itself included; a long text counts as several.
pub(super) fn size(value: &Value) -> u64 {
    match value {
        Value::String(text) => 1 + text.len() as u64 / TEXT,
        Value::Array(list) => 1 + list.iter().map(size).sum::<u64>(),
        Value::Object(map) => {
            1 + map.iter().map(|(name, value)| 1 + name.len() as u64 / TEXT + size(value)).sum::<u64>()
        }
        _ => 1,
    }
}
