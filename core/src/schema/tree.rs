//! A JSON Schema as a tree in which each `$ref` is followed. The bounds, the compatibility rule and the compiler work
//! on this tree.
//!
//! A reference stays within the document and never leads back to itself, so the tree is finite, and its size bounds the
//! cost of validating an event. The tree leaves out unknown keywords and those that only annotate.

use std::collections::BTreeMap;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::draft::is_of_draft;
use super::flaw::{Flaw, Pointer};
use super::names::{Base, Names};
use super::tree_budget::{NODE, TreeBudget};

/// The deepest nesting of schemas, once references are followed.
const MAX_DEPTH: usize = 48;
/// The memory that a schema takes beside that if what it evaluates is kept for an `unevaluated` keyword, in bytes.
const TRACKED: usize = 2048;
/// The memory that a compiled keyword takes beside its texts, in bytes.
const KEYWORD: usize = 160;
/// The longest name of a property, in bytes.
const MAX_NAME: usize = 256;

/// The keyword under which a schema with an `unevaluated` keyword is handed to the library. A schema can't have it
/// itself: the tree leaves out unknown keywords.
pub(super) const UNEVALUATED: &str = "hookwright:unevaluated";

/// Keywords that hold a plain value.
const PLAIN: [&str; 18] = [
    "type",
    "enum",
    "const",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxProperties",
    "minProperties",
    "required",
    "dependentRequired",
];
/// Keywords that hold one schema.
const SINGLE: [&str; 8] = ["items", "additionalProperties", "propertyNames", "contains", "not", "if", "then", "else"];
/// Keywords for what no other keyword of a schema, or in place, has evaluated.
pub(super) const REST: [&str; 2] = ["unevaluatedItems", "unevaluatedProperties"];
/// Keywords whose schemas are looked up by name or pattern.
const NAMED: [&str; 2] = ["properties", "patternProperties"];
/// Keywords that would make the meaning of a schema depend on more than the document, or on how it is reached.
const REFUSED: [&str; 4] = ["$dynamicRef", "$recursiveRef", "$recursiveAnchor", "$vocabulary"];

/// One schema of the tree. The schema `true` is a node without keywords.
#[derive(Clone, Default)]
pub(super) struct Node<'a> {
    pub(super) pointer: Pointer,
    /// About how many bytes the plain values of this schema take.
    pub(super) own: usize,
    /// About how many bytes this schema takes with the schemas in it.
    pub(super) all: usize,
    /// Whether this is the schema `false`.
    pub(super) never: bool,
    pub(super) plain: BTreeMap<&'a str, &'a Value>,
    pub(super) single: BTreeMap<&'a str, Node<'a>>,
    pub(super) lists: BTreeMap<&'a str, Vec<Node<'a>>>,
    pub(super) named: BTreeMap<&'a str, BTreeMap<&'a str, Node<'a>>>,
}

impl Node<'_> {
    /// The place of one of this schema's keywords.
    pub(super) fn keyword(&self, keyword: &str) -> Pointer {
        self.pointer.join(keyword)
    }

    /// The tree as a schema without references. A schema with an `unevaluated` keyword stands under [`UNEVALUATED`].
    pub(super) fn to_value(&self) -> Value {
        if self.never {
            return Value::Bool(false);
        }
        let mut map: Map<String, Value> = Map::new();
        map.extend(self.plain.iter().map(|(key, value)| ((*key).to_owned(), (*value).clone())));
        map.extend(self.single.iter().map(|(key, node)| ((*key).to_owned(), node.to_value())));
        let list = |nodes: &Vec<Self>| Value::Array(nodes.iter().map(Self::to_value).collect());
        map.extend(self.lists.iter().map(|(key, nodes)| ((*key).to_owned(), list(nodes))));
        let named = |nodes: &BTreeMap<&str, Self>| {
            Value::Object(nodes.iter().map(|(name, node)| ((*name).to_owned(), node.to_value())).collect())
        };
        map.extend(self.named.iter().map(|(key, nodes)| ((*key).to_owned(), named(nodes))));
        let map = Value::Object(map);
        if self.has_rest() { Value::Object([(UNEVALUATED.to_owned(), map)].into_iter().collect()) } else { map }
    }

    /// Whether the schema has an `unevaluated` keyword.
    pub(super) fn has_rest(&self) -> bool {
        REST.iter().any(|keyword| self.single.contains_key(keyword))
    }
}

/// Reads a document that the meta-schema has accepted into a tree.
pub(super) fn read<'a>(root: &'a Value, draft: Draft, budget: &mut TreeBudget) -> Result<Node<'a>, Flaw> {
    let names = Names::of(root, draft)?;
    let base = names.root().base;
    let mut reader = Reader { root, names, base, draft, budget, open: Vec::new() };
    reader.node(root, &Pointer::default(), Nesting::default())
}

struct Reader<'a, 'r> {
    root: &'a Value,
    names: Names<'a>,
    /// The base of the references in the schema that is being read.
    base: Base,
    draft: Draft,
    budget: &'r mut TreeBudget,
    /// The schemas that the references lead to which are being followed.
    open: Vec<*const Value>,
}

