//! The arguments that a filter takes in a template.

use minijinja::machinery::ast::{CallArg, Expr, Filter};

use super::{COMPARING_TESTS, Kind, Operand, PLAIN_FILTERS, TESTS, is_one, kind_of};

/// The longest name of an attribute, a filter or a test that is an argument of a filter, in bytes.
const MAX_NAME: usize = 128;
/// The filters whose arguments are names, or are gone through for each element or byte.
const NAMED_FILTERS: &str = "dictsort groupby max min sort sum trim unique";
/// What `map` may do with each element.
const MAPPED_FILTERS: &str = "attr first last";

/// Whether a filter takes these arguments.
pub(super) fn takes(filter: &Filter<'_>, operands: &[Operand]) -> bool {
    let names = |arguments: &[CallArg<'_>]| arguments.iter().all(is_name);
    let kind = kind_of(operands);
    match filter.name {
        "tojson" => operands.is_empty(),
        "replace" | "format" => kind < Kind::Made,
        "map" => {
            let applies = filter.args.first().and_then(text_of);
            let is_known = |name| is_one(PLAIN_FILTERS, name) || is_one(MAPPED_FILTERS, name);
            names(&filter.args) && applies.is_none_or(is_known)
        }
        "select" | "reject" => chooses(&filter.args, operands),
        "selectattr" | "rejectattr" => match (&filter.args[..], operands) {
            ([attribute, test @ ..], [_, operands @ ..]) => is_name(attribute) && chooses(test, operands),
            _ => false,
        },
        name if is_one(NAMED_FILTERS, name) => names(&filter.args),
        _ => kind == Kind::Plain,
    }
}

/// Whether these are arguments by which elements are chosen: none, or a test and its arguments.
fn chooses(arguments: &[CallArg<'_>], operands: &[Operand]) -> bool {
    let ([test, arguments @ ..], [_, operands @ ..]) = (arguments, operands) else { return true };
    let Some(test) = text_of(test) else { return false };
    let is_plain = |operand: &Operand| operand.kind == Kind::Plain || test == "in" && operand.is_plain_list;
    let is_known = is_one(TESTS, test) || is_one(COMPARING_TESTS, test);
    is_known && operands.iter().all(is_plain) && arguments.iter().all(|argument| matches!(argument, CallArg::Pos(_)))
}

/// The text of an argument that is written in the template and has no name.
fn text_of<'a>(argument: &'a CallArg<'_>) -> Option<&'a str> {
    match argument {
        CallArg::Pos(Expr::Const(constant)) => constant.value.as_str(),
        _ => None,
    }
}

/// Whether an argument is written in the template, and is short.
fn is_name(argument: &CallArg<'_>) -> bool {
    match argument {
        CallArg::Pos(Expr::Const(constant)) | CallArg::Kwarg(_, Expr::Const(constant)) => {
            constant.value.as_str().is_none_or(|text| text.len() <= MAX_NAME)
        }
        _ => false,
    }
}
