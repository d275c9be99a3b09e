//! Compiled filters and their evaluation.

use std::collections::BTreeMap;
use std::fmt;

use super::sql::Sql;
use super::{Filter, MAX_DEPTH, MAX_LIST, MAX_VALUE};
use crate::expression::{
    Attribute, Cel, CompileError, Cost, Jmespath, RunError, Variables, is_attribute, not_an_attribute,
};

/// The cost of comparing an attribute.
const COMPARISON: Cost = Cost(200);

/// Why a filter is not accepted, and where it is in the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct InvalidFilter {
    /// The place, such as `filters[0].all[1].sql`.
    pub place: String,
    /// The problem there.
    pub problem: Problem,
}

/// A problem of a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An expression doesn't compile.
    #[error(transparent)]
    Expression(#[from] CompileError),
    /// A list or a map is empty or too long.
    #[error("it has {0} entries; 1 to {MAX_LIST} are allowed")]
    Count(usize),
    /// A name is not that of an attribute.
    #[error("{}", not_an_attribute(.0))]
    Name(String),
    /// A value of an attribute is empty or too long.
    #[error("the value of {0:?} is empty or longer than {MAX_VALUE} bytes")]
    Value(String),
    /// Filters are nested too deep.
    #[error("filters are nested more than {MAX_DEPTH} deep")]
    Depth,
}

/// The filters of a Subscription, compiled.
#[derive(Debug, Default)]
pub struct Filters {
    entries: Vec<Compiled>,
}

/// What the filters say about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The event passes all filters.
    Matches,
    /// The event doesn't pass the filter with this number, counted from 0; or its evaluation failed.
    FilteredOut {
        /// The number of the filter.
        entry: usize,
        /// The error, if the evaluation failed.
        error: Option<RunError>,
    },
}

impl Filters {
    /// Compiles the filters of a Subscription.
    ///
    /// # Errors
    /// If one of them doesn't compile, or is beyond a bound.
    pub fn compile(filters: &[Filter]) -> Result<Self, InvalidFilter> {
        if filters.len() > MAX_LIST {
            let (place, problem) = ("filters".to_owned(), Problem::Count(filters.len()));
            return Err(InvalidFilter { place, problem });
        }
        Self::compile_all(filters)
    }

    /// Compiles the filters of several lists, each of which is short enough by itself.
    ///
    /// # Errors
    /// If one of them doesn't compile, or is beyond a bound.
    pub fn compile_all(filters: &[Filter]) -> Result<Self, InvalidFilter> {
        let entries = filters.iter().enumerate().map(|(i, filter)| compile(filter, &format!("filters[{i}]"), 1));
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }

    /// Whether every event passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a filter looks at the data.
    #[must_use]
    pub fn look_at_data(&self) -> bool {
        self.entries.iter().any(Compiled::looks_at_data)
    }

    /// Evaluates the filters one by one, up to the first that the event doesn't pass.
    #[must_use]
    pub fn evaluate(&self, variables: &Variables<'_>) -> Verdict {
        for (entry, filter) in self.entries.iter().enumerate() {
            match filter.matches(variables) {
                Ok(true) => {}
                Ok(false) => return Verdict::FilteredOut { entry, error: None },
                Err(error) => return Verdict::FilteredOut { entry, error: Some(error) },
            }
        }
        Verdict::Matches
    }

    /// The cost of an evaluation.
    #[must_use]
    pub fn cost(&self, variables: &Variables<'_>) -> Cost {
        self.entries.iter().map(|entry| entry.cost(variables)).sum()
    }

    /// The attributes that have to have a certain value, as text, for an event to pass, with the number of the filter.
    pub(super) fn equalities(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        let entries = self.entries.iter().enumerate();
        entries
            .flat_map(|(entry, filter)| filter.equalities().into_iter().map(move |(name, value)| (entry, name, value)))
    }

    /// The number of a filter, and the attribute and the value without which no event passes it: rather an attribute
    /// that tells tenants apart than one that most events share.
    #[must_use]
    pub fn needs(&self) -> Option<(usize, &str, &str)> {
        let is_common =
            |name: &str| matches!(name, "type" | "source" | "specversion" | "datacontenttype" | "dataschema");
        self.equalities().min_by_key(|(_, name, _)| is_common(name))
    }
}

type Pairs = Vec<(Box<str>, Box<str>)>;

#[derive(Debug)]
enum Compiled {
    Exact(Pairs),
    Prefix(Pairs),
    Suffix(Pairs),
    All(Vec<Compiled>),
    Any(Vec<Compiled>),
    Not(Box<Compiled>),
    Sql(Sql),
    Jmespath(Jmespath),
    Cel(Cel),
}

