//! The functions that expressions call.

use std::sync::{Arc, LazyLock};

use ::jmespath::functions::{ArgumentType, CustomFunction, Signature};
use ::jmespath::{Context, Runtime, SearchResult, Variable};
use serde_json::Number;

/// The functions of the specification. The crate's own `to_number` makes any JSON of a text, so a short text could become
/// more values than an estimate knows of.
pub(super) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut runtime = Runtime::new();
    runtime.register_builtin_functions();
    let signature = Signature::new(vec![ArgumentType::Any], None);
    runtime.register_function("to_number", Box::new(CustomFunction::new(signature, Box::new(to_number))));
    runtime
});

/// A number as it is, or that which a text is. Anything else is null.
fn to_number(arguments: &[Arc<Variable>], _: &mut Context<'_>) -> SearchResult {
    let number = match &*arguments[0] {
        Variable::Number(_) => return Ok(Arc::clone(&arguments[0])),
        Variable::String(text) => serde_json::from_str::<Number>(text).ok(),
        _ => None,
    };
    Ok(Arc::new(number.map_or(Variable::Null, Variable::Number)))
}
