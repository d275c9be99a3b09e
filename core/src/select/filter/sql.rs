//! CloudEvents SQL, version 1, by its specification: <https://github.com/cloudevents/spec/blob/main/cesql/spec.md>.
//!
//! Expressions look at attributes alone. An expression has a value even if there was an error; as a filter it matches
//! only if the value is `true` and there was none. Where the specification leaves the order of AND, OR and XOR open, they
//! bind in this order, AND the tightest, as in SQL.

mod cost;
mod evaluate;
mod function;
mod parse;
mod pattern;
mod token;
mod tree;
mod value;

use crate::expression::{Attribute, CompileError, Cost, Costs, RunError, Size, Variables};

use tree::Node;

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Sql {
    tree: Node,
    costs: Costs,
}

/// The result of an evaluation: a value, and the first error if there was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated<'a> {
    /// The value. With an error it is the zero value of the expression's type, or what a function says.
    pub value: Attribute<'a>,
    /// The first error.
    pub error: Option<RunError>,
}

impl Sql {
    /// Parses an expression. Functions that don't exist are errors of the evaluation, as the specification has it.
    ///
    /// # Errors
    /// If the text is no expression, or is beyond the bounds on length and nesting.
    pub fn parse(text: &str) -> Result<Self, CompileError> {
        parse::parse(text, true).map(Self::of)
    }

    /// Parses an expression that is used as a filter: functions that don't exist are errors, too.
    ///
    /// # Errors
    /// If the text is no expression, or is beyond the bounds on length and nesting.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        let Self { tree, costs } = Self::of(parse::parse(text, false)?);
        Ok(Self { tree, costs: costs.check(text)? })
    }

    fn of(tree: Node) -> Self {
        let costs = Costs::estimate(|size| cost::cost(&tree, size.bytes));
        Self { tree, costs }
    }

    /// Evaluates the expression.
    #[must_use]
    pub fn evaluate<'a>(&'a self, variables: &'a Variables<'_>) -> Evaluated<'a> {
        match evaluate::evaluate(&self.tree, variables) {
            Ok(value) => Evaluated { value, error: None },
            Err(failure) => Evaluated { value: failure.value, error: Some(failure.error) },
        }
    }

    /// Whether an event passes the expression as a filter.
    ///
    /// # Errors
    /// If there was any error, or the value is not a boolean.
    pub fn matches(&self, variables: &Variables<'_>) -> Result<bool, RunError> {
        match self.evaluate(variables) {
            Evaluated { error: Some(error), .. } => Err(error),
            Evaluated { value: Attribute::Boolean(value), .. } => Ok(value),
            Evaluated { .. } => Err(RunError::NotBoolean),
        }
    }

    /// The cost of an evaluation with attributes of this size together.
    #[must_use]
    pub fn cost(&self, size: Size) -> Cost {
        self.costs.at(size)
    }

    /// The attributes that have to have a certain value, as text, for the expression to be true.
    #[must_use]
    pub fn equalities(&self) -> Vec<(&str, &str)> {
        let mut found = Vec::new();
        self.tree.equalities(&mut found);
        found
    }
}

#[cfg(test)]
mod tests;
