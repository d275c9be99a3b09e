//! Walks over the syntax tree.

use ::jmespath::ast::Ast;

use super::super::attribute_name::is_attribute;
use super::runtime::RUNTIME;

/// The parts of a node.
pub(super) fn parts(ast: &Ast) -> Vec<&Ast> {
    match ast {
        Ast::Identity { .. } | Ast::Field { .. } | Ast::Index { .. } | Ast::Literal { .. } | Ast::Slice { .. } => {
            Vec::new()
        }
        Ast::Expref { ast, .. } => vec![ast],
        Ast::Flatten { node, .. } | Ast::Not { node, .. } | Ast::ObjectValues { node, .. } => vec![node],
        Ast::Condition { predicate, then, .. } => vec![predicate, then],
        Ast::Comparison { lhs, rhs, .. }
        | Ast::Projection { lhs, rhs, .. }
        | Ast::And { lhs, rhs, .. }
        | Ast::Or { lhs, rhs, .. }
        | Ast::Subexpr { lhs, rhs, .. } => vec![lhs, rhs],
        Ast::Function { args, .. } => args.iter().collect(),
        Ast::MultiList { elements, .. } => elements.iter().collect(),
        Ast::MultiHash { elements, .. } => elements.iter().map(|pair| &pair.value).collect(),
    }
}

/// A field of the object of all variables that no event has, and the place of its name.
pub(super) fn no_attribute(ast: &Ast) -> Option<(usize, &str)> {
    match ast {
        Ast::Field { offset, name } if name != "data" && !is_attribute(name) => Some((*offset, name)),
        // What follows looks at another value.
        Ast::Subexpr { lhs, .. } | Ast::Projection { lhs, .. } => no_attribute(lhs),
        Ast::Expref { .. } => None,
        _ => parts(ast).into_iter().find_map(no_attribute),
    }
}

pub(super) fn depth(ast: &Ast) -> usize {
    1 + parts(ast).into_iter().map(depth).max().unwrap_or(0)
}

pub(super) fn any(ast: &Ast, is: &impl Fn(&Ast) -> bool) -> bool {
    is(ast) || parts(ast).into_iter().any(|part| any(part, is))
}

/// The name of a function that doesn't exist, and the place of the bracket behind it.
pub(super) fn unknown_function(ast: &Ast) -> Option<(usize, &str)> {
    match ast {
        Ast::Function { offset, name, .. } if RUNTIME.get_function(name).is_none() => Some((*offset, name)),
        _ => parts(ast).into_iter().find_map(unknown_function),
    }
}

/// The place of a reference to an expression that is not an argument of a function which evaluates it. Elsewhere it would
/// be a value, and a function that got it from there would evaluate what no estimate knows of.
pub(super) fn stray_reference(ast: &Ast) -> Option<usize> {
    let evaluates =
        |function: &str, at: usize| matches!((function, at), ("map", 0) | ("sort_by" | "min_by" | "max_by", 1));
    match ast {
        Ast::Expref { offset, .. } => Some(*offset),
        Ast::Function { name, args, .. } => args.iter().enumerate().find_map(|(at, argument)| match argument {
            Ast::Expref { ast, .. } if evaluates(name, at) => stray_reference(ast),
            argument => stray_reference(argument),
        }),
        _ => parts(ast).into_iter().find_map(stray_reference),
    }
}
