//! The compatibility of keywords that hold plain values, of a newer schema with an older one. `compat` states the rule.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::canonical::canonical;
use super::flaw::Flaw;
use super::tree::Node;

/// The types that a schema allows by its own `type`, `enum` and `const`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Types(Vec<&'static str>);

const ALL: [&str; 6] = ["null", "boolean", "object", "array", "number", "string"];

impl Types {
    pub(super) fn of(node: &Node<'_>) -> Self {
        let mut types = match node.plain.get("type") {
            Some(Value::String(name)) => known(name).into_iter().collect(),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).filter_map(known).collect(),
            _ => ALL.to_vec(),
        };
        if let Some(values) = values(node) {
            let has = |name: &&str| values.iter().any(|value| is_of(value, name));
            types.retain(has);
        }
        Self(types)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    pub(super) fn object(&self) -> bool {
        self.has("object")
    }

    pub(super) fn array(&self) -> bool {
        self.has("array")
    }

    fn number(&self) -> bool {
        self.has("number") || self.has("integer")
    }
}

fn known(name: &str) -> Option<&'static str> {
    ALL.into_iter().chain(["integer"]).find(|known| *known == name)
}

fn is_of(value: &Value, name: &str) -> bool {
    match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Object(_) => name == "object",
        Value::Array(_) => name == "array",
        Value::String(_) => name == "string",
        Value::Number(number) => {
            name == "number"
                || name == "integer" && (!number.is_f64() || number.as_f64().is_some_and(|n| n.fract() == 0.0))
        }
    }
}

/// The values that a keyword lists.
fn listed<'a>(node: &Node<'a>, keyword: &str) -> Option<Vec<&'a Value>> {
    let value = *node.plain.get(keyword)?;
    match value {
        Value::Array(values) if keyword == "enum" => Some(values.iter().collect()),
        _ => Some(vec![value]),
    }
}

/// The values that a schema allows at most, if it lists them. `const` comes first: it is one of the values of `enum`,
/// or the schema accepts nothing.
fn values<'a>(node: &Node<'a>) -> Option<Vec<&'a Value>> {
    listed(node, "const").or_else(|| listed(node, "enum"))
}

/// Checks the keywords with plain values. The error is the first keyword of `new` that might refuse a value that `old`
/// accepts.
pub(super) fn plain(new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
    let types = Types::of(old);
    type_of(new, &types)?;
    values_of(new, old)?;
    if types.object() {
        names(new, old)?;
        bounds(new, old, "minProperties", "maxProperties")?;
    }
    if types.array() {
        bounds(new, old, "minItems", "maxItems")?;
        unless(new, "uniqueItems", is_true(new) && !is_true(old), "items must be unique now")?;
    }
    if types.has("string") {
        bounds(new, old, "minLength", "maxLength")?;
        let pattern = new.plain.get("pattern");
        let changed = pattern.is_some() && pattern != old.plain.get("pattern");
        unless(new, "pattern", changed, "can't be shown compatible: a pattern was added or changed")?;
    }
    if types.number() {
        range(new, old)?;
        multiple(new, old)?;
    }
    Ok(())
}

fn unless(new: &Node<'_>, keyword: &str, wrong: bool, problem: &str) -> Result<(), Flaw> {
    if wrong { Err(Flaw::at(&new.keyword(keyword), problem)) } else { Ok(()) }
}

fn type_of(new: &Node<'_>, old: &Types) -> Result<(), Flaw> {
    if !new.plain.contains_key("type") {
        return Ok(());
    }
    let only_types = Node {
        plain: new.plain.iter().filter(|(key, _)| **key == "type").map(|(k, v)| (*k, *v)).collect(),
        ..Node::default()
    };
    let now = Types::of(&only_types);
    let gone = old.0.iter().find(|name| !(now.has(name) || **name == "integer" && now.has("number")));
    match gone {
        Some(name) => unless(new, "type", true, &format!("{name} is not accepted any more")),
        None => Ok(()),
    }
}