/// The place of a schema in the tree: its depth, and the length of the path to it in bytes. Each compiled keyword keeps
/// its path as a text.
#[derive(Clone, Copy, Default)]
struct Nesting {
    depth: usize,
    path: usize,
}

impl Nesting {
    fn within(self, key: &str) -> Self {
        Self { path: self.path + key.len() + 1, ..self }
    }

    fn deeper(self, token: &str) -> Self {
        Self { depth: self.depth + 1, ..self.within(token) }
    }
}

impl<'a> Reader<'a, '_> {
    fn node(&mut self, value: &'a Value, at: &Pointer, nesting: Nesting) -> Result<Node<'a>, Flaw> {
        let base = self.names.base(value).unwrap_or(&self.base).clone();
        let around = std::mem::replace(&mut self.base, base);
        let node = self.schema(value, at, nesting);
        self.base = around;
        node
    }

    fn schema(&mut self, value: &'a Value, at: &Pointer, nesting: Nesting) -> Result<Node<'a>, Flaw> {
        self.budget.node(at, nesting.path)?;
        if nesting.depth > MAX_DEPTH {
            return Err(Flaw::at(at, format!("schemas are nested more than {MAX_DEPTH} deep")));
        }
        let mut node = Node { pointer: at.clone(), ..Node::default() };
        let object = match value {
            Value::Object(object) => object,
            Value::Bool(always) => {
                node.never = !always;
                return Ok(node);
            }
            _ => return Err(Flaw::at(at, "a schema is an object or a boolean")),
        };
        if let Some(keyword) = REFUSED.iter().find(|keyword| object.contains_key(**keyword)) {
            return Err(Flaw::at(&at.join(*keyword), format!("{keyword} is not supported")));
        }
        if !is_of_draft(value, self.draft) && !std::ptr::eq(value, self.root) {
            return Err(Flaw::at(&at.join("$schema"), "$schema must name the same draft everywhere in the document"));
        }
        let target =
            object.get("$ref").map(|reference| self.follow(reference, &at.join("$ref"), nesting)).transpose()?;
        // Before draft 2019-09, keywords beside a reference don't count.
        let ignored = target.is_some() && self.draft == Draft::Draft7;
        for (key, value) in object {
            if !ignored || key == "definitions" || key == "$defs" {
                self.keyword(&mut node, key, value, at, nesting.within(key))?;
            }
        }
        match target {
            Some(target) if node.is_open() => return Ok(target),
            Some(target) => node.lists.entry("allOf").or_default().insert(0, target),
            None => {}
        }
        node.own = node.plain.values().map(|value| size(value)).sum();
        node.all = NODE + node.own + node.children().map(|child| child.all).sum::<usize>();
        if node.has_rest() {
            self.budget.bytes(TRACKED * node.count_in_place(), at)?;
        }
        Ok(node)
    }

    fn keyword(
        &mut self,
        node: &mut Node<'a>,
        key: &'a str,
        value: &'a Value,
        at: &Pointer,
        nesting: Nesting,
    ) -> Result<(), Flaw> {
        let at = at.join(key);
        let modern = self.draft != Draft::Draft7;
        match (key, value) {
            ("dependentRequired", _) if !modern => {}
            ("minContains" | "maxContains", _) if modern => self.plain(node, key, value, &at, nesting)?,
            (_, _) if PLAIN.contains(&key) => self.plain(node, key, value, &at, nesting)?,
            ("items", Value::Array(list)) | ("allOf" | "anyOf" | "oneOf", Value::Array(list)) => {
                self.list(node, key, list, &at, nesting)?;
            }
            ("prefixItems", Value::Array(list)) if modern => self.list(node, key, list, &at, nesting)?,
            ("additionalItems", _) if !modern => {
                drop(node.single.insert(key, self.node(value, &at, nesting.deeper(""))?))
            }
            (_, _) if SINGLE.contains(&key) => {
                drop(node.single.insert(key, self.node(value, &at, nesting.deeper(""))?))
            }
            (_, _) if REST.contains(&key) => {
                if !modern {
                    return Err(Flaw::at(&at, format!("{key} is not a keyword of draft-07: use 2020-12")));
                }
                drop(node.single.insert(key, self.node(value, &at, nesting.deeper(""))?))
            }
            ("dependentSchemas", Value::Object(map)) if modern => self.named(node, key, map, &at, nesting)?,
            ("dependencies", Value::Object(map)) if !modern => self.named(node, key, map, &at, nesting)?,
            (_, Value::Object(map)) if NAMED.contains(&key) => self.named(node, key, map, &at, nesting)?,
            ("$defs" | "definitions", Value::Object(map)) => {
                for (name, schema) in map {
                    self.node(schema, &at.join(name), nesting.deeper(name))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn plain(
        &mut self,
        node: &mut Node<'a>,
        key: &'a str,
        value: &'a Value,
        at: &Pointer,
        nesting: Nesting,
    ) -> Result<(), Flaw> {
        self.budget.bytes(KEYWORD + nesting.path + size(value), at)?;
        node.plain.insert(key, value);
        Ok(())
    }

    fn list(
        &mut self,
        node: &mut Node<'a>,
        key: &'a str,
        list: &'a [Value],
        at: &Pointer,
        nesting: Nesting,
    ) -> Result<(), Flaw> {
        let read = list.iter().enumerate().map(|(i, schema)| {
            let i = i.to_string();
            self.node(schema, &at.join(&i), nesting.deeper(&i))
        });
        let nodes = read.collect::<Result<Vec<_>, Flaw>>()?;
        node.lists.insert(key, nodes);
        Ok(())
    }

    fn named(
        &mut self,
        node: &mut Node<'a>,
        key: &'a str,
        map: &'a Map<String, Value>,
        at: &Pointer,
        nesting: Nesting,
    ) -> Result<(), Flaw> {
        let mut nodes = BTreeMap::new();
        for (name, schema) in map {
            if name.len() > MAX_NAME {
                return Err(Flaw::at(at, format!("a name is longer than {MAX_NAME} bytes")));
            }
            let (at, nesting) = (at.join(name), nesting.deeper(name));
            let schema = match schema {
                Value::Array(_) if key == "dependencies" => self.required(schema, &at, nesting)?,
                _ => self.node(schema, &at, nesting)?,
            };
            nodes.insert(name.as_str(), schema);
        }
        node.named.insert(key, nodes);
        Ok(())
    }

    /// The schema that a list of names in `dependencies` stands for.
    fn required(&mut self, names: &'a Value, at: &Pointer, nesting: Nesting) -> Result<Node<'a>, Flaw> {
        self.budget.node(at, nesting.path)?;
        let mut node = Node { pointer: at.clone(), own: size(names), ..Node::default() };
        node.all = NODE + node.own;
        self.plain(&mut node, "required", names, at, nesting)?;
        Ok(node)
    }

    fn follow(&mut self, reference: &'a Value, at: &Pointer, nesting: Nesting) -> Result<Node<'a>, Flaw> {
        let text = reference.as_str().unwrap_or_default();
        let target = self.names.find(text, &self.base).map_err(|problem| Flaw::at(at, problem))?;
        let address = std::ptr::from_ref(target.value);
        if self.open.contains(&address) {
            return Err(Flaw::at(at, "a $ref must not lead back to itself: recursive schemas are not supported"));
        }
        self.open.push(address);
        let around = std::mem::replace(&mut self.base, target.base);
        let node = self.node(target.value, &target.pointer, nesting.deeper("allOf"));
        self.base = around;
        self.open.pop();
        node
    }
}

/// Keywords whose schemas apply to the value itself, not to something within it.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// Keywords whose schemas apply to an object that has a name.
pub(super) const DEPENDENT: [&str; 2] = ["dependentSchemas", "dependencies"];

impl<'a> Node<'a> {
    /// Whether this schema accepts everything because it has no keyword.
    pub(super) fn is_open(&self) -> bool {
        !self.never && self.plain.is_empty() && self.single.is_empty() && self.lists.is_empty() && self.named.is_empty()
    }

    /// The schemas directly in this one.
    fn children(&self) -> impl Iterator<Item = &Node<'a>> {
        let named = self.named.values().flat_map(BTreeMap::values);
        self.single.values().chain(self.lists.values().flatten()).chain(named)
    }

    /// The schemas directly in this one that apply to the same value.
    pub(super) fn in_place(&self) -> impl Iterator<Item = &Node<'a>> {
        let single = IN_PLACE.iter().filter_map(|key| self.single.get(key));
        let lists = IN_PLACE.iter().filter_map(|key| self.lists.get(key)).flatten();
        single.chain(lists).chain(self.dependent().map(|(_, node)| node))
    }

    /// The schemas that apply to an object if it has a name.
    pub(super) fn dependent(&self) -> impl Iterator<Item = (&'a str, &Node<'a>)> {
        DEPENDENT.iter().filter_map(|key| self.named.get(key)).flatten().map(|(name, node)| (*name, node))
    }

    /// The number of schemas in place, this one included.
    fn count_in_place(&self) -> usize {
        1 + self.in_place().map(Node::count_in_place).sum::<usize>()
    }
}

/// About how many bytes of memory a value takes.
fn size(value: &Value) -> usize {
    let below = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(size).sum::<usize>(),
        Value::Object(map) => map.iter().map(|(key, value)| 2 * size_of::<Value>() + key.len() + size(value)).sum(),
    };
    size_of::<Value>() + below
}

/// Whether a value is nested deeper than `than` levels.
pub(super) fn is_deeper(value: &Value, than: usize) -> bool {
    let below = |value: &Value| than == 0 || is_deeper(value, than - 1);
    match value {
        Value::Array(list) => list.iter().any(below),
        Value::Object(map) => map.values().any(below),
        _ => false,
    }
}
