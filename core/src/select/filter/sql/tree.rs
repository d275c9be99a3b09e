//! The syntax tree of an expression.

use super::function::Function;
use super::pattern::Pattern;
use super::value::Value;

#[derive(Debug, Clone)]
pub(super) enum Node {
    Literal(Value<'static>),
    Attribute(Box<str>),
    Exists(Box<str>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Logic(Logic, Box<[Node; 2]>),
    Compare(Comparison, Box<[Node; 2]>),
    Calculate(Arithmetic, Box<[Node; 2]>),
    Like { value: Box<Node>, pattern: Pattern, negated: bool },
    In { value: Box<Node>, set: Vec<Node>, negated: bool },
    Call { function: Option<Function>, arguments: Vec<Node> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Node {
    /// Adds the equalities that have to hold for the node to be true.
    pub(super) fn equalities<'a>(&'a self, found: &mut Vec<(&'a str, &'a str)>) {
        match self {
            Self::Logic(Logic::And, sides) => sides.iter().for_each(|side| side.equalities(found)),
            Self::Compare(Comparison::Equal, sides) => {
                // Texts are compared as they are. Other values are converted first.
                if let [Self::Attribute(name), Self::Literal(Value::Text(text))]
                | [Self::Literal(Value::Text(text)), Self::Attribute(name)] = &**sides
                    && (matches!(&sides[1], Self::Literal(_)) || name.as_ref() == "type")
                {
                    found.push((name, text));
                }
            }
            _ => {}
        }
    }
}
