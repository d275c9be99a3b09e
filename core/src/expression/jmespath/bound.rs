//! The cost of an evaluation, from the syntax tree and the size of the variables.
//!
//! Each part gets a value of at most so many bytes of JSON, and results in one of at most so many. A projection evaluates
//! a part for each element. The elements together are no larger than the list, and cost and size grow at least in
//! proportion to an element's size. So the worst list has one element of nearly all its bytes, and all others as small
//! as can be.

use ::jmespath::ast::Ast;

use super::super::cost::Cost;
use super::tree::parts;

/// The cost of a node, and of a call besides what the function does.
const NODE: f64 = 80.0;
const CALL: f64 = 300.0;
/// The cost for each byte of a value that a function or a comparison goes through.
const BYTE: f64 = 10.0;
/// The bytes of the smallest element of a list, with its comma.
const SMALLEST: f64 = 2.0;
/// The most steps that the estimate itself takes. A tree that needs more costs too much for any event.
const STEPS: u32 = 20_000;

pub(super) fn cost(ast: &Ast, size: usize) -> Cost {
    let mut steps = STEPS;
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    let cost = bound(ast, size as f64, &mut steps).map_or(u64::MAX, |bound| bound.cost as u64);
    Cost(cost)
}

/// The cost of a part, and the bytes of its result.
#[derive(Clone, Copy, Default)]
struct Bound {
    cost: f64,
    bytes: f64,
}

/// The bound of a node whose current value has this many bytes; `None` if the estimate takes too many steps.
fn bound(ast: &Ast, current: f64, steps: &mut u32) -> Option<Bound> {
    *steps = steps.checked_sub(1)?;
    let node = |cost: f64, bytes: f64| Some(Bound { cost: NODE + cost, bytes });
    match ast {
        Ast::Identity { .. } | Ast::Field { .. } | Ast::Index { .. } => node(0.0, current),
        Ast::Literal { value, .. } => node(0.0, value.to_string().len() as f64),
        Ast::Slice { .. } => node(current * BYTE, current),
        // The parts of a reference are evaluated by the function that gets it; here the tree is copied.
        Ast::Expref { ast, .. } => node(copied(ast, steps)?, 0.0),
        Ast::Subexpr { lhs, rhs, .. } => {
            let left = bound(lhs, current, steps)?;
            let right = bound(rhs, left.bytes, steps)?;
            node(left.cost + right.cost, right.bytes)
        }
        Ast::Projection { lhs, rhs, .. } => {
            let left = bound(lhs, current, steps)?;
            let each = for_each(rhs, left.bytes, steps)?;
            node(left.cost + each.cost, each.bytes)
        }
        Ast::Flatten { node: inner, .. } | Ast::ObjectValues { node: inner, .. } => {
            let inner = bound(inner, current, steps)?;
            node(inner.cost + inner.bytes * BYTE, inner.bytes)
        }
        Ast::Comparison { .. } => {
            let sides = all(ast, current, steps)?;
            node(sides.cost + sides.bytes * BYTE, 5.0)
        }
        Ast::Function { name, args, .. } => function(name, args, current, steps),
        Ast::Not { .. } | Ast::Condition { .. } | Ast::And { .. } | Ast::Or { .. } => {
            let sides = all(ast, current, steps)?;
            node(sides.cost, sides.bytes.max(5.0))
        }
        Ast::MultiList { elements, .. } => {
            let sides = all(ast, current, steps)?;
            node(sides.cost, sides.bytes + SMALLEST * elements.len() as f64)
        }
        Ast::MultiHash { elements, .. } => {
            let sides = all(ast, current, steps)?;
            let keys: f64 = elements.iter().map(|pair| pair.key.len() as f64 + 4.0).sum();
            node(sides.cost + keys * BYTE, sides.bytes + keys)
        }
    }
}

/// The sum of all parts of a node.
fn all(ast: &Ast, current: f64, steps: &mut u32) -> Option<Bound> {
    parts(ast).into_iter().try_fold(Bound::default(), |sum, part| {
        let part = bound(part, current, steps)?;
        Some(Bound { cost: sum.cost + part.cost, bytes: sum.bytes + part.bytes })
    })
}

/// The sum over all elements of a list of this many bytes.
fn for_each(ast: &Ast, bytes: f64, steps: &mut u32) -> Option<Bound> {
    let (largest, smallest) = (bound(ast, bytes, steps)?, bound(ast, SMALLEST, steps)?);
    let elements = bytes / SMALLEST;
    let sum = |largest: f64, smallest: f64| largest + elements * smallest;
    Some(Bound { cost: sum(largest.cost, smallest.cost), bytes: sum(largest.bytes, smallest.bytes) })
}

fn function(name: &str, args: &[Ast], current: f64, steps: &mut u32) -> Option<Bound> {
    let mut sum = Bound { cost: CALL, bytes: 16.0 };
    let mut product = 1.0;
    for arg in args {
        let arg = bound(arg, current, steps)?;
        product *= arg.bytes.max(1.0);
        sum = Bound { cost: sum.cost + arg.cost, bytes: sum.bytes + arg.bytes };
    }
    sum.cost += sum.bytes * BYTE;
    // The function evaluates a reference for each element of its list.
    let list = sum.bytes;
    for arg in args {
        if let Ast::Expref { ast, .. } = arg {
            let each = for_each(ast, list, steps)?;
            sum = Bound { cost: sum.cost + each.cost, bytes: sum.bytes + each.bytes };
        }
    }
    match name {
        // Each element is compared with about so many others.
        "sort" | "sort_by" => sum.cost += sum.bytes * BYTE * list.max(2.0).log2(),
        // The text that joins comes once for each element.
        "join" => (sum.cost, sum.bytes) = (sum.cost + product, sum.bytes + product),
        // A control character is written with six.
        "to_string" => sum.bytes *= 6.0,
        _ => {}
    }
    Some(sum)
}

fn copied(ast: &Ast, steps: &mut u32) -> Option<f64> {
    *steps = steps.checked_sub(1)?;
    parts(ast).into_iter().try_fold(NODE, |sum, part| Some(sum + copied(part, steps)?))
}
