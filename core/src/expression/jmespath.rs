//! JMESPath: <https://jmespath.org/specification.html>, over an object of the attributes and the data.

mod bound;
mod runtime;
mod tree;

use std::sync::Arc;

use ::jmespath::ast::{Ast, Comparator};
use ::jmespath::{Context, ErrorReason, Expression, RuntimeError, Variable, interpret};
use serde_json::Value;

use self::runtime::RUNTIME;
use super::attribute_name::not_an_attribute;
use super::bounds::{compiled, evaluated};
use super::cost::{Cost, Costs, Size};
use super::error::{CompileError, RunError};
use super::given::Given;
use super::made::{self, Made};
use super::variables::Variables;

/// The deepest syntax tree.
const MAX_DEPTH: usize = 128;

/// A compiled expression.
pub struct Jmespath {
    expression: Expression<'static>,
    looks_at_data: bool,
    costs: Costs,
}

impl std::fmt::Debug for Jmespath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Jmespath").field(&self.expression.as_str()).finish()
    }
}

impl Jmespath {
    /// Compiles an expression.
    ///
    /// # Errors
    /// If the text is no expression, calls a function that doesn't exist, or is beyond a bound.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        compiled(text, || {
            let expression = parse(text)?;
            let ast = expression.as_ast();
            if let Some((at, name)) = tree::no_attribute(ast) {
                return Err(CompileError::at(text, at, not_an_attribute(name)));
            }
            let looks_at_data = tree::any(ast, &|node| match node {
                Ast::Field { name, .. } => name == "data",
                Ast::Identity { .. } => true,
                _ => false,
            });
            let costs = Costs::estimate(|size| bound::cost(ast, size)).check(text)?;
            Ok(Self { expression, looks_at_data, costs })
        })
    }

    /// What an expression finds in a document, whatever the document's names and whatever that costs: for conformance
    /// suites.
    ///
    /// # Errors
    /// If the text is no expression, is beyond a bound, or the evaluation fails: why.
    pub fn search(text: &str, document: &Value) -> Result<Value, String> {
        let expression = compiled(text, || parse(text)).map_err(|error| error.to_string())?;
        let document = Variable::from_serializable(document).map_err(|error| error.reason.to_string())?;
        let mut context = Context::new(text, &RUNTIME);
        let found = interpret(&Arc::new(document), expression.as_ast(), &mut context);
        let found = found.map_err(|error| error.reason.to_string())?;
        serde_json::to_value(&*found).map_err(|error| error.to_string())
    }

    /// Evaluates the expression.
    ///
    /// # Errors
    /// If a function doesn't take its arguments, or the data is looked at and is not JSON.
    pub fn evaluate(&self, variables: &Variables<'_>) -> Result<Arc<Variable>, RunError> {
        self.interpret(variables.jmespath(self.looks_at_data)?)
    }

    /// Makes a value of these variables.
    ///
    /// # Errors
    /// As of [`Self::evaluate`].
    pub fn make(&self, given: &Given<'_>) -> Result<Made, RunError> {
        let object = Arc::new(given.jmespath(self.looks_at_data)?);
        self.interpret(&object).map(|value| Made(made::Kind::Jmespath(value)))
    }

    fn interpret(&self, object: &Arc<Variable>) -> Result<Arc<Variable>, RunError> {
        evaluated(|| {
            let mut context = Context::new(self.expression.as_str(), &RUNTIME);
            interpret(object, self.expression.as_ast(), &mut context).map_err(|error| match error.reason {
                ErrorReason::Runtime(RuntimeError::InvalidType { .. }) => RunError::WrongType,
                _ => RunError::Function,
            })
        })
    }

    /// Whether an event passes the expression as a filter: the result is `true`. `null`, which every path to something
    /// that isn't there results in, is no match and no error.
    ///
    /// # Errors
    /// If the evaluation fails, or the result is another value.
    pub fn matches(&self, variables: &Variables<'_>) -> Result<bool, RunError> {
        match *self.evaluate(variables)? {
            Variable::Bool(value) => Ok(value),
            Variable::Null => Ok(false),
            _ => Err(RunError::NotBoolean),
        }
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
        equalities(self.expression.as_ast(), &mut found);
        found
    }
}

/// Parses an expression within the bounds on its tree.
fn parse(text: &str) -> Result<Expression<'static>, CompileError> {
    let expression = RUNTIME.compile(text).map_err(|error| {
        let message = match error.reason {
            ErrorReason::Parse(message) => message,
            ErrorReason::Runtime(error) => error.to_string(),
        };
        CompileError::at(text, error.offset, message.trim_end_matches(['.', '\n']).to_owned())
    })?;
    let ast = expression.as_ast();
    if tree::depth(ast) > MAX_DEPTH {
        return Err(CompileError::at(text, 0, format!("the expression is nested more than {MAX_DEPTH} deep")));
    }
    if let Some((bracket, name)) = tree::unknown_function(ast) {
        let at = text.get(..bracket).and_then(|before| before.rfind(name)).unwrap_or(bracket);
        return Err(CompileError::at(text, at, format!("there is no function {name}")));
    }
    if let Some(at) = tree::stray_reference(ast) {
        let message = "an expression with & is an argument of map, sort_by, min_by or max_by alone";
        return Err(CompileError::at(text, at, message));
    }
    Ok(expression)
}

fn equalities<'a>(ast: &'a Ast, found: &mut Vec<(&'a str, &'a str)>) {
    match ast {
        Ast::And { lhs, rhs, .. } => [lhs, rhs].into_iter().for_each(|side| equalities(side, found)),
        Ast::Comparison { comparator: Comparator::Equal, lhs, rhs, .. } => {
            if let (Ast::Field { name, .. }, Ast::Literal { value, .. })
            | (Ast::Literal { value, .. }, Ast::Field { name, .. }) = (&**lhs, &**rhs)
                && let Variable::String(text) = &**value
                && name != "data"
            {
                found.push((name, text));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
