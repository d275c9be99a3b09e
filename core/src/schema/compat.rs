//! Whether one schema accepts everything that another one accepts: the rule within a major version.
//!
//! The rule is conservative. A violation names the keyword of the newer schema, by JSON pointer, that might refuse what
//! the older one accepts; what can't be shown to be compatible is refused, too. What it can show:
//!
//! - `type`: the newer one allows all the older one's types (`integer` is within `number`).
//! - `enum`, `const`: only values that the older one's `enum` or `const` doesn't have may be added.
//! - `required`, `dependentRequired`: nothing added.
//! - `properties`: each accepts what it accepted before. A property that the older schema doesn't name is new and may
//!   have any schema, unless `additionalProperties` of the older one says what it was; values that older events have
//!   under a name of which the older schema says nothing are no promise.
//! - `additionalProperties`, `patternProperties`, `items`, `propertyNames`: the same, for what they apply to.
//! - `minimum` to `maxProperties`, `multipleOf`: no bound tighter; `uniqueItems` not added; `pattern` not changed.
//! - `allOf`: each part accepts what the older schema, or a part of its `allOf`, accepts. `anyOf`: each part of the
//!   older one has one in the newer one that accepts it.
//! - `oneOf`, `not`, `if`, `contains`, `prefixItems`, `dependentSchemas`: not changed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Flaw;
use super::bounds::{self, Types};
use super::tree::{Node, Pointer};

/// How many pairs of schemas are compared.
const MAX_STEPS: usize = 200_000;

/// Shows that `new` accepts everything that `old` accepts.
///
/// # Errors
/// The place in `new` that might not, or of which it can't be shown.
pub(super) fn accepts(new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
    Comparison { steps: 0 }.node(new, old)
}

struct Comparison {
    steps: usize,
}

fn flaw(new: &Node<'_>, keyword: &str, problem: &str) -> Flaw {
    Flaw::at(&new.pointer.join(keyword), problem)
}

/// A schema that accepts everything, standing where the older document has none.
fn open() -> Node<'static> {
    Node::default()
}

impl Comparison {
    fn node(&mut self, new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(Flaw::at(&new.pointer, "the schemas are too large to be compared"));
        }
        if old.never || new.is_open() {
            return Ok(());
        }
        if new.never {
            return Err(Flaw::at(&new.pointer, "nothing is accepted here any more"));
        }
        bounds::plain(new, old)?;
        let types = Types::of(old);
        if types.object() {
            self.properties(new, old)?;
            self.patterns(new, old)?;
            self.additional(new, old)?;
            self.within(new, old, "propertyNames")?;
        }
        if types.array() {
            self.items(new, old)?;
        }
        self.all_of(new, old)?;
        self.any_of(new, old)?;
        unchanged(new, old)
    }

    fn properties(&mut self, new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
        let Some(properties) = new.named.get("properties") else { return Ok(()) };
        let before = old.named.get("properties");
        for (name, schema) in properties {
            if let Some(before) = before.and_then(|before| before.get(name)) {
                self.node(schema, before)?;
            } else if old.named.contains_key("patternProperties") && !schema.is_open() {
                let what =
                    "can't be shown compatible: the older schema has patternProperties that may apply to this name";
                return Err(Flaw::at(&schema.pointer, what));
            } else if let Some(additional) = old.single.get("additionalProperties").filter(|node| !node.is_open()) {
                self.node(schema, additional)?;
            }
        }
        Ok(())
    }

    fn patterns(&mut self, new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
        let Some(patterns) = new.named.get("patternProperties") else { return Ok(()) };
        let before = old.named.get("patternProperties");
        for (pattern, schema) in patterns {
            match before.and_then(|before| before.get(pattern)) {
                Some(before) => self.node(schema, before)?,
                None if schema.is_open() => {}
                None => return Err(Flaw::at(&schema.pointer, "can't be shown compatible: a pattern was added")),
            }
        }
        Ok(())
    }

    /// Names that the newer schema leaves to `additionalProperties`.
    fn additional(&mut self, new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
        let Some(additional) = new.single.get("additionalProperties").filter(|node| !node.is_open()) else {
            return Ok(());
        };
        let open = open();
        self.node(additional, old.single.get("additionalProperties").unwrap_or(&open))?;
        for key in ["properties", "patternProperties"] {
            let now = new.named.get(key);
            for (name, before) in old.named.get(key).into_iter().flatten() {
                if now.is_none_or(|now| !now.contains_key(name)) && self.node(additional, before).is_err() {
                    let what = format!("{key}/{name} was removed, and additionalProperties doesn't accept it");
                    return Err(Flaw::at(&additional.pointer, what));
                }
            }
        }
        Ok(())
    }

    /// A keyword that holds a schema for some part of the value; absent in the older one, it accepted everything.
    fn within(&mut self, new: &Node<'_>, old: &Node<'_>, keyword: &str) -> Result<(), Flaw> {
        let Some(schema) = new.single.get(keyword) else { return Ok(()) };
        let open = open();
        self.node(schema, old.single.get(keyword).unwrap_or(&open))
    }

    fn items(&mut self, new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
        let positional = |node: &Node<'_>| node.lists.contains_key("prefixItems") || node.lists.contains_key("items");
        if !positional(new) && !positional(old) {
            return self.within(new, old, "items");
        }
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

    fn all_of(&mut self, new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
        for part in new.lists.get("allOf").into_iter().flatten() {
            let Err(flaw) = self.node(part, old) else { continue };
            let parts = old.lists.get("allOf").into_iter().flatten();
            let mut closest = None;
            for before in parts {
                match self.node(part, before) {
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

    fn any_of(&mut self, new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
        let Some(parts) = new.lists.get("anyOf") else { return Ok(()) };
        let mut accepted = |before: &Node<'_>| parts.iter().any(|part| self.node(part, before).is_ok());
        let all = match old.lists.get("anyOf") {
            Some(before) => before.iter().all(&mut accepted) || accepted(old),
            None => accepted(old),
        };
        if all {
            Ok(())
        } else {
            Err(flaw(new, "anyOf", "can't be shown to accept everything that it accepted before"))
        }
    }
}

fn values(list: &[Node<'_>]) -> Vec<Value> {
    list.iter().map(Node::to_value).collect()
}

/// Keywords that are compatible only as they were. Those that belong together are compared together.
fn unchanged(new: &Node<'_>, old: &Node<'_>) -> Result<(), Flaw> {
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

/// The pointer of a keyword, for `bounds`.
pub(super) fn keyword_pointer(node: &Node<'_>, keyword: &str) -> Pointer {
    node.pointer.join(keyword)
}
