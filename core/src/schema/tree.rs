//! A JSON Schema read into a tree in which each `$ref` is followed: what the bounds, the compatibility rule and the
//! compiler work on.
//!
//! A reference stays within the document and never leads back to itself, so the tree is finite, and its size bounds
//! what an event can cost. Keywords that only annotate are left out, and so are unknown ones.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::Flaw;

/// How many schemas the tree may have, each reference counted as what it stands for.
const MAX_NODES: usize = 5000;
/// How deep schemas may lie in each other, references followed.
const MAX_DEPTH: usize = 48;
/// How large all values in the tree may be together, in bytes of JSON, about.
const MAX_BYTES: usize = 1 << 20;
/// The longest name of a property, in bytes.
const MAX_NAME: usize = 256;

/// Keywords that hold a value.
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
/// Keywords that hold a schema.
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

/// A place in a document, as a JSON pointer.
#[derive(Clone, Default)]
pub(super) struct Pointer(Option<Rc<(Pointer, String)>>);

impl Pointer {
    pub(super) fn join(&self, token: impl Into<String>) -> Self {
        Self(Some(Rc::new((self.clone(), token.into()))))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = &self.0 else { return Ok(()) };
        write!(f, "{}/{}", last.0, last.1.replace('~', "~0").replace('/', "~1"))
    }
}

/// One schema of the tree. `true` is one without keywords.
#[derive(Clone, Default)]
pub(super) struct Node<'a> {
    pub(super) pointer: Pointer,
    /// The schema `false`.
    pub(super) never: bool,
    pub(super) plain: BTreeMap<&'a str, &'a Value>,
    pub(super) single: BTreeMap<&'a str, Node<'a>>,
    pub(super) lists: BTreeMap<&'a str, Vec<Node<'a>>>,
    pub(super) named: BTreeMap<&'a str, BTreeMap<&'a str, Node<'a>>>,
}

impl Node<'_> {
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

/// Reads a document that the meta-schema has accepted.
pub(super) fn read(root: &Value, draft: Draft) -> Result<Node<'_>, Flaw> {
    let mut reader = Reader { root, draft, nodes: 0, bytes: 0, open: Vec::new() };
    reader.node(root, &Pointer::default(), 0)
}

struct Reader<'a> {
    root: &'a Value,
    draft: Draft,
    nodes: usize,
    bytes: usize,
    /// The references that are being followed.
    open: Vec<String>,
}

impl<'a> Reader<'a> {
    fn node(&mut self, value: &'a Value, at: &Pointer, depth: usize) -> Result<Node<'a>, Flaw> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let what = format!("more than {MAX_NODES} schemas, each reference counted as what it stands for");
            return Err(Flaw::at(at, what));
        }
        if depth > MAX_DEPTH {
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
        let target = object.get("$ref").map(|reference| self.follow(reference, &at.join("$ref"), depth)).transpose()?;
        // Before 2019-09, nothing beside a reference counts.
        let ignored = target.is_some() && self.draft == Draft::Draft7;
        for (key, value) in object {
            if !ignored || key == "definitions" || key == "$defs" {
                self.keyword(&mut node, key, value, at, depth)?;
            }
        }
        match target {
            Some(target) if node.is_open() => Ok(target),
            Some(target) => {
                node.lists.entry("allOf").or_default().insert(0, target);
                Ok(node)
            }
            None => Ok(node),
        }
    }

    fn keyword(
        &mut self,
        node: &mut Node<'a>,
        key: &'a str,
        value: &'a Value,
        at: &Pointer,
        depth: usize,
    ) -> Result<(), Flaw> {
        let at = at.join(key);
        let modern = self.draft != Draft::Draft7;
        match (key, value) {
            ("dependentRequired", _) if !modern => {}
            ("minContains" | "maxContains", _) if modern => self.plain(node, key, value, &at)?,
            (_, _) if PLAIN.contains(&key) => self.plain(node, key, value, &at)?,
            ("items", Value::Array(list)) | ("allOf" | "anyOf" | "oneOf", Value::Array(list)) => {
                self.list(node, key, list, &at, depth)?;
            }
            ("prefixItems", Value::Array(list)) if modern => self.list(node, key, list, &at, depth)?,
            ("additionalItems", _) if !modern => drop(node.single.insert(key, self.node(value, &at, depth + 1)?)),
            (_, _) if SINGLE.contains(&key) => drop(node.single.insert(key, self.node(value, &at, depth + 1)?)),
            ("dependentSchemas", Value::Object(map)) if modern => self.named(node, key, map, &at, depth)?,
            (_, Value::Object(map)) if NAMED.contains(&key) => self.named(node, key, map, &at, depth)?,
            ("dependencies", Value::Object(_)) if !modern => {
                return Err(Flaw::at(&at, "dependencies is not supported: use 2020-12 and dependentRequired"));
            }
            ("$defs" | "definitions", Value::Object(map)) => {
                for (name, schema) in map {
                    self.node(schema, &at.join(name), depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn plain(&mut self, node: &mut Node<'a>, key: &'a str, value: &'a Value, at: &Pointer) -> Result<(), Flaw> {
        self.bytes += size(value);
        if self.bytes > MAX_BYTES {
            return Err(Flaw::at(at, "the schema is larger than 1 MiB once its references are followed"));
        }
        node.plain.insert(key, value);
        Ok(())
    }

    fn list(
        &mut self,
        node: &mut Node<'a>,
        key: &'a str,
        list: &'a [Value],
        at: &Pointer,
        depth: usize,
    ) -> Result<(), Flaw> {
        let read = list.iter().enumerate().map(|(i, schema)| self.node(schema, &at.join(i.to_string()), depth + 1));
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
        depth: usize,
    ) -> Result<(), Flaw> {
        let mut nodes = BTreeMap::new();
        for (name, schema) in map {
            if name.len() > MAX_NAME {
                return Err(Flaw::at(at, format!("a name is longer than {MAX_NAME} bytes")));
            }
            self.bytes += name.len();
            nodes.insert(name.as_str(), self.node(schema, &at.join(name), depth + 1)?);
        }
        node.named.insert(key, nodes);
        Ok(())
    }

    fn follow(&mut self, reference: &'a Value, at: &Pointer, depth: usize) -> Result<Node<'a>, Flaw> {
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
        let node = self.node(target, &pointer, depth + 1);
        self.open.pop();
        node
    }
}

impl Node<'_> {
    /// Whether it accepts everything.
    pub(super) fn is_open(&self) -> bool {
        !self.never && self.plain.is_empty() && self.single.is_empty() && self.lists.is_empty() && self.named.is_empty()
    }
}

/// Bytes of JSON, about.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 3,
        Value::Array(list) => 2 + list.iter().map(size).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(key, value)| key.len() + 4 + size(value)).sum::<usize>(),
    }
}

/// Whether a value is nested deeper than this.
pub(super) fn is_deeper(value: &Value, than: usize) -> bool {
    let below = |value: &Value| than == 0 || is_deeper(value, than - 1);
    match value {
        Value::Array(list) => list.iter().any(below),
        Value::Object(map) => map.values().any(below),
        _ => false,
    }
}
