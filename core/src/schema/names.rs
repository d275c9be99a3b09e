//! What names and references in a schema document stand for: `$id`, `$anchor`, `$ref`.
//!
//! A document may hold several resources, each a schema with an `$id`, against which the references in it are resolved.
//! Everything that a reference may lead to is within the document.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use jsonschema::uri::{from_str, resolve_against};
use jsonschema::{Draft, Uri};
use serde_json::{Map, Value};

use super::flaw::{Flaw, Pointer};

/// The most names, each an `$id` or an anchor, in a document.
const MAX_NAMES: usize = 500;
/// The longest URI of a resource, once it is resolved, in bytes.
const MAX_URI: usize = 1024;
/// The longest `$ref`, in bytes.
const MAX_REFERENCE: usize = 2048;
/// The base of a document without an `$id`.
const DEFAULT_BASE: &str = "json-schema:///";

/// Keywords that hold one schema, in some draft.
const SINGLE: [&str; 12] = [
    "items",
    "additionalItems",
    "additionalProperties",
    "propertyNames",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
/// Keywords that hold a list of schemas.
const LISTS: [&str; 5] = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
/// Keywords that hold schemas by name.
const NAMED: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

/// The URI against which the references of a resource are resolved.
pub(super) type Base = Rc<Uri<String>>;

/// A schema in the document: its place, and the base of its references.
#[derive(Clone)]
pub(super) struct Place<'a> {
    pub(super) value: &'a Value,
    pub(super) pointer: Pointer,
    pub(super) base: Base,
}

struct Resource<'a> {
    place: Place<'a>,
    anchors: BTreeMap<&'a str, Place<'a>>,
}

/// The names in a document.
pub(super) struct Names<'a> {
    draft: Draft,
    root: Place<'a>,
    resources: HashMap<String, Resource<'a>>,
    /// The base of each schema that is a resource, by the schema's address.
    bases: HashMap<*const Value, Base>,
    count: usize,
}

impl<'a> Names<'a> {
    /// Collects the names of a document.
    pub(super) fn of(root: &'a Value, draft: Draft) -> Result<Self, Flaw> {
        let at = Pointer::default();
        let base = from_str(DEFAULT_BASE).map_err(|_| Flaw::at(&at, "the default base is not a URI"))?;
        let root = Place { value: root, pointer: at, base: Rc::new(base) };
        let mut names = Self { draft, root: root.clone(), resources: HashMap::new(), bases: HashMap::new(), count: 0 };
        names.resource(&root);
        names.schema(root)?;
        Ok(names)
    }