fn values_of(new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
    for keyword in ["const", "enum"] {
        let Some(now) = listed(new, keyword) else { continue };
        let Some(before) = values(old) else {
            return unless(new, keyword, true, "only some values are accepted now");
        };
        let now: BTreeSet<String> = now.into_iter().map(canonical).collect();
        let gone = before.into_iter().any(|value| !now.contains(&canonical(value)));
        unless(new, keyword, gone, "a value is not accepted any more")?;
    }
    Ok(())
}

fn texts(value: Option<&Value>) -> BTreeSet<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn names(new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
    let required = "required";
    let (now, before) = (new.plain.get(required).copied(), old.plain.get(required).copied());
    if let Some(name) = texts(now).difference(&texts(before)).next() {
        return unless(new, required, true, &format!("{:?} is required now", short(name)));
    }
    for (name, required) in dependent(new).into_iter().flatten() {
        let before = dependent(old).and_then(|before| before.get(name));
        let added = texts(Some(required)).difference(&texts(before)).next().is_some();
        unless(new, "dependentRequired", added, &format!("{:?} requires more now", short(name)))?;
    }
    Ok(())
}

fn dependent<'a>(node: &Node<'a>) -> Option<&'a Map<String, Value>> {
    node.plain.get("dependentRequired").and_then(|value| value.as_object())
}

fn short(name: &str) -> String {
    name.chars().take(80).collect()
}

fn is_true(node: &Node<'_>) -> bool {
    node.plain.get("uniqueItems").is_some_and(|value| **value == Value::Bool(true))
}

fn number(node: &Node<'_>, keyword: &str) -> Option<f64> {
    node.plain.get(keyword).and_then(|value| value.as_f64())
}

/// Up to this size, a double tells whole numbers apart.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The bound of the newer schema, if it is new or has changed.
fn changed(new: &Node<'_>, old: &Node<'_>, keyword: &str) -> Result<Option<f64>, Flaw> {
    if new.plain.get(keyword) == old.plain.get(keyword) {
        return Ok(None);
    }
    let now = number(new, keyword);
    let inexact = now.is_some_and(|now| now.abs() > MAX_EXACT);
    unless(new, keyword, inexact, "can't be shown compatible: the bound is beyond 2^53, and has changed")?;
    Ok(now)
}

/// Checks a lower and an upper bound on a count.
fn bounds(new: &Node<'_>, old: &Node<'_>, low: &str, high: &str) -> Result<(), Flaw> {
    let tighter = changed(new, old, low)?.is_some_and(|now| now > number(old, low).unwrap_or(0.0));
    unless(new, low, tighter, "the bound is tighter than before")?;
    let tighter = changed(new, old, high)?.is_some_and(|now| number(old, high).is_none_or(|before| now < before));
    unless(new, high, tighter, "the bound is tighter than before")
}

/// Checks `minimum`, `exclusiveMinimum`, `maximum` and `exclusiveMaximum`.
fn range(new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
    let problem = "the bound is tighter than before";
    for (inclusive, exclusive, sign) in [("minimum", "exclusiveMinimum", 1.0), ("maximum", "exclusiveMaximum", -1.0)] {
        // The sign turns both bounds into lower bounds: the larger one is tighter.
        let of = |keyword: &str| number(old, keyword).map(|n| n * sign);
        let (including, excluding) = (of(inclusive), of(exclusive));
        if let Some(now) = changed(new, old, inclusive)?.map(|n| n * sign) {
            let kept = including.is_some_and(|before| before >= now) || excluding.is_some_and(|before| before >= now);
            unless(new, inclusive, !kept, problem)?;
        }
        if let Some(now) = changed(new, old, exclusive)?.map(|n| n * sign) {
            let kept = including.is_some_and(|before| before > now) || excluding.is_some_and(|before| before >= now);
            unless(new, exclusive, !kept, problem)?;
        }
    }
    Ok(())
}

fn multiple(new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
    let Some(now) = new.plain.get("multipleOf") else { return Ok(()) };
    let kept = match old.plain.get("multipleOf") {
        Some(before) if before == now => true,
        Some(before) => match (before.as_u64(), now.as_u64()) {
            (Some(before), Some(now)) => now > 0 && before % now == 0,
            _ => false,
        },
        None => now.as_u64() == Some(1) && !Types::of(old).has("number"),
    };
    unless(new, "multipleOf", !kept, "can't be shown compatible: multipleOf was added or changed")
}
