//! A JSON Schema as a tree in which each `$ref` is followed. The bounds, the compatibility rule and the compiler work
//! on this tree.
//!
//! A reference stays within the document and never leads back to itself, so the tree is finite, and its size bounds the
//! cost of validating an event. The tree leaves out unknown keywords and those that only annotate.

use std::collections::BTreeMap;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::flaw::{Flaw, Pointer};

/// The most schemas in the trees of all versions, where each reference counts as the schemas that it stands for.
const MAX_NODES: usize = 5000;
/// The deepest nesting of schemas, once references are followed.
const MAX_DEPTH: usize = 48;
/// About the most memory that the trees of all versions may take, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// The memory that a compiled schema takes beside its texts, in bytes.
const NODE: usize = 320;
/// The memory that a compiled keyword takes beside its texts, in bytes.
const KEYWORD: usize = 160;
/// The longest name of a property, in bytes.
const MAX_NAME: usize = 256;

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
/// Keywords whose schemas are looked up by name or pattern.
const NAMED: [&str; 2] = ["properties", "patternProperties"];
/// Keywords that would make the meaning of a schema depend on more than the document, or on how it is reached.
const REFUSED: [&str; 8] = [
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
    "$anchor",
    "$vocabulary",
    "unevaluatedItems",
    "unevaluatedProperties",
];

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

    /// The tree as a schema without references.
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
        Value::Object(map)
    }
}

/// The rest of the schemas and of the memory for the trees of all versions of an event type.
pub(super) struct TreeBudget {
    nodes: usize,
    bytes: usize,
}

impl Default for TreeBudget {
    fn default() -> Self {
        Self { nodes: MAX_NODES, bytes: MAX_BYTES }
    }
}

impl TreeBudget {
    fn node(&mut self, at: &Pointer, path: usize) -> Result<(), Flaw> {
        self.nodes = self.nodes.checked_sub(1).ok_or_else(|| {
            let what =
                format!("more than {MAX_NODES} schemas in all versions, each reference counted as what it stands for");
            Flaw::at(at, what)
        })?;
        self.bytes(NODE + path, at)
    }

    fn bytes(&mut self, bytes: usize, at: &Pointer) -> Result<(), Flaw> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| {
            Flaw::at(at, "the schemas of all versions take more than 4 MiB once their references are followed")
        })?;
        Ok(())
    }
}

/// Reads a document that the meta-schema has accepted into a tree.
pub(super) fn read<'a>(root: &'a Value, draft: Draft, budget: &mut TreeBudget) -> Result<Node<'a>, Flaw> {
    let mut reader = Reader { root, draft, budget, open: Vec::new() };
    reader.node(root, &Pointer::default(), Nesting::default())
}

struct Reader<'a, 'r> {
    root: &'a Value,
    draft: Draft,
    budget: &'r mut TreeBudget,
    /// The references that are being followed, as JSON pointers.
    open: Vec<String>,
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
        if !std::ptr::eq(value, self.root)
            && let Some(keyword) = ["$id", "$schema"].iter().find(|keyword| object.contains_key(**keyword))
        {
            return Err(Flaw::at(&at.join(*keyword), format!("{keyword} is supported at the top only")));
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
            ("dependentSchemas", Value::Object(map)) if modern => self.named(node, key, map, &at, nesting)?,
            (_, Value::Object(map)) if NAMED.contains(&key) => self.named(node, key, map, &at, nesting)?,
            ("dependencies", Value::Object(_)) if !modern => {
                return Err(Flaw::at(&at, "dependencies is not supported: use 2020-12 and dependentRequired"));
            }
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
            nodes.insert(name.as_str(), self.node(schema, &at.join(name), nesting.deeper(name))?);
        }
        node.named.insert(key, nodes);
        Ok(())
    }

    fn follow(&mut self, reference: &'a Value, at: &Pointer, nesting: Nesting) -> Result<Node<'a>, Flaw> {
        let text = reference.as_str().unwrap_or_default();
        let Some(fragment) = text.strip_prefix('#') else {
            return Err(Flaw::at(at, "a $ref must stay within the document: it begins with '#'"));
        };
        let path = percent_encoding::percent_decode_str(fragment).decode_utf8_lossy().into_owned();
        let found = self.root.pointer(&path);
        let Some(target) = found else {
            return Err(Flaw::at(at, "a $ref must be a JSON pointer to something in the document"));
        };
        if self.open.contains(&path) {
            return Err(Flaw::at(at, "a $ref must not lead back to itself: recursive schemas are not supported"));
        }
        let tokens = path.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"));
        let pointer = tokens.fold(Pointer::default(), |pointer, token| pointer.join(token));
        self.open.push(path);
        let node = self.node(target, &pointer, nesting.deeper("allOf"));
        self.open.pop();
        node
    }
}

/// Keywords whose schemas apply to the value itself, not to something within it.
const IN_PLACE: [&str; 8] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"];

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
        single.chain(lists).chain(self.named.get("dependentSchemas").into_iter().flat_map(BTreeMap::values))
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
