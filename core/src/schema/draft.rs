//! The drafts of JSON Schema.

use jsonschema::Draft;
use serde_json::Value;

use super::flaw::Flaw;

/// The drafts of JSON Schema that `$schema` may name. A schema without `$schema` is of draft 2020-12.
const DRAFTS: [(&str, Draft); 4] = [
    ("https://json-schema.org/draft/2020-12/schema", Draft::Draft202012),
    ("https://json-schema.org/draft/2020-12/schema#", Draft::Draft202012),
    ("http://json-schema.org/draft-07/schema#", Draft::Draft7),
    ("http://json-schema.org/draft-07/schema", Draft::Draft7),
];

/// The draft of JSON Schema that a schema is written in.
pub(super) fn draft(schema: &Value) -> Result<Draft, Flaw> {
    let Some(named) = schema.get("$schema") else { return Ok(Draft::Draft202012) };
    let found = DRAFTS.iter().find(|(uri, _)| named.as_str() == Some(uri));
    found.map(|(_, draft)| *draft).ok_or_else(|| Flaw {
        pointer: "/$schema".to_owned(),
        problem: "only 2020-12 and draft-07 are supported".to_owned(),
    })
}

/// Whether a schema names this draft, or none.
pub(super) fn is_of_draft(schema: &Value, wanted: Draft) -> bool {
    schema.get("$schema").is_none() || draft(schema).is_ok_and(|named| named == wanted)
}
