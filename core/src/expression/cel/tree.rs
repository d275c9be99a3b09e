//! Walks over the syntax tree.

use ::cel::common::ast::{EntryExpr, Expr, IdedExpr};

use super::super::attribute_name::is_attribute;

/// The functions that there are, beside operators and macros. Patterns and times aren't among them: nothing bounds the
/// cost of a pattern that is put together at run time.
const FUNCTIONS: [&str; 12] =
    ["bool", "bytes", "contains", "double", "dyn", "endsWith", "int", "size", "startsWith", "string", "type", "uint"];

/// The parts of a node. The parts of a macro are the parts of the loop that it expands to.
pub(super) fn parts(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => entries(map.entries.iter().map(|entry| &entry.expr)),
        Expr::Struct(structure) => entries(structure.entries.iter().map(|entry| &entry.expr)),
        Expr::Comprehension(of) => vec![&of.iter_range, &of.accu_init, &of.loop_cond, &of.loop_step, &of.result],
    }
}

fn entries<'a>(entries: impl Iterator<Item = &'a EntryExpr>) -> Vec<&'a IdedExpr> {
    let parts = entries.flat_map(|entry| match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    });
    parts.collect()
}

/// The name of a variable that is neither an attribute of any event nor one of a loop around.
pub(super) fn no_attribute<'a>(expression: &'a IdedExpr, local: &mut Vec<&'a str>) -> Option<&'a str> {
    match &expression.expr {
        Expr::Ident(name) => {
            let is_known = |name: &str| name == "data" || name == "null_type" || is_attribute(name);
            Some(name.as_str()).filter(|name| !is_known(name) && !local.contains(name))
        }
        Expr::Comprehension(of) => {
            let outside = [&of.iter_range, &of.accu_init].into_iter().find_map(|part| no_attribute(part, local));
            let outer = local.len();
            local.extend([of.iter_var.as_str(), of.accu_var.as_str()]);
            local.extend(of.iter_var2.as_deref());
            let inside = [&of.loop_cond, &of.loop_step, &of.result];
            let found = outside.or_else(|| inside.into_iter().find_map(|part| no_attribute(part, local)));
            local.truncate(outer);
            found
        }
        _ => parts(expression).into_iter().find_map(|part| no_attribute(part, local)),
    }
}

pub(super) fn depth(expression: &IdedExpr) -> usize {
    1 + parts(expression).into_iter().map(depth).max().unwrap_or(0)
}

/// The name of a function that doesn't exist. What is spelled with signs are operators.
pub(super) fn unknown_function(expression: &IdedExpr) -> Option<&str> {
    if let Expr::Call(call) = &expression.expr {
        let name = call.func_name.as_str();
        let is_named = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if is_named && !FUNCTIONS.contains(&name) {
            return Some(name);
        }
    }
    parts(expression).into_iter().find_map(unknown_function)
}
