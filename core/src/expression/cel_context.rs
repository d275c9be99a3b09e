//! The variables of an expression, as the crate `cel` takes them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use ::cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use ::cel::common::value::Val;
use ::cel::{Context, Env};
use serde_json::Value as Json;

use super::attribute::{Attribute, OPTIONAL};

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

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
