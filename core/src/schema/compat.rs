//! Whether one schema accepts everything that another one accepts: the rule within a major version.
//!
//! The rule is conservative. A violation names the keyword of the newer schema, by JSON pointer, that might refuse what
//! the older one accepts; what can't be shown to be compatible is refused, too. What it can show:
//!
//! - `type`: the newer one allows all the older one's types (`integer` is within `number`).
//! - `enum`, `const`: only values that the older one's `enum` or `const` doesn't have may be added.
//! - `required`, `dependentRequired`: nothing added.
//! - `properties`: each accepts what it accepted before. A property of which the older schema says nothing is new and
//!   may have any schema: values that older events have under such a name are no promise. It says something if anything
//!   that applies to the same object does, in place (`allOf` and the like) or from further above ([`Around`]).
//! - `additionalProperties`, `patternProperties`, `items`, `propertyNames`: the same, for what they apply to.
//! - `minimum` to `maxProperties`, `multipleOf`: no bound tighter; `uniqueItems` not added; `pattern` not changed.
//! - `allOf`: each part accepts what the older schema, or a part of its `allOf`, accepts. `anyOf`: each part of the
//!   older one has one in the newer one that accepts it.
//! - `oneOf`, `not`, `if`, `contains`, `prefixItems`, `dependentSchemas`: not changed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bounds::{self, Types};
use super::compiled::Schema;
use super::flaw::Flaw;
use super::tree::Node;

/// How many steps the versions of an event type are compared in: for each pair of schemas one, and one for each so many
/// bytes of the values in them. It takes about a second.
const MAX_STEPS: usize = 500_000;
const STEP: usize = 64;

/// Compares the versions of an event type.
#[derive(Default)]
pub(super) struct Comparison {
    steps: usize,
}

/// What else the older version holds against the value that a schema of it is held against.
#[derive(Clone, Copy, Default)]
struct Around<'n> {
    /// Schemas that are not looked at here.
    hidden: bool,
    /// The schema that the older one is a part of, in place.
    whole: Option<&'n Node<'n>>,
}

impl<'n> Around<'n> {
    fn whole(self, old: &'n Node<'n>) -> &'n Node<'n> {
        self.whole.unwrap_or(old)
    }

    /// For a part of the older schema that is held against the same value.
    fn part(self, old: &'n Node<'n>) -> Self {
        Self { whole: Some(self.whole(old)), ..self }
    }

    /// For a schema of what is in the value: hidden is what other schemas say of that.
    fn below(self, hidden: bool) -> Self {
        Self { hidden: self.hidden || hidden, whole: None }
    }

    /// For a schema of what is in the value, where anything may be said of it by others.
    fn beneath(self, old: &Node<'_>) -> Self {
        self.below(self.whole.is_some() || old.in_place().next().is_some())
    }
}

fn flaw(new: &Node<'_>, keyword: &str, problem: &str) -> Flaw {
    Flaw::at(&new.keyword(keyword), problem)
}

/// A schema that accepts everything, standing where the older document has none.
fn open() -> Node<'static> {
    Node::default()
}

impl Comparison {
    /// Shows that `new` accepts everything that `old` accepts.
    ///
    /// # Errors
    /// The place in `new` that might not, or of which it can't be shown.
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
            } else if let Some(additional) = old.single.get("additionalProperties").filter(|node| !node.is_open()) {
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

    /// Whether a schema, or one in it that is held against the same value, says what is under a name of an object.
    fn is_spoken_of(&mut self, name: &str, by: &Node<'_>, except: Option<&Node<'_>>) -> bool {
        self.steps += 1;
        let own = || {
            by.named.get("properties").is_some_and(|properties| properties.contains_key(name))
                || by.named.contains_key("patternProperties")
                || by.single.get("additionalProperties").is_some_and(|node| !node.is_open())
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

    /// Names that the newer schema leaves to `additionalProperties`.
    fn additional(&mut self, new: &Node<'_>, old: &Node<'_>, around: Around<'_>) -> Result<(), Flaw> {
        let Some(additional) = new.single.get("additionalProperties").filter(|node| !node.is_open()) else {
            return Ok(());
        };
        let (open, around) = (open(), around.beneath(old));
        self.node(additional, old.single.get("additionalProperties").unwrap_or(&open), around)?;
        for key in ["properties", "patternProperties"] {
            let now = new.named.get(key);
            for (name, before) in old.named.get(key).into_iter().flatten() {
                if now.is_none_or(|now| !now.contains_key(name)) && self.node(additional, before, around).is_err() {
                    let what = format!("{key}/{name} was removed, and additionalProperties doesn't accept it");
                    return Err(Flaw::at(&additional.pointer, what));
                }
            }
        }
        Ok(())
    }

    /// A keyword that holds a schema for some part of the value; absent in the older one, it accepted everything.
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
        // What is left of them must not fall to another keyword.
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
                    // The part that stands at the same place says best what has changed.
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

    /// Keywords that are compatible only as they were. Those that belong together are compared together.
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
        let named = |node: &Node<'_>| -> Option<BTreeMap<String, Value>> {
            let schemas = node.named.get("dependentSchemas")?;
            Some(schemas.iter().map(|(name, schema)| ((*name).to_owned(), schema.to_value())).collect())
        };
        if new.named.contains_key("dependentSchemas") && named(new) != named(old) {
            return Err(flaw(new, "dependentSchemas", problem));
        }
        Ok(())
    }
}

/// Keywords that are compatible only as they were.
const UNCHANGED: [&str; 7] = ["not", "if", "then", "else", "contains", "oneOf", "dependentSchemas"];

/// Whether an object must have this name, always or beside another one.
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
