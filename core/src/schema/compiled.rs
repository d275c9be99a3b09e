//! Compiled schemas, and the validation of events.

use std::sync::Arc;

use jsonschema::paths::Location;
use jsonschema::{Draft, Keyword, ValidationError, Validator};
use serde_json::Value;

use super::canonical;
use super::data::Instance;
use super::draft::draft;
use super::flaw::{Flaw, MAX_JSON_DEPTH, SchemaError, invalid};
use super::patterns::{self, options};
use super::tree::{self, Node, UNEVALUATED};
use super::tree_budget::TreeBudget;
use super::unevaluated::{Cause, Tracked};
use super::version::{SchemaVersion, VersionedSchema};
use super::violation::Violation;
use super::work::{FEW_STEPS, MAX_STEPS, Steps, Work};

/// The longest pointer in a [`Violation`], in characters.
const MAX_POINTER: usize = 256;

/// The compiled schemas of an event type.
#[derive(Debug)]
pub struct EventSchema {
    /// The versions, from the lowest to the highest.
    versions: Vec<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    version: SchemaVersion,
    uri: Option<String>,
    deprecated: bool,
    work: Work,
    validator: Validator,
}

impl EventSchema {
    /// Compiles all versions.
    ///
    /// # Errors
    /// If one of them can't be compiled within the bounds.
    pub fn compile(schemas: &[VersionedSchema]) -> Result<Self, SchemaError> {
        let mut versions = Vec::with_capacity(schemas.len());
        let mut budget = SchemaBudget::default();
        for version in schemas {
            let compiled = read(&version.json_schema, &mut budget).and_then(|schema| schema.compile(&mut budget));
            let (work, validator) = compiled.map_err(|flaw| invalid(&version.version, flaw))?;
            versions.push(Compiled {
                version: version.version.clone(),
                uri: version.uri.clone(),
                deprecated: version.deprecated,
                work,
                validator,
            });
        }
        versions.sort_by(|a, b| a.version.cmp(&b.version));
        Ok(Self { versions })
    }

    /// The version that an event is validated by: the one that the event names, else the one whose URI it names, else
    /// the highest.
    fn choose(&self, instance: &Instance) -> Result<&Compiled, Violation> {
        self.named(instance.version.as_deref(), instance.uri.as_deref())
    }

    /// The major version of an event that names this version and this URI, if it names them.
    #[must_use]
    pub fn major(&self, version: Option<&str>, uri: Option<&str>) -> Option<u32> {
        self.named(version, uri).ok().map(|compiled| compiled.version.major())
    }

    fn named(&self, version: Option<&str>, uri: Option<&str>) -> Result<&Compiled, Violation> {
        if let Some(text) = version {
            let version =
                SchemaVersion::parse(text).map_err(|_| Violation::of_event("ce-schemaversion is no version"))?;
            let found = self.versions.iter().find(|compiled| compiled.version == version);
            return found
                .ok_or_else(|| Violation::of_event("ce-schemaversion names a version that the EventSchema lacks"));
        }
        let by_uri = uri.and_then(|uri| self.versions.iter().find(|compiled| compiled.uri.as_deref() == Some(uri)));
        let highest = self.versions.last();
        by_uri.or(highest).ok_or_else(Violation::no_schema)
    }

    /// Whether validating this event takes no more than a fraction of a millisecond.
    #[must_use]
    pub fn is_quick(&self, instance: &Instance) -> bool {
        let mut steps = Steps::new(FEW_STEPS);
        self.choose(instance).is_ok_and(|compiled| compiled.work.count(&instance.data, &mut steps).is_ok())
    }

    /// Whether the version that applies to the event is deprecated.
    #[must_use]
    pub fn is_deprecated(&self, instance: &Instance) -> bool {
        self.choose(instance).is_ok_and(|compiled| compiled.deprecated)
    }

    /// Validates an event by its schema.
    ///
    /// # Errors
    /// The first violation that is found. An event whose validation would take too long counts as a violation.
    pub fn validate(&self, instance: &Instance) -> Result<(), Violation> {
        let compiled = self.choose(instance)?;
        if compiled.work.count(&instance.data, &mut Steps::new(MAX_STEPS)).is_err() {
            return Err(Violation::of_event(
                "the event is too large for its schema: validating it would take too long",
            ));
        }
        let Err(error) = compiled.validator.validate(&instance.data) else { return Ok(()) };
        let Cause { pointer, keyword } = Cause::of(&error);
        Err(Violation {
            version: Some(compiled.version.to_string()),
            pointer: pointer.chars().take(MAX_POINTER).collect(),
            keyword: Some(keyword),
            problem: "violates".into(),
        })
    }
}

