//! The compatibility rule within a major version: a newer schema accepts everything that an older one accepts.
//!
//! The rule is conservative: it refuses whatever it can't show to be compatible. A refusal names, by JSON pointer, the
//! keyword of the newer schema that might refuse a value that the older one accepts. A newer schema is shown to be
//! compatible under these conditions:
//!
//! - `type`: it allows all types that the older schema allows (`integer` is within `number`).
//! - `enum`, `const`: it lists all values that the older schema lists, and may list more.
//! - `required`, `dependentRequired`: it adds no name.
//! - `properties`: each property accepts what it accepted before. A property that the older schema doesn't mention is
//!   new and may have any schema: Hookwright promises nothing for the values that older events have under such a name.
//!   The older schema mentions a property if anything that applies to the same object does, in place (`allOf` and the
//!   like) or from further above ([`Around`]).
//! - `additionalProperties`, `patternProperties`, `items`, `propertyNames`: the schema in it accepts what it accepted
//!   before, for the names or items that it applies to.
//! - `minimum` to `maxProperties`, `multipleOf`: no bound is tighter. `uniqueItems` isn't added, `pattern` doesn't
//!   change.
//! - `allOf`: each part accepts everything that the older schema, or a part of its `allOf`, accepts.
//! - `anyOf`: for each part of the older schema, a part of the newer one accepts everything that it accepts.
//! - `oneOf`, `not`, `if`, `contains`, `prefixItems`, `dependentSchemas`, `dependencies`: they don't change.
//! - `unevaluatedProperties`: it is as `additionalProperties` if no schema applies in place. Otherwise, and with
//!   `unevaluatedItems`, the whole schema doesn't change.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bounds::{self, Types};
use super::compiled::Schema;
use super::flaw::Flaw;
use super::tree::{DEPENDENT, Node, REST};

/// The most steps for comparing the versions of an event type, which take about a second. Each pair of schemas takes
/// one step, and another for every [`STEP`] bytes of the values in them.
const MAX_STEPS: usize = 500_000;
/// How many bytes of values one step compares.
const STEP: usize = 64;

/// A comparison of the versions of an event type, which counts its steps.
#[derive(Default)]
pub(super) struct Comparison {
    steps: usize,
}

/// The context of a schema in the older version: the other schemas there that apply to the same value.
#[derive(Clone, Copy, Default)]
struct Around<'n> {
    /// Whether schemas apply that the comparison can't see at this point.
    hidden: bool,
    /// The outermost schema that the older one is a part of, in place.
    whole: Option<&'n Node<'n>>,
}

impl<'n> Around<'n> {
    fn whole(self, old: &'n Node<'n>) -> &'n Node<'n> {
        self.whole.unwrap_or(old)
    }

    /// The context of a part of the older schema that applies to the same value.
    fn part(self, old: &'n Node<'n>) -> Self {
        Self { whole: Some(self.whole(old)), ..self }
    }

    /// The context of a schema for something within the value. `hidden` tells whether other schemas apply to it, too.
    fn below(self, hidden: bool) -> Self {
        Self { hidden: self.hidden || hidden, whole: None }
    }

    /// The context of a schema for something within the value, to which any schema in place may apply, too.
    fn beneath(self, old: &Node<'_>) -> Self {
        self.below(self.whole.is_some() || old.in_place().next().is_some())
    }
}

fn flaw(new: &Node<'_>, keyword: &str, problem: &str) -> Flaw {
    Flaw::at(&new.keyword(keyword), problem)
}

/// A schema that accepts everything. It stands in where the older document has no schema.
fn open() -> Node<'static> {
    Node::default()
}

impl Comparison {
    /// Shows that `new` accepts everything that `old` accepts.
    ///
    /// # Errors
    /// The place in `new` that might refuse something, or for which compatibility can't be shown.
    pub(super) fn schemas(&mut self, new: &Schema<'_>, old: &Schema<'_>) -> Result<(), Flaw> {
        if new.draft != old.draft {
            return Err(Flaw { pointer: "/$schema".to_owned(), problem: "the draft has changed".to_owned() });
        }
        self.node(&new.tree, &old.tree, Around::default())
    }

    fn step(&mut self, new: &Node<'_>, bytes: usize) -> Result<(), Flaw> {
        self.steps = self.steps.saturating_add(1 + bytes / STEP);
        if self.steps > MAX_STEPS {
            return Err(Flaw::at(&new.pointer, "the schemas are too large to be compared"));
        }
        Ok(())
    }

    fn node(&mut self, new: &Node<'_>, old: &Node<'_>, around: Around<'_>) -> Result<(), Flaw> {
        self.step(new, new.own + old.own)?;
        if old.never || new.is_open() {
            return Ok(());
        }
        if new.never {
            return Err(Flaw::at(&new.pointer, "nothing is accepted here any more"));
        }
        bounds::plain(new, old)?;
        let types = Types::of(old);
        if types.object() {
            self.properties(new, old, around)?;
            self.patterns(new, old, around)?;
            self.additional(new, old, around)?;
            self.within(new, old, "propertyNames", around)?;
        }
        if types.array() {
            self.items(new, old, around)?;
        }
        self.all_of(new, old, around)?;
        self.any_of(new, old, around)?;
        self.unchanged(new, old)
    }

