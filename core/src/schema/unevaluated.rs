//! The keywords `unevaluatedProperties` and `unevaluatedItems`, in place of the library's own, whose time and memory
//! grow exponentially when schemas with such a keyword are nested. Here each schema looks at a value once, and tells
//! which parts of the value it has evaluated.

use std::collections::HashSet;
use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, Keyword, ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::compiled::build;
use super::tree::UNEVALUATED;

/// The keywords that [`Tracked`] evaluates itself. The others say nothing of what schemas in place have evaluated.
const OWN: [&str; 9] =
    ["allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties"];

/// A schema that tells which parts of a value it has evaluated: properties of an object, or items of an array.
pub(super) struct Tracked {
    /// The keywords that are left to the library.
    others: Validator,
    marks: Marks,
    all_of: Vec<Tracked>,
    any_of: Vec<Tracked>,
    one_of: Vec<Tracked>,
    condition: Option<Box<Tracked>>,
    then: Option<Box<Tracked>>,
    otherwise: Option<Box<Tracked>>,
    dependent: Vec<(String, Tracked)>,
    properties: Option<Validator>,
    items: Option<Validator>,
}

/// The parts of a value that a schema has evaluated, in the order of the value.
type Parts = Vec<bool>;
type Compiled<T> = Result<T, ValidationError<'static>>;

