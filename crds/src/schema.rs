//! Helpers for schemas that the derives can't express.

use schemars::Schema;
use serde_json::Value;

/// Turns the schema of an enum of unit variants into `type: string` with `enum`, without descriptions.
///
/// Otherwise kube would replace the description of an optional field by the description of the enum. It drops the
/// descriptions of variants in any case, so the documentation of each field lists the values.
pub(crate) fn plain_enum(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("description");
    let Some(Value::Array(variants)) = object.remove("oneOf") else { return };
    let values = variants.iter().filter_map(|variant| variant.get("const").cloned()).collect();
    object.insert("type".into(), "string".into());
    object.insert("enum".into(), Value::Array(values));
}