    fn properties(&mut self, new: &Node<'_>, old: &Node<'_>, around: Around<'_>) -> Result<(), Flaw> {
        let Some(properties) = new.named.get("properties") else { return Ok(()) };
        let before = old.named.get("properties");
        for (name, schema) in properties.iter().filter(|(_, schema)| !schema.is_open()) {
            if let Some(before) = before.and_then(|before| before.get(name)) {
                let hidden = self.is_spoken_of(name, around.whole(old), Some(old));
                self.node(schema, before, around.below(hidden))?;
            } else if old.named.contains_key("patternProperties") {
                let what =
                    "can't be shown compatible: the older schema has patternProperties that may apply to this name";
                return Err(Flaw::at(&schema.pointer, what));
            } else if let Some(additional) = additional(old).filter(|node| !node.is_open()) {
                self.node(schema, additional, around.beneath(old))?;
            } else if around.hidden || self.is_spoken_of(name, around.whole(old), None) {
                let what = "can't be shown compatible: the older schema may speak of this name in allOf, anyOf, oneOf, \
                            not, if, dependentSchemas or beside a $ref";
                return Err(Flaw::at(&schema.pointer, what));
            } else if requires(around.whole(old), name) {
                let what = "can't be shown compatible: the older schema asks for this name, with any value";
                return Err(Flaw::at(&schema.pointer, what));
            }
        }
        Ok(())
    }

    /// Whether a schema, or one within it that applies to the same value, restricts the value under a name of an
    /// object. The keywords of `except` itself don't count.
    fn is_spoken_of(&mut self, name: &str, by: &Node<'_>, except: Option<&Node<'_>>) -> bool {
        self.steps += 1;
        let own = || {
            by.named.get("properties").is_some_and(|properties| properties.contains_key(name))
                || by.named.contains_key("patternProperties")
                || ["additionalProperties", "unevaluatedProperties"]
                    .iter()
                    .any(|keyword| by.single.get(keyword).is_some_and(|node| !node.is_open()))
        };
        let excepted = except.is_some_and(|except| std::ptr::eq(except, by));
        !excepted && own() || by.in_place().any(|part| self.is_spoken_of(name, part, except))
    }

    fn patterns(&mut self, new: &Node<'_>, old: &Node<'_>, around: Around<'_>) -> Result<(), Flaw> {
        let Some(patterns) = new.named.get("patternProperties") else { return Ok(()) };
        let before = old.named.get("patternProperties");
        for (pattern, schema) in patterns {
            match before.and_then(|before| before.get(pattern)) {
                Some(before) => self.node(schema, before, around.beneath(old))?,
                None if schema.is_open() => {}
                None => return Err(Flaw::at(&schema.pointer, "can't be shown compatible: a pattern was added")),
            }
        }
        Ok(())
    }

    /// Checks the names that the newer schema leaves to `additionalProperties`.
    fn additional(&mut self, new: &Node<'_>, old: &Node<'_>, around: Around<'_>) -> Result<(), Flaw> {
        let Some(now) = additional(new).filter(|node| !node.is_open()) else {
            return Ok(());
        };
        let (open, around) = (open(), around.beneath(old));
        self.node(now, additional(old).unwrap_or(&open), around)?;
        for key in ["properties", "patternProperties"] {
            let named = new.named.get(key);
            for (name, before) in old.named.get(key).into_iter().flatten() {
                if named.is_none_or(|named| !named.contains_key(name)) && self.node(now, before, around).is_err() {
                    let what = format!("{key}/{name} was removed, and additionalProperties doesn't accept it");
                    return Err(Flaw::at(&now.pointer, what));
                }
            }
        }
        Ok(())
    }

    /// Checks a keyword that holds a schema for some part of the value. If the older schema lacks it, that part was
    /// free.
    fn within(&mut self, new: &Node<'_>, old: &Node<'_>, keyword: &str, around: Around<'_>) -> Result<(), Flaw> {
        let Some(schema) = new.single.get(keyword) else { return Ok(()) };
        let open = open();
        self.node(schema, old.single.get(keyword).unwrap_or(&open), around.beneath(old))
    }

    fn items(&mut self, new: &Node<'_>, old: &Node<'_>, around: Around<'_>) -> Result<(), Flaw> {
        let positional = |node: &Node<'_>| node.lists.contains_key("prefixItems") || node.lists.contains_key("items");
        if !positional(new) && !positional(old) {
            return self.within(new, old, "items", around);
        }
        self.step(new, new.all + old.all)?;
        for keyword in ["prefixItems", "items", "additionalItems"] {
            let lists = |node: &Node<'_>| node.lists.get(keyword).map(|list| values(list));
            let singles = |node: &Node<'_>| node.single.get(keyword).map(Node::to_value);
            let present = new.lists.contains_key(keyword) || new.single.contains_key(keyword);
            if present && (lists(new) != lists(old) || singles(new) != singles(old)) {
                return Err(flaw(new, keyword, "can't be shown compatible: items by position have changed"));
            }
        }
        // Items that had a schema by position must not fall under `items` for all positions.
        if positional(old) && !positional(new) && new.single.contains_key("items") {
            return Err(flaw(new, "items", "can't be shown compatible: items by position have changed"));
        }
        Ok(())
    }

