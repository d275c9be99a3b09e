//! Walks over the syntax tree.

use ::cel::common::ast::{EntryExpr, Expr, IdedExpr, operators};

use super::super::attribute_name::is_attribute;
use super::super::cel_context::MEMBER;

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

/// Calls the operator `in` by the name under which it is ours.
pub(super) fn rename_in(expression: &mut IdedExpr) {
    match &mut expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Call(call) => {
            if call.func_name == operators::IN {
                MEMBER.clone_into(&mut call.func_name);
            }
            call.target.as_deref_mut().into_iter().chain(&mut call.args).for_each(rename_in);
        }
        Expr::Select(select) => rename_in(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(rename_in),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| rename_in_entry(&mut entry.expr)),
        Expr::Struct(structure) => structure.entries.iter_mut().for_each(|entry| rename_in_entry(&mut entry.expr)),
        Expr::Comprehension(of) => {
            let parts = [&mut of.iter_range, &mut of.accu_init, &mut of.loop_cond, &mut of.loop_step, &mut of.result];
            parts.into_iter().for_each(rename_in);
        }
    }
}

fn rename_in_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => rename_in(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            rename_in(&mut entry.key);
            rename_in(&mut entry.value);
        }
    }
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