    /// The document as a whole.
    pub(super) fn root(&self) -> Place<'a> {
        self.root.clone()
    }

    /// The base of a schema's own references: another one than around it if the schema is a resource.
    pub(super) fn base(&self, schema: &Value) -> Option<&Base> {
        self.bases.get(&std::ptr::from_ref(schema))
    }

    /// The schema that a reference leads to.
    ///
    /// # Errors
    /// What is wrong with the reference.
    pub(super) fn find(&self, reference: &str, base: &Base) -> Result<Place<'a>, &'static str> {
        const OUTSIDE: &str = "a $ref must stay within the document: no $id there has this URI, and nothing is fetched";
        if reference.len() > MAX_REFERENCE {
            return Err("a $ref is longer than 2048 bytes");
        }
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let resource = if uri.is_empty() {
            self.resources.get(base.as_str())
        } else {
            let uri = resolve_against(&base.borrow(), uri).map_err(|_| "a $ref must be a URI reference")?;
            self.resources.get(uri.as_str())
        };
        let resource = resource.ok_or(OUTSIDE)?;
        let fragment = percent_encoding::percent_decode_str(fragment).decode_utf8_lossy();
        if fragment.is_empty() {
            return Ok(resource.place.clone());
        }
        if !fragment.starts_with('/') {
            let anchor = resource.anchors.get(&*fragment);
            return anchor.cloned().ok_or("a $ref must be a JSON pointer or an anchor of something in the document");
        }
        let tokens = fragment.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"));
        let found = tokens.into_iter().try_fold(resource.place.clone(), |place, token| self.step(&place, token));
        found.ok_or("a $ref must be a JSON pointer to something in the document")
    }

    fn step(&self, from: &Place<'a>, token: String) -> Option<Place<'a>> {
        let value = match from.value {
            Value::Object(map) => map.get(&token)?,
            Value::Array(list) => {
                let index = Some(&token).filter(|token| *token == "0" || !token.starts_with(['0', '+']))?;
                list.get(index.parse::<usize>().ok()?)?
            }
            _ => return None,
        };
        let base = self.base(value).unwrap_or(&from.base).clone();
        Some(Place { value, pointer: from.pointer.join(token), base })
    }

    /// Collects the names in a schema and in those below it.
    fn schema(&mut self, mut place: Place<'a>) -> Result<(), Flaw> {
        let Value::Object(object) = place.value else { return Ok(()) };
        // Before draft 2019-09, keywords beside a reference don't count.
        if self.draft != Draft::Draft7 || !object.contains_key("$ref") {
            self.own(object, &mut place)?;
        }
        let below = |place: &Place<'a>, key: &str, value: &'a Value| Place {
            value,
            pointer: place.pointer.join(key),
            base: place.base.clone(),
        };
        for (key, value) in object {
            let at = below(&place, key, value);
            match value {
                Value::Array(list) if LISTS.contains(&key.as_str()) => {
                    for (i, schema) in list.iter().enumerate() {
                        self.schema(below(&at, &i.to_string(), schema))?;
                    }
                }
                Value::Object(map) if NAMED.contains(&key.as_str()) => {
                    for (name, schema) in map {
                        self.schema(below(&at, name, schema))?;
                    }
                }
                Value::Object(_) if SINGLE.contains(&key.as_str()) => self.schema(at)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Collects the names of a schema itself. An `$id` becomes the base of what is in it.
    fn own(&mut self, object: &'a Map<String, Value>, place: &mut Place<'a>) -> Result<(), Flaw> {
        if let Some(id) = object.get("$id").and_then(Value::as_str) {
            let at = place.pointer.join("$id");
            let (uri, anchor) = id.split_once('#').unwrap_or((id, ""));
            if !uri.is_empty() {
                self.id(uri, place, &at)?;
            }
            // Before draft 2019-09, this was how an anchor was written.
            if !anchor.is_empty() {
                self.anchor(anchor, place, &at)?;
            }
        }
        for keyword in ["$anchor", "$dynamicAnchor"] {
            if let Some(anchor) = object.get(keyword).and_then(Value::as_str).filter(|_| self.draft != Draft::Draft7) {
                self.anchor(anchor, place, &place.pointer.join(keyword))?;
            }
        }
        Ok(())
    }

    fn id(&mut self, uri: &str, place: &mut Place<'a>, at: &Pointer) -> Result<(), Flaw> {
        self.counted(at)?;
        let long = || Flaw::at(at, format!("a URI is longer than {MAX_URI} bytes"));
        let uri = Some(uri).filter(|uri| uri.len() <= MAX_URI).ok_or_else(long)?;
        let uri = resolve_against(&place.base.borrow(), uri).map_err(|_| Flaw::at(at, "an $id must be a URI"))?;
        place.base = Rc::new(Some(uri).filter(|uri| uri.as_str().len() <= MAX_URI).ok_or_else(long)?);
        self.bases.insert(std::ptr::from_ref(place.value), place.base.clone());
        if self.resources.contains_key(place.base.as_str()) {
            return Err(Flaw::at(at, "two schemas in the document have the same $id"));
        }
        self.resource(place);
        Ok(())
    }

    fn resource(&mut self, place: &Place<'a>) {
        let resource = Resource { place: place.clone(), anchors: BTreeMap::new() };
        self.resources.insert(place.base.as_str().to_owned(), resource);
    }

    fn anchor(&mut self, name: &'a str, place: &Place<'a>, at: &Pointer) -> Result<(), Flaw> {
        self.counted(at)?;
        let resource = self.resources.get_mut(place.base.as_str());
        let taken = resource.and_then(|resource| resource.anchors.insert(name, place.clone()));
        match taken {
            Some(_) => Err(Flaw::at(at, "two schemas in the document have the same anchor")),
            None => Ok(()),
        }
    }

    fn counted(&mut self, at: &Pointer) -> Result<(), Flaw> {
        self.count += 1;
        let problem = || Flaw::at(at, format!("more than {MAX_NAMES} $id and $anchor"));
        if self.count > MAX_NAMES { Err(problem()) } else { Ok(()) }
    }
}
