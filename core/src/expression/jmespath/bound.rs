//! The cost of an evaluation, from the syntax tree and the size of the variables.
//!
//! Each part gets a value of at most some size, and results in one of at most some size. A projection evaluates a part
//! for each element. The elements together are no larger than the list, and cost and size grow at least in proportion
//! to an element's size. So the worst list has one element that is nearly all of it, and all others as small as can be.

use ::jmespath::ast::Ast;

use super::super::cost::{Amount, Bound, Cost, STEPS, Size};
use super::tree::parts;

/// The cost of a node, and of a call besides what the function does.
const NODE: f64 = 80.0;
const CALL: f64 = 200.0;
/// The cost for each byte and each value that a function or a comparison goes through.
const BYTE: f64 = 3.0;
const VALUE: f64 = 30.0;

pub(super) fn cost(ast: &Ast, size: Size) -> Cost {
    let mut steps = STEPS;
    bound(ast, Amount::of(size), &mut steps).map_or(Cost(u64::MAX), |bound| Cost::estimated(bound.cost))
}

/// What it costs to go through a value.
fn through(size: Amount) -> f64 {
    size.bytes * BYTE + size.values * VALUE
}

/// The bound of a node for a current value of this size; `None` if the estimate takes too many steps.
fn bound(ast: &Ast, current: Amount, steps: &mut u32) -> Option<Bound> {
    *steps = steps.checked_sub(1)?;
    let node = |cost: f64, size: Amount| Some(Bound { cost: NODE + cost, size });
    match ast {
        Ast::Identity { .. } | Ast::Field { .. } | Ast::Index { .. } => node(0.0, current),
        Ast::Literal { value, .. } => node(0.0, Amount::of_json(&value.to_string())),
        Ast::Slice { .. } => node(current.values * VALUE, current),
        // The parts of a reference are evaluated by the function that gets it; here the tree is copied.
        Ast::Expref { ast, .. } => node(copied(ast, steps)?, Amount::default()),
        Ast::Subexpr { lhs, rhs, .. } => {
            let left = bound(lhs, current, steps)?;
            let right = bound(rhs, left.size, steps)?;
            node(left.cost + right.cost, right.size)
        }
        Ast::Projection { lhs, rhs, .. } => {
            let left = bound(lhs, current, steps)?;
            let each = for_each(rhs, left.size, steps)?;
            node(left.cost + each.cost, each.size)
        }
        Ast::Flatten { node: inner, .. } | Ast::ObjectValues { node: inner, .. } => {
            let inner = bound(inner, current, steps)?;
            node(inner.cost + inner.size.values * VALUE, inner.size)
        }
        Ast::Comparison { lhs, rhs, .. } => {
            let (left, right) = (bound(lhs, current, steps)?, bound(rhs, current, steps)?);
            // The comparison ends where they differ.
            node(left.cost + right.cost + through(left.size.least(right.size)), Amount::SMALLEST)
        }
        Ast::Function { name, args, .. } => function(name, args, current, steps),
        Ast::Not { node: inner, .. } => node(bound(inner, current, steps)?.cost, Amount::SMALLEST),
        Ast::Condition { .. } | Ast::And { .. } | Ast::Or { .. } => {
            let sides = all(ast, current, steps)?;
            node(sides.cost, sides.size)
        }
        Ast::MultiList { elements, .. } => {
            let sides = all(ast, current, steps)?;
            node(sides.cost, sides.size.plus(Amount::SMALLEST.times(elements.len() as f64)))
        }
        Ast::MultiHash { elements, .. } => {
            let sides = all(ast, current, steps)?;
            let keys: f64 = elements.iter().map(|pair| pair.key.len() as f64 + 4.0).sum();
            node(sides.cost + keys * BYTE, sides.size.plus(Amount { bytes: keys, values: elements.len() as f64 }))
        }
    }
}

/// The sum of all parts of a node.
fn all(ast: &Ast, current: Amount, steps: &mut u32) -> Option<Bound> {
    parts(ast).into_iter().try_fold(Bound::default(), |sum, part| Some(sum.plus(bound(part, current, steps)?)))
}

/// The sum over all elements of a list of this size.
fn for_each(ast: &Ast, list: Amount, steps: &mut u32) -> Option<Bound> {
    let (largest, smallest) = (bound(ast, list, steps)?, bound(ast, Amount::SMALLEST, steps)?);
    let others = Bound { cost: smallest.cost * list.values, size: smallest.size.times(list.values) };
    Some(largest.plus(others))
}

fn function(name: &str, args: &[Ast], current: Amount, steps: &mut u32) -> Option<Bound> {
    let mut sum = Bound { cost: CALL, size: Amount::SMALLEST };
    let mut product = 1.0;
    for arg in args {
        let arg = bound(arg, current, steps)?;
        product *= arg.size.bytes.max(1.0);
        sum = sum.plus(arg);
    }
    let list = sum.size;
    sum.cost += through(list);
    // The function evaluates a reference for each element of its list.
    for arg in args {
        if let Ast::Expref { ast, .. } = arg {
            sum = sum.plus(for_each(ast, list, steps)?);
        }
    }
    match name {
        // Each element is compared with about so many others.
        "sort" | "sort_by" => sum.cost += through(sum.size) * list.values.max(2.0).log2(),
        // The text that joins comes once for each element.
        "join" => {
            sum.cost += product * BYTE;
            sum.size.bytes += product;
        }
        // A control character is written with six.
        "to_string" => sum.size.bytes *= 6.0,
        // Each member is copied, and put into a tree.
        "merge" | "keys" => sum.cost += 3.0 * through(list),
        _ => {}
    }
    Some(sum)
}

fn copied(ast: &Ast, steps: &mut u32) -> Option<f64> {
    *steps = steps.checked_sub(1)?;
    parts(ast).into_iter().try_fold(NODE, |sum, part| Some(sum + copied(part, steps)?))
}
