//! The keywords that hold plain values, older against newer: see `compat` for the rule.

use serde_json::Value;

use super::Flaw;
use super::compat::keyword_pointer;
use super::tree::Node;

/// The types that a schema allows, as far as its own `type`, `enum` and `const` say.
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
        if let Some(values) = listed(node) {
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

/// The values that `enum` or `const` lists.
fn listed<'a>(node: &Node<'a>) -> Option<Vec<&'a Value>> {
    if let Some(value) = node.plain.get("const") {
        return Some(vec![*value]);
    }
    let Some(Value::Array(values)) = node.plain.get("enum") else { return None };
    Some(values.iter().collect())
}

/// The first of the plain keywords that might refuse what the older schema accepts.
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
    if wrong { Err(Flaw::at(&keyword_pointer(new, keyword), problem)) } else { Ok(()) }
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
    let Some(now) = listed(new) else { return Ok(()) };
    let keyword = if new.plain.contains_key("const") { "const" } else { "enum" };
    let Some(before) = listed(old) else {
        return unless(new, keyword, true, "only some values are accepted now");
    };
    let gone = before.iter().any(|value| !now.contains(value));
    unless(new, keyword, gone, "a value is not accepted any more")
}

fn texts(value: Option<&&Value>) -> Vec<String> {
    let list = value.and_then(|value| value.as_array()).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn names(new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
    let before = texts(old.plain.get("required"));
    let added = texts(new.plain.get("required")).into_iter().find(|name| !before.contains(name));
    if let Some(name) = added {
        return unless(new, "required", true, &format!("{:?} is required now", short(&name)));
    }
    let dependent = |node: &Node<'_>| node.plain.get("dependentRequired").and_then(|value| value.as_object().cloned());
    let before = dependent(old).unwrap_or_default();
    for (name, required) in dependent(new).unwrap_or_default() {
        let (now, before) = (texts(Some(&&required)), texts(before.get(&name).as_ref()));
        let added = now.iter().any(|name| !before.contains(name));
        unless(new, "dependentRequired", added, &format!("{:?} requires more now", short(&name)))?;
    }
    Ok(())
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

/// A lower and an upper bound on a count.
fn bounds(new: &Node<'_>, old: &Node<'_>, low: &str, high: &str) -> Result<(), Flaw> {
    let tighter = number(new, low).is_some_and(|now| now > number(old, low).unwrap_or(0.0));
    unless(new, low, tighter, "the bound is tighter than before")?;
    let tighter = number(new, high).is_some_and(|now| number(old, high).is_none_or(|before| now < before));
    unless(new, high, tighter, "the bound is tighter than before")
}

/// `minimum` to `exclusiveMaximum`. Numbers beyond 2^53 are compared as the nearest double.
fn range(new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
    let problem = "the bound is tighter than before";
    for (inclusive, exclusive, sign) in [("minimum", "exclusiveMinimum", 1.0), ("maximum", "exclusiveMaximum", -1.0)] {
        // With the sign, both are lower bounds; a larger one is tighter.
        let of = |node: &Node<'_>, keyword: &str| number(node, keyword).map(|n| n * sign);
        let (including, excluding) = (of(old, inclusive), of(old, exclusive));
        if let Some(now) = of(new, inclusive) {
            let kept = including.is_some_and(|before| before >= now) || excluding.is_some_and(|before| before >= now);
            unless(new, inclusive, !kept, problem)?;
        }
        if let Some(now) = of(new, exclusive) {
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