fn compile(filter: &Filter, place: &str, depth: usize) -> Result<Compiled, InvalidFilter> {
    let dialect = match filter {
        Filter::Exact(_) => "exact",
        Filter::Prefix(_) => "prefix",
        Filter::Suffix(_) => "suffix",
        Filter::All(_) => "all",
        Filter::Any(_) => "any",
        Filter::Not(_) => "not",
        Filter::Sql(_) => "sql",
        Filter::Jmespath(_) => "jmespath",
        Filter::Cel(_) => "cel",
    };
    let place = format!("{place}.{dialect}");
    let invalid = |problem: Problem| InvalidFilter { place: place.clone(), problem };
    let nested = |filter: &Filter, place: &str| compile(filter, place, depth + 1);
    if depth > MAX_DEPTH {
        return Err(invalid(Problem::Depth));
    }
    let list = |filters: &[Filter]| {
        counted(filters.len()).map_err(invalid)?;
        filters
            .iter()
            .enumerate()
            .map(|(i, filter)| nested(filter, &format!("{place}[{i}]")))
            .collect::<Result<_, InvalidFilter>>()
    };
    Ok(match filter {
        Filter::Exact(map) => Compiled::Exact(pairs(map).map_err(invalid)?),
        Filter::Prefix(map) => Compiled::Prefix(pairs(map).map_err(invalid)?),
        Filter::Suffix(map) => Compiled::Suffix(pairs(map).map_err(invalid)?),
        Filter::All(filters) => Compiled::All(list(filters)?),
        Filter::Any(filters) => Compiled::Any(list(filters)?),
        Filter::Not(filter) => Compiled::Not(Box::new(nested(filter, &place)?)),
        Filter::Sql(text) => Compiled::Sql(Sql::compile(text).map_err(|error| invalid(error.into()))?),
        Filter::Jmespath(text) => Compiled::Jmespath(Jmespath::compile(text).map_err(|error| invalid(error.into()))?),
        Filter::Cel(text) => Compiled::Cel(Cel::compile(text).map_err(|error| invalid(error.into()))?),
    })
}

fn counted(count: usize) -> Result<(), Problem> {
    if (1..=MAX_LIST).contains(&count) { Ok(()) } else { Err(Problem::Count(count)) }
}

fn pairs(map: &BTreeMap<String, String>) -> Result<Pairs, Problem> {
    counted(map.len())?;
    let pair = |(name, value): (&String, &String)| {
        if !is_attribute(name) {
            return Err(Problem::Name(name.chars().take(64).collect()));
        }
        if value.is_empty() || value.len() > MAX_VALUE {
            return Err(Problem::Value(name.clone()));
        }
        Ok((name.as_str().into(), value.as_str().into()))
    };
    map.iter().map(pair).collect()
}

impl Compiled {
    fn matches(&self, variables: &Variables<'_>) -> Result<bool, RunError> {
        let have = |pairs: &Pairs, test: fn(&str, &str) -> bool| {
            let has = |(name, want): &(Box<str>, Box<str>)| {
                variables.attribute(name).map(Attribute::into_text).is_some_and(|value| test(&value, want))
            };
            Ok(pairs.iter().all(has))
        };
        match self {
            Self::Exact(pairs) => have(pairs, |value, want| value == want),
            Self::Prefix(pairs) => have(pairs, |value, want| value.starts_with(want)),
            Self::Suffix(pairs) => have(pairs, |value, want| value.ends_with(want)),
            Self::All(filters) => decided(filters, variables, false),
            Self::Any(filters) => decided(filters, variables, true),
            Self::Not(filter) => filter.matches(variables).map(|matches| !matches),
            Self::Sql(sql) => sql.matches(variables),
            Self::Jmespath(jmespath) => jmespath.matches(variables),
            Self::Cel(cel) => cel.matches(variables),
        }
    }

    fn cost(&self, variables: &Variables<'_>) -> Cost {
        match self {
            Self::Exact(pairs) | Self::Prefix(pairs) | Self::Suffix(pairs) => COMPARISON * pairs.len() as u64,
            Self::All(filters) | Self::Any(filters) => filters.iter().map(|filter| filter.cost(variables)).sum(),
            Self::Not(filter) => filter.cost(variables),
            Self::Sql(sql) => sql.cost(variables.size(false)),
            Self::Jmespath(jmespath) => jmespath.cost(variables.size(jmespath.looks_at_data())),
            Self::Cel(cel) => cel.cost(variables.size(cel.looks_at_data())),
        }
    }

    fn looks_at_data(&self) -> bool {
        match self {
            Self::Exact(_) | Self::Prefix(_) | Self::Suffix(_) | Self::Sql(_) => false,
            Self::All(filters) | Self::Any(filters) => filters.iter().any(Self::looks_at_data),
            Self::Not(filter) => filter.looks_at_data(),
            Self::Jmespath(jmespath) => jmespath.looks_at_data(),
            Self::Cel(cel) => cel.looks_at_data(),
        }
    }

    fn equalities(&self) -> Vec<(&str, &str)> {
        match self {
            Self::Exact(pairs) => pairs.iter().map(|(name, value)| (&**name, &**value)).collect(),
            Self::All(filters) => filters.iter().flat_map(Self::equalities).collect(),
            Self::Sql(sql) => sql.equalities(),
            Self::Jmespath(jmespath) => jmespath.equalities(),
            Self::Cel(cel) => cel.equalities(),
            Self::Prefix(_) | Self::Suffix(_) | Self::Any(_) | Self::Not(_) => Vec::new(),
        }
    }
}

/// Whether one of the filters gives the deciding value. If none does, an error of one of them counts.
fn decided(filters: &[Compiled], variables: &Variables<'_>, deciding: bool) -> Result<bool, RunError> {
    let mut result = Ok(!deciding);
    for filter in filters {
        match filter.matches(variables) {
            Ok(value) if value == deciding => return Ok(deciding),
            Ok(_) => {}
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matches => f.write_str("matches"),
            Self::FilteredOut { entry, error: None } => write!(f, "filters[{entry}]"),
            Self::FilteredOut { entry, error: Some(error) } => write!(f, "filters[{entry}] {error}"),
        }
    }
}
