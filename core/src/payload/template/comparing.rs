//! The filters that compare values. They charge for all that is in the values, as the crate's own charge for a comparison
//! alone, however much is compared.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, State, Value, filters};

pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("sort", charged(filters::sort));
    environment.add_filter("unique", charged(filters::unique));
    environment.add_filter("min", charged(filters::min));
    environment.add_filter("max", charged(filters::max));
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("groupby", groupby);
}

/// A filter that compares elements, by an attribute if one is named.
type Comparing = fn(&State<'_, '_>, Value, Kwargs) -> Result<Value, Error>;

fn charged(
    filter: Comparing,
) -> impl Fn(&State<'_, '_>, Value, Kwargs) -> Result<Value, Error> + Send + Sync + 'static {
    move |state, value, arguments| {
        charge(state, &value, arguments.peek("attribute")?)?;
        filter(state, value, arguments)
    }
}

fn dictsort(state: &State<'_, '_>, value: Value, arguments: Kwargs) -> Result<Value, Error> {
    charge(state, &value, None)?;
    filters::dictsort(&value, arguments)
}

fn groupby(state: &State<'_, '_>, value: Value, attribute: Option<&str>, arguments: Kwargs) -> Result<Value, Error> {
    let by = if attribute.is_some() { attribute } else { arguments.peek("attribute")? };
    charge(state, &value, by)?;
    filters::groupby(value, attribute, arguments)
}

/// Charges for comparing the elements of a value with each other: by all that is in them or, if attributes are given, in
/// these.
fn charge(state: &State<'_, '_>, value: &Value, attributes: Option<&str>) -> Result<(), Error> {
    let left = state.fuel_levels().map_or(u64::MAX, |(_, left)| left);
    let mut waiting = Vec::new();
    match attributes {
        None => waiting.push(value.clone()),
        Some(attributes) => {
            for element in value.try_iter()? {
                waiting.extend(attributes.split(',').map(|path| attribute(&element, path)));
            }
        }
    }
    let mut seen = 0_u64;
    while let Some(next) = waiting.pop() {
        seen += 1 + next.as_str().map_or(0, str::len) as u64 / 64;
        if seen > left {
            break;
        }
        match next.kind() {
            ValueKind::Seq | ValueKind::Iterable => waiting.extend(next.try_iter()?),
            ValueKind::Map => {
                for name in next.try_iter()? {
                    waiting.push(next.get_item(&name)?);
                    waiting.push(name);
                }
            }
            _ => {}
        }
    }
    // Each element is compared with about so many others, and two values take half a step.
    let others = value.len().unwrap_or_default().max(1).ilog2() + 1;
    state.consume_fuel(seen.saturating_mul(u64::from(others)) / 2)
}

/// The attribute that a path begins with. More of it makes the value no larger.
fn attribute(element: &Value, path: &str) -> Value {
    let first = path.trim().split('.').next().unwrap_or_default();
    let by_name = element.get_attr(first).ok().filter(|found| !found.is_undefined());
    let by_position = || element.get_item(&Value::from(first.parse::<usize>().ok()?)).ok();
    by_name.or_else(by_position).unwrap_or_default()
}
