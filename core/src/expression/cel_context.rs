//! The variables of an expression, as the crate `cel` takes them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use ::cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt, DYN_TYPE,
};
use ::cel::common::value::{CowVal, Val};
use ::cel::{Context, Env, ExecutionError};
use serde_json::Value as Json;

use super::attribute::{Attribute, OPTIONAL};

/// The name by which expressions call the operator `in`. No text can spell it.
pub(super) const MEMBER: &str = "@member";

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    let added = environment.add_overload(MEMBER, "member", vec![DYN_TYPE, DYN_TYPE], member);
    debug_assert!(added.is_ok(), "nothing else has this name");
    Arc::new(environment)
});

/// The operator `in`. The crate's own compares each element of a list with the value, and a number that is compared with
/// something else makes a copy of that, for an error which is dropped. The value could be a whole event, and be copied for
/// each element. Compared the other way round, each element is copied at most.
fn member<'b, 'v>(operands: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [value, container] = &operands[..] else {
        return Err(ExecutionError::invalid_argument_count(2, operands.len()));
    };
    let found = if let Some(list) = container.downcast_ref::<CelList<'_>>() {
        list.inner().iter().any(|element| value.equals(element.as_ref()))
    } else {
        let no_container = || ExecutionError::no_such_overload("in", vec![container.get_type().name().to_owned()]);
        container.as_container().ok_or_else(no_container)?.contains(value.as_ref())?
    };
    Ok(CowVal::owned(CelBool::from(found)))
}

/// The variables, as the crate takes them. What is there in every dialect, though an event may not have it, is null.
pub(super) fn context(attributes: &[(&str, Attribute<'_>)], data: Option<&Json>) -> Context<'static, 'static> {
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    for name in OPTIONAL {
        context.add_variable_as_val(name, Box::new(CelNull));
    }
    for (name, value) in attributes {
        let value: Box<dyn Val> = match value {
            Attribute::Text(text) => Box::new(CelString::from(text.to_string())),
            Attribute::Integer(number) => Box::new(CelInt::from(i64::from(*number))),
            Attribute::Boolean(value) => Box::new(CelBool::from(*value)),
        };
        context.add_variable_as_val(*name, value);
    }
    if let Some(data) = data {
        context.add_variable_as_val("data", of_json(data));
    }
    context
}

/// A JSON value. Numbers without a fraction are `int`, as literals are, so that one can be added to the other.
fn of_json(value: &Json) -> Box<dyn Val> {
    match value {
        Json::Null => Box::new(CelNull),
        Json::Bool(value) => Box::new(CelBool::from(*value)),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Json::String(text) => Box::new(CelString::from(text.clone())),
        Json::Array(list) => Box::new(CelList::from(list.iter().map(of_json).collect::<Vec<_>>())),
        Json::Object(map) => {
            let entries = map.iter().map(|(name, value)| (CelMapKey::from(name.clone()), of_json(value)));
            Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
        }
    }
}
