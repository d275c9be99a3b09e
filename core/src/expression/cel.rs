//! CEL, the Common Expression Language: <https://github.com/google/cel-spec>. Each attribute is a variable, and so is
//! `data`.
//!
//! The parser is the recursive one of the crate: the other, which is generated, needs memory out of all proportion to
//! the text ([ADR 0023](../../../docs/adr/0023-expressions-of-tenants.md)).

mod bound;
mod tree;

use ::cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};
use ::cel::common::types::CelBool;
use ::cel::parser::PrattParser;
use ::cel::{ExecutionError, Value};

use super::attribute_name::not_an_attribute;
use super::bounds::{compiled, evaluated};
use super::cost::{Cost, Costs, Size};
use super::error::{CompileError, RunError};
use super::given::Given;
use super::made::{self, Made};
use super::variables::Variables;

/// The deepest syntax tree.
const MAX_DEPTH: usize = 32;
/// The most nodes of a syntax tree: macros make several of one.
const MAX_NODES: usize = 4096;

/// A compiled expression.
#[derive(Debug)]
pub struct Cel {
    expression: IdedExpr,
    looks_at_data: bool,
    costs: Costs,
}

impl Cel {
    /// Compiles an expression.
    ///
    /// # Errors
    /// If the text is no expression, calls a function that doesn't exist here, or is beyond a bound.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        compiled(text, || {
            let parser = PrattParser::new().max_expression_node_count(MAX_NODES).error_reporting_limit(1);
            let mut expression = parser.parse(text).map_err(|errors| {
                let first = errors.errors.into_iter().next();
                let (position, message) = first.map_or(((1, 1), String::new()), |error| (error.pos, error.msg));
                let message = message.trim_start_matches("Syntax error: ").to_owned();
                CompileError::at(text, offset(text, position), message)
            })?;
            if tree::depth(&expression) > MAX_DEPTH {
                return Err(CompileError::at(text, 0, format!("the expression is nested more than {MAX_DEPTH} deep")));
            }
            if let Some(function) = tree::unknown_function(&expression) {
                return Err(CompileError::at(text, place(text, function), format!("there is no function {function}")));
            }
            if let Some(name) = tree::no_attribute(&expression, &mut Vec::new()) {
                return Err(CompileError::at(text, place(text, name), not_an_attribute(name)));
            }
            let looks_at_data = expression.references().has_variable("data");
            tree::rename_in(&mut expression);
            let costs = Costs::estimate(|size| bound::cost(&expression, size)).check(text)?;
            Ok(Self { expression, looks_at_data, costs })
        })
    }

    /// Compiles an expression that makes a value: its cost has that of copying the value.
    ///
    /// # Errors
    /// As of [`Self::compile`].
    pub fn compile_to_make(text: &str) -> Result<Self, CompileError> {
        let Self { expression, looks_at_data, .. } = Self::compile(text)?;
        let costs = Costs::estimate(|size| bound::cost_of_making(&expression, size)).check(text)?;
        Ok(Self { expression, looks_at_data, costs })
    }

    /// Makes a value of these variables.
    ///
    /// # Errors
    /// If it looks at an extension attribute that the event doesn't have, at data that is not JSON, or an operator or a
    /// function doesn't take what it gets.
    pub fn make(&self, given: &Given<'_>) -> Result<Made, RunError> {
        let context = given.cel(self.looks_at_data)?;
        let made = evaluated(|| Value::resolve(&self.expression, &context).map_err(|error| kind(&error)));
        made.map(|value| Made(made::Kind::Cel(value)))
    }

    /// Whether an event passes the expression as a filter.
    ///
    /// # Errors
    /// As of [`Self::make`], and if the result is neither true nor false.
    pub fn matches(&self, variables: &Variables<'_>) -> Result<bool, RunError> {
        let context = variables.cel(self.looks_at_data)?;
        evaluated(|| {
            // The result is looked at where it is: it may be all of the data, and to copy that takes long.
            let result = Value::resolve_val(&self.expression, context).map_err(|error| kind(&error))?;
            result.downcast_ref::<CelBool>().map(|value| *value.inner()).ok_or(RunError::NotBoolean)
        })
    }

    /// Whether the expression looks at the data.
    #[must_use]
    pub fn looks_at_data(&self) -> bool {
        self.looks_at_data
    }

    /// The cost of an evaluation with variables of this size.
    #[must_use]
    pub fn cost(&self, size: Size) -> Cost {
        self.costs.at(size)
    }

    /// The attributes that have to have a certain value, as text, for the expression to be true.
    #[must_use]
    pub fn equalities(&self) -> Vec<(&str, &str)> {
        let mut found = Vec::new();
        equalities(&self.expression, &mut found);
        found
    }
}

fn kind(error: &ExecutionError) -> RunError {
    match error {
        ExecutionError::UndeclaredReference(_) => RunError::MissingAttribute,
        ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_) => RunError::NoSuchKey,
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) | ExecutionError::Overflow(..) => {
            RunError::Math
        }
        ExecutionError::FunctionError { .. } | ExecutionError::InvalidArgumentCount { .. } => RunError::Function,
        ExecutionError::InternalError(_) => RunError::Internal,
        _ => RunError::WrongType,
    }
}

/// The byte at a line and a column, which count from 1. The parser counts columns in bytes.
fn offset(text: &str, (line, column): (isize, isize)) -> usize {
    let lines = usize::try_from(line - 1).unwrap_or(0);
    let start: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    start + usize::try_from(column - 1).unwrap_or(0)
}

/// The first place of a name in a text, outside quotes. Nodes of the tree don't know their places.
fn place(text: &str, name: &str) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            Some(_) if c == '\\' => drop(chars.next()),
            Some(open) => quote = Some(open).filter(|open| *open != c),
            None if c == '"' || c == '\'' => quote = Some(c),
            None => {
                let ends = |rest: &str| !rest.starts_with(is_part);
                if text[at..].strip_prefix(name).is_some_and(ends) && !text[..at].ends_with(is_part) {
                    return at;
                }
            }
        }
    }
    0
}

fn equalities<'a>(expression: &'a IdedExpr, found: &mut Vec<(&'a str, &'a str)>) {
    let Expr::Call(call) = &expression.expr else { return };
    match (call.func_name.as_str(), &call.args[..]) {
        (operators::LOGICAL_AND, sides) => sides.iter().for_each(|side| equalities(side, found)),
        (operators::EQUALS, [left, right]) => {
            if let (Expr::Ident(name), Expr::Literal(LiteralValue::String(text)))
            | (Expr::Literal(LiteralValue::String(text)), Expr::Ident(name)) = (&left.expr, &right.expr)
                && name != "data"
            {
                found.push((name, text.inner()));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