/// The rest of the memory that all versions of an event type together may take when compiled.
#[derive(Default)]
pub(super) struct SchemaBudget {
    trees: TreeBudget,
    patterns: patterns::PatternBudget,
}

/// A schema that has been read, and whose tree is within the bounds.
pub(super) struct Schema<'a> {
    pub(super) draft: Draft,
    pub(super) tree: Node<'a>,
}

/// Reads a schema, and takes the memory of its tree from the budget.
pub(super) fn read<'a>(schema: &'a Value, budget: &mut SchemaBudget) -> Result<Schema<'a>, Flaw> {
    if tree::is_deeper(schema, MAX_JSON_DEPTH) {
        let problem = format!("the JSON is nested more than {MAX_JSON_DEPTH} deep");
        return Err(Flaw { pointer: String::new(), problem });
    }
    let draft = draft(schema)?;
    let meta = match draft {
        Draft::Draft7 => jsonschema::draft7::meta::validate(schema),
        _ => jsonschema::draft202012::meta::validate(schema),
    };
    meta.map_err(|error| Flaw {
        pointer: error.instance_path().as_str().to_owned(),
        problem: format!("not a valid JSON Schema: {}", error.kind().keyword()),
    })?;
    let tree = tree::read(schema, draft, &mut budget.trees)?;
    Ok(Schema { draft, tree })
}

impl Schema<'_> {
    /// Compiles the schema, and takes the memory of its patterns from the budget.
    pub(super) fn compile(&self, budget: &mut SchemaBudget) -> Result<(Work, Validator), Flaw> {
        let work = Work::of(&self.tree, budget.patterns.take(&self.tree)?);
        let validator = build(&self.tree.to_value(), self.draft).map_err(|error| Flaw {
            pointer: error.schema_path().as_str().to_owned(),
            problem: format!("can't be compiled: {}", error.kind().keyword()),
        })?;
        Ok((work, validator))
    }
}

pub(super) fn build(schema: &Value, draft: Draft) -> Result<Validator, ValidationError<'static>> {
    options()
        .with_draft(draft)
        .with_keyword("anyOf", move |_, value, at| several(value, at, draft, |n| n > 0))
        .with_keyword("oneOf", move |_, value, at| several(value, at, draft, |n| n == 1))
        .with_keyword("uniqueItems", |_, value, _| Ok(Box::new(Unique { wanted: *value == Value::Bool(true) })))
        .with_keyword(UNEVALUATED, move |_, value, _| Ok(Box::new(Tracked::of(value, draft)?)))
        .build(schema)
}

/// The keyword `uniqueItems`, in place of the library's own. An event can make the time of the library's grow with the
/// square of its size, as it can make all items alike in what the library compares first.
struct Unique {
    wanted: bool,
}

impl<'i> Keyword<'i> for Unique {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) { Ok(()) } else { Err(ValidationError::custom("two items are equal")) }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        !self.wanted || instance.as_array().is_none_or(|items| canonical::is_unique(items))
    }
}

/// The keywords `anyOf` and `oneOf`, in place of the library's own, which copy the value once for each error in each
/// part.
struct Several {
    parts: Arc<[Validator]>,
    /// Whether the keyword holds if so many parts accept the value; 2 stands for two or more.
    fits: fn(usize) -> bool,
}

fn several<'a>(
    value: &'a Value,
    _: Location,
    draft: Draft,
    fits: fn(usize) -> bool,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    let parts = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let parts = parts.iter().map(|part| build(part, draft)).collect::<Result<_, _>>()?;
    Ok(Box::new(Several { parts, fits }))
}

impl<'i> Keyword<'i> for Several {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) { Ok(()) } else { Err(ValidationError::custom("none or several of the parts fit")) }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        (self.fits)(self.parts.iter().filter(|part| part.is_valid(instance)).take(2).count())
    }
}