    fn all_of(&mut self, new: &Node<'_>, old: &Node<'_>, around: Around<'_>) -> Result<(), Flaw> {
        for part in new.lists.get("allOf").into_iter().flatten() {
            let Err(flaw) = self.node(part, old, around) else { continue };
            let parts = old.lists.get("allOf").into_iter().flatten();
            let mut closest = None;
            for before in parts {
                match self.node(part, before, around.part(old)) {
                    Ok(()) => {
                        closest = Some(Ok(()));
                        break;
                    }
                    // The part at the same place names best what has changed.
                    Err(flaw) if before.pointer.to_string() == part.pointer.to_string() => closest = Some(Err(flaw)),
                    Err(_) => {}
                }
            }
            closest.unwrap_or(Err(flaw))?;
        }
        Ok(())
    }

    fn any_of(&mut self, new: &Node<'_>, old: &Node<'_>, around: Around<'_>) -> Result<(), Flaw> {
        let Some(parts) = new.lists.get("anyOf") else { return Ok(()) };
        let mut accepted =
            |before: &Node<'_>, around: Around<'_>| parts.iter().any(|part| self.node(part, before, around).is_ok());
        let all = match old.lists.get("anyOf") {
            Some(before) => before.iter().all(|before| accepted(before, around.part(old))) || accepted(old, around),
            None => accepted(old, around),
        };
        if all {
            Ok(())
        } else {
            Err(flaw(new, "anyOf", "can't be shown to accept everything that it accepted before"))
        }
    }

    /// Checks the keywords that must not change. Keywords that belong together are compared together.
    fn unchanged(&mut self, new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
        let present = new.single.keys().chain(new.lists.keys()).chain(new.named.keys());
        if !present.into_iter().any(|key| UNCHANGED.contains(key)) {
            return Ok(());
        }
        self.step(new, new.all + old.all)?;
        let problem = "can't be shown compatible: it has changed";
        let single = |node: &Node<'_>, keyword: &str| node.single.get(keyword).map(Node::to_value);
        for group in [&["not"][..], &["if", "then", "else"], &["contains"]] {
            let Some(first) = group.iter().find(|keyword| new.single.contains_key(**keyword)) else { continue };
            let changed = group.iter().find(|keyword| single(new, keyword) != single(old, keyword));
            if let Some(changed) = changed {
                let at = if new.single.contains_key(*changed) { changed } else { first };
                return Err(flaw(new, at, problem));
            }
        }
        if new.single.contains_key("contains") {
            for keyword in ["minContains", "maxContains"] {
                if new.plain.get(keyword) != old.plain.get(keyword) {
                    return Err(flaw(new, keyword, problem));
                }
            }
        }
        let list = |node: &Node<'_>| node.lists.get("oneOf").map(|list| values(list));
        if new.lists.contains_key("oneOf") && list(new) != list(old) {
            return Err(flaw(new, "oneOf", problem));
        }
        for keyword in DEPENDENT {
            let named = |node: &Node<'_>| -> Option<BTreeMap<String, Value>> {
                let schemas = node.named.get(keyword)?;
                Some(schemas.iter().map(|(name, schema)| ((*name).to_owned(), schema.to_value())).collect())
            };
            if new.named.contains_key(keyword) && named(new) != named(old) {
                return Err(flaw(new, keyword, problem));
            }
        }
        let rest = REST.iter().filter(|keyword| new.single.contains_key(**keyword));
        let rest = rest.filter(|keyword| **keyword == "unevaluatedItems" || additional(new).is_none());
        match rest.into_iter().next().filter(|_| new.to_value() != old.to_value()) {
            Some(keyword) => Err(flaw(new, keyword, "can't be shown compatible: the schema around it has changed")),
            None => Ok(()),
        }
    }
}

/// The schema for the properties that the others of a schema leave over, if it is seen without looking at schemas in
/// place.
fn additional<'n, 'a>(node: &'n Node<'a>) -> Option<&'n Node<'a>> {
    let rest = || node.single.get("unevaluatedProperties").filter(|_| node.in_place().next().is_none());
    node.single.get("additionalProperties").or_else(rest)
}

/// The keywords that must not change.
const UNCHANGED: [&str; 10] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "oneOf",
    "dependentSchemas",
    "dependencies",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Whether an object must have this name, always or when it has another one.
fn requires(old: &Node<'_>, name: &str) -> bool {
    let listed = |value: &Value| value.as_array().is_some_and(|names| names.iter().any(|listed| listed == name));
    old.plain.get("required").is_some_and(|names| listed(names))
        || old
            .plain
            .get("dependentRequired")
            .and_then(|value| value.as_object())
            .is_some_and(|map| map.values().any(listed))
        || old.in_place().any(|part| requires(part, name))
}

fn values(list: &[Node<'_>]) -> Vec<Value> {
    list.iter().map(Node::to_value).collect()
}