impl Tracked {
    pub(super) fn of(value: &Value, draft: Draft) -> Compiled<Self> {
        let value = value.get(UNEVALUATED).unwrap_or(value);
        let none = Map::new();
        let schema = value.as_object().unwrap_or(&none);
        let list = |keyword: &str| -> Compiled<Vec<Self>> {
            let parts = schema.get(keyword).and_then(Value::as_array).into_iter().flatten();
            parts.map(|part| Self::of(part, draft)).collect()
        };
        let one = |keyword: &str| schema.get(keyword).map(|part| Self::of(part, draft).map(Box::new)).transpose();
        let rest = |keyword: &str| schema.get(keyword).map(|part| build(part, draft)).transpose();
        let dependent = schema.get("dependentSchemas").and_then(Value::as_object).into_iter().flatten();
        let others: Map<String, Value> = schema
            .iter()
            .filter(|(key, _)| !OWN.contains(&key.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let others = if value.is_object() { &Value::Object(others) } else { value };
        Ok(Self {
            others: build(others, draft)?,
            marks: Marks::of(schema, draft)?,
            all_of: list("allOf")?,
            any_of: list("anyOf")?,
            one_of: list("oneOf")?,
            condition: one("if")?,
            then: one("then")?,
            otherwise: one("else")?,
            dependent: dependent
                .map(|(name, part)| Ok((name.clone(), Self::of(part, draft)?)))
                .collect::<Compiled<_>>()?,
            properties: rest("unevaluatedProperties")?,
            items: rest("unevaluatedItems")?,
        })
    }

    /// The parts of the value that the schema has evaluated, or why it refuses the value. To `explain` costs more: the
    /// cause is empty otherwise.
    fn evaluate(&self, value: &Value, explain: bool) -> Result<Parts, Cause> {
        if explain {
            self.others.validate(value).map_err(|error| Cause::of(&error))?;
        } else if !self.others.is_valid(value) {
            return Err(Cause::default());
        }
        let mut parts = self.marks.parts(value);
        for part in &self.all_of {
            merge(&mut parts, &part.evaluate(value, explain)?);
        }
        self.alternatives(value, &mut parts)?;
        let branch = match self.condition.as_ref().map(|condition| condition.evaluate(value, false)) {
            Some(Ok(evaluated)) => {
                merge(&mut parts, &evaluated);
                self.then.as_deref()
            }
            Some(Err(_)) => self.otherwise.as_deref(),
            None => None,
        };
        let has = |name: &str| value.as_object().is_some_and(|object| object.contains_key(name));
        let dependent = self.dependent.iter().filter(|(name, _)| has(name)).map(|(_, part)| part);
        for part in branch.into_iter().chain(dependent) {
            merge(&mut parts, &part.evaluate(value, explain)?);
        }
        self.rest(value, &mut parts)?;
        Ok(parts)
    }

    /// Every part that accepts the value tells what it has evaluated.
    fn alternatives(&self, value: &Value, parts: &mut Parts) -> Result<(), Cause> {
        for (keyword, alternatives) in [("anyOf", &self.any_of), ("oneOf", &self.one_of)] {
            let accepting: Vec<Parts> =
                alternatives.iter().filter_map(|part| part.evaluate(value, false).ok()).collect();
            let refused = accepting.is_empty() || keyword == "oneOf" && accepting.len() > 1;
            if refused && !alternatives.is_empty() {
                return Err(Cause { pointer: String::new(), keyword: keyword.to_owned() });
            }
            accepting.iter().for_each(|evaluated| merge(parts, evaluated));
        }
        Ok(())
    }

    /// Evaluates what is left.
    fn rest(&self, value: &Value, parts: &mut Parts) -> Result<(), Cause> {
        match (value, &self.properties, &self.items) {
            (Value::Object(object), Some(rest), _) => {
                for ((name, part), evaluated) in object.iter().zip(parts) {
                    *evaluated = *evaluated || rest.is_valid(part);
                    if !*evaluated {
                        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
                        return Err(Cause { pointer, keyword: "unevaluatedProperties".to_owned() });
                    }
                }
            }
            (Value::Array(items), _, Some(rest)) => {
                for (i, (item, evaluated)) in items.iter().zip(parts).enumerate() {
                    *evaluated = *evaluated || rest.is_valid(item);
                    if !*evaluated {
                        return Err(Cause { pointer: format!("/{i}"), keyword: "unevaluatedItems".to_owned() });
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn merge(parts: &mut Parts, others: &Parts) {
    parts.iter_mut().zip(others).for_each(|(part, other)| *part |= *other);
}

impl<'i> Keyword<'i> for Tracked {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        self.evaluate(value, true).map(drop).map_err(|cause| ValidationError::custom(cause.to_string()))
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        self.evaluate(value, false).is_ok()
    }
}

/// The parts of a value that a schema's own keywords evaluate, those in place aside.
struct Marks {
    names: HashSet<String>,
    patterns: Vec<Validator>,
    all_properties: bool,
    first_items: usize,
    all_items: bool,
    contains: Option<Validator>,
}

impl Marks {
    fn of(schema: &Map<String, Value>, draft: Draft) -> Compiled<Self> {
        let keys = |keyword: &str| schema.get(keyword).and_then(Value::as_object).into_iter().flat_map(Map::keys);
        Ok(Self {
            names: keys("properties").cloned().collect(),
            patterns: keys("patternProperties")
                .map(|pattern| build(&json!({ "pattern": pattern }), draft))
                .collect::<Compiled<_>>()?,
            all_properties: schema.contains_key("additionalProperties"),
            first_items: schema.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len),
            all_items: schema.contains_key("items"),
            contains: schema.get("contains").map(|part| build(part, draft)).transpose()?,
        })
    }

    fn parts(&self, value: &Value) -> Parts {
        match value {
            Value::Object(object) => object.keys().map(|name| self.has(name)).collect(),
            Value::Array(items) => {
                let contains = |item: &Value| self.contains.as_ref().is_some_and(|schema| schema.is_valid(item));
                let one = |(i, item)| self.all_items || i < self.first_items || contains(item);
                items.iter().enumerate().map(one).collect()
            }
            _ => Parts::new(),
        }
    }

    fn has(&self, name: &str) -> bool {
        if self.all_properties || self.names.contains(name) {
            return true;
        }
        if self.patterns.is_empty() {
            return false;
        }
        let name = Value::String(name.to_owned());
        self.patterns.iter().any(|pattern| pattern.is_valid(&name))
    }
}

/// Why a schema refuses a value: the place in the value as a JSON pointer, and the keyword.
#[derive(Debug, Default)]
pub(super) struct Cause {
    pub(super) pointer: String,
    pub(super) keyword: String,
}

impl Cause {
    pub(super) fn of(error: &ValidationError<'_>) -> Self {
        let pointer = error.instance_path().as_str();
        match error.kind() {
            ValidationErrorKind::Custom { keyword, message } if keyword == UNEVALUATED => {
                let (below, keyword) = message.rsplit_once(' ').unwrap_or_default();
                Self { pointer: format!("{pointer}{below}"), keyword: keyword.to_owned() }
            }
            kind => Self { pointer: pointer.to_owned(), keyword: kind.keyword().to_owned() },
        }
    }
}

/// The form in which a cause passes through the library.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pointer, self.keyword)
    }
}
