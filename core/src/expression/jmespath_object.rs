//! The variables of an expression, as the crate `jmespath` takes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::jmespath::Variable;

use super::attribute::{Attribute, OPTIONAL};

/// The object of all variables. What is there in every dialect, though an event may not have it, is null.
pub(super) fn object(attributes: &[(&str, Attribute<'_>)], data: Option<Arc<Variable>>) -> Variable {
    let null = |name: &str| (name.to_owned(), Arc::new(Variable::Null));
    let mut all: BTreeMap<String, Arc<Variable>> = OPTIONAL.map(null).into();
    for (name, value) in attributes {
        let value = match value {
            Attribute::Text(text) => Variable::String(text.to_string()),
            Attribute::Integer(number) => Variable::Number((*number).into()),
            Attribute::Boolean(value) => Variable::Bool(*value),
        };
        all.insert((*name).to_owned(), Arc::new(value));
    }
    all.extend(data.map(|data| ("data".to_owned(), data)));
    Variable::Object(all)
}
