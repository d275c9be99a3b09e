//! The cost of an evaluation.

use super::tree::Node;
use super::value::Value;
use crate::expression::Cost;

/// The cost of a node itself, and of looking up an attribute.
const NODE: u64 = 40;
const LOOKUP: u64 = 150;
/// How many bytes are copied or compared for a cost of 1; changes of case and counts of characters are slower.
const BYTES: u64 = 2;

pub(super) fn cost(node: &Node, size: usize) -> Cost {
    part(node, size as u64).cost
}

/// The cost of a part of the expression, and the bytes that its value has at most.
#[derive(Clone, Copy)]
struct Part {
    cost: Cost,
    bytes: u64,
}

fn part(node: &Node, size: u64) -> Part {
    let of = |cost: u64, bytes| Part { cost: Cost(cost), bytes };
    match node {
        Node::Literal(Value::Text(text)) => of(NODE + text.len() as u64 / BYTES, text.len() as u64),
        Node::Literal(_) => of(NODE, 11),
        Node::Attribute(_) => of(LOOKUP + size / BYTES, size),
        Node::Exists(_) => of(LOOKUP + size / BYTES, 0),
        Node::Not(inner) | Node::Negate(inner) => several([&**inner], size),
        Node::Logic(_, sides) | Node::Compare(_, sides) | Node::Calculate(_, sides) => several(sides.iter(), size),
        Node::Like { value, pattern, .. } => {
            let value = several([&**value], size);
            let steps = value.bytes.saturating_mul(pattern.len() as u64);
            Part { cost: value.cost + Cost(steps), bytes: 0 }
        }
        Node::In { value, set, .. } => several(set.iter().chain([&**value]), size),
        // A change of case may make a text three times as long, and a delimiter comes once for each argument.
        Node::Call { arguments, .. } => {
            let times = 3.max(arguments.len() as u64);
            let arguments = several(arguments.iter(), size);
            let bytes = arguments.bytes.saturating_mul(times);
            Part { cost: arguments.cost + Cost(bytes), bytes }
        }
    }
}

fn several<'a>(nodes: impl IntoIterator<Item = &'a Node>, size: u64) -> Part {
    let start = Part { cost: Cost(NODE), bytes: 0 };
    nodes.into_iter().map(|node| part(node, size)).fold(start, |all, one| {
        let bytes = all.bytes.saturating_add(one.bytes);
        Part { cost: all.cost + one.cost + Cost(one.bytes / BYTES), bytes }
    })
}
