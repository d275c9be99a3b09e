//! The evaluation of an expression, which ends at the first error.

use std::borrow::Cow;

use super::tree::{Arithmetic, Comparison, Logic, Node};
use super::value::{FALSE, Failure, Result, Value, ZERO, cast_like, failed, to_bool, to_int, typed};
use crate::expression::{RunError, Variables};

pub(super) fn evaluate<'a>(node: &'a Node, variables: &'a Variables<'_>) -> Result<'a> {
    let boolean = |node: &'a Node| bool_of(node, variables);
    Ok(match node {
        Node::Literal(Value::Text(text)) => Value::Text(Cow::Borrowed(text)),
        Node::Literal(value) => value.clone(),
        Node::Attribute(name) => {
            // If nothing says which type is wanted, it is boolean.
            variables.attribute(name).ok_or_else(|| failed(FALSE, RunError::MissingAttribute))?
        }
        Node::Exists(name) => {
            let is_required = matches!(&**name, "id" | "source" | "specversion" | "type");
            Value::Boolean(is_required || variables.attribute(name).is_some())
        }
        Node::Not(inner) => Value::Boolean(!boolean(inner)?),
        Node::Negate(inner) => {
            let number = int_of(inner, variables)?;
            Value::Integer(number.checked_neg().ok_or_else(|| failed(Value::Integer(i32::MAX), RunError::Math))?)
        }
        Node::Logic(operator, sides) => Value::Boolean(match (operator, boolean(&sides[0])?) {
            (Logic::And, false) => false,
            (Logic::Or, true) => true,
            (Logic::And | Logic::Or, _) => boolean(&sides[1])?,
            (Logic::Xor, left) => left ^ boolean(&sides[1])?,
        }),
        Node::Compare(operator, sides) => Value::Boolean(compare(*operator, sides, variables)?),
        Node::Calculate(operator, sides) => {
            let (left, right) = (int_of(&sides[0], variables)?, int_of(&sides[1], variables)?);
            Value::Integer(calculate(*operator, left, right).ok_or_else(|| failed(ZERO, RunError::Math))?)
        }
        Node::Like { value, pattern, negated } => {
            let value = typed(FALSE, evaluate(value, variables))?;
            Value::Boolean(pattern.matches(&value.into_text()) != *negated)
        }
        Node::In { value, set, negated } => {
            let value = typed(FALSE, evaluate(value, variables))?;
            let mut found = false;
            for node in set {
                let element = typed(FALSE, evaluate(node, variables))?;
                found |= cast_like(element, &value).map_err(|error| failed(FALSE, error))? == value;
            }
            Value::Boolean(found != *negated)
        }
        Node::Call { function, arguments } => {
            let Some(function) = function else { return Err(failed(FALSE, RunError::MissingFunction)) };
            let evaluated = arguments.iter().map(|argument| typed(function.zero(), evaluate(argument, variables)));
            return function.call(evaluated.collect::<std::result::Result<_, _>>()?);
        }
    })
}

fn bool_of<'a>(node: &'a Node, variables: &'a Variables<'_>) -> std::result::Result<bool, Failure<'a>> {
    let value = typed(FALSE, evaluate(node, variables))?;
    to_bool(&value).map_err(|error| failed(FALSE, error))
}

fn int_of<'a>(node: &'a Node, variables: &'a Variables<'_>) -> std::result::Result<i32, Failure<'a>> {
    let value = typed(ZERO, evaluate(node, variables))?;
    to_int(&value).map_err(|error| failed(ZERO, error))
}

fn compare<'a>(
    operator: Comparison,
    sides: &'a [Node; 2],
    variables: &'a Variables<'_>,
) -> std::result::Result<bool, Failure<'a>> {
    let left = typed(FALSE, evaluate(&sides[0], variables))?;
    let right = typed(FALSE, evaluate(&sides[1], variables))?;
    let cast = |error| failed(FALSE, error);
    if let Comparison::Equal | Comparison::NotEqual = operator {
        // The type of the right operand says which equality it is.
        let left = cast_like(left, &right).map_err(cast)?;
        return Ok((left == right) == (operator == Comparison::Equal));
    }
    let (left, right) = (to_int(&left).map_err(cast)?, to_int(&right).map_err(cast)?);
    Ok(match operator {
        Comparison::Less => left < right,
        Comparison::LessOrEqual => left <= right,
        Comparison::Greater => left > right,
        Comparison::GreaterOrEqual | Comparison::Equal | Comparison::NotEqual => left >= right,
    })
}

/// The result, unless it is out of range or a division by zero.
fn calculate(operator: Arithmetic, left: i32, right: i32) -> Option<i32> {
    match operator {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide => left.checked_div(right),
        Arithmetic::Remainder => left.checked_rem(right),
    }
}
