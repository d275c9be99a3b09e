//! The conformance files of CloudEvents SQL: `cesql/cesql_tck` of the specification.

use std::error::Error;
use std::path::Path;

use bytes::Bytes;
use hookwright_core::event::Event;
use hookwright_core::expression::{Attribute, RunError, Variables};
use hookwright_core::select::filter::sql::{Evaluated, Sql};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{Report, files};

#[derive(Deserialize)]
struct File {
    name: String,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    /// Plain YAML: an expression such as `TRUE` or `10` is read as a value. Some published cases misspell the key.
    #[serde(alias = "expresion")]
    expression: Value,
    result: Option<Value>,
    error: Option<String>,
    event: Option<Map<String, Value>>,
    #[serde(default)]
    event_overrides: Map<String, Value>,
}

pub(crate) fn run(folder: &Path, report: &mut Report) -> Result<(), Box<dyn Error>> {
    for path in files(folder, &["yaml", "yml"])? {
        let file: File = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        for case in file.tests {
            report.case(&format!("{}: {}", file.name, case.name), failure(&case));
        }
    }
    Ok(())
}

fn failure(case: &Case) -> Option<String> {
    let text = match &case.expression {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let sql = match (Sql::parse(&text), case.error.as_deref()) {
        (Ok(_), Some("parse")) => return Some("parsed, although it should not".into()),
        (Ok(sql), _) => sql,
        (Err(_), Some("parse")) => return None,
        (Err(error), _) => return Some(error.to_string()),
    };
    let event = event(case);
    let variables = Variables::of(&event);
    let Evaluated { value, error } = sql.evaluate(&variables);
    let error = error.map(|error| match error {
        RunError::MissingAttribute => "missingAttribute",
        RunError::Cast => "cast",
        RunError::Math => "math",
        RunError::Function => "functionEvaluation",
        RunError::MissingFunction => "missingFunction",
        _ => "another",
    });
    if error != case.error.as_deref() {
        return Some(format!("{text}: error {error:?}, not {:?}", case.error));
    }
    let value = match value {
        Attribute::Text(text) => json!(text),
        Attribute::Integer(number) => json!(number),
        Attribute::Boolean(value) => json!(value),
    };
    let wanted = case.result.as_ref().filter(|wanted| **wanted != value)?;
    Some(format!("{text}: {value}, not {wanted}"))
}

/// The event of a case: its own, or one that has all attributes of the specification, with the case's overrides.
fn event(case: &Case) -> Event {
    let full = || {
        let attributes = json!({
            "specversion": "1.0", "id": "1", "source": "http://example.com/source", "type": "com.example.test",
            "subject": "a subject", "time": "2020-03-21T12:34:56Z", "datacontenttype": "application/json",
            "dataschema": "http://example.com/schema", "data": "hello",
        });
        attributes.as_object().cloned().unwrap_or_default()
    };
    let mut attributes = case.event.clone().unwrap_or_else(full);
    attributes.extend(case.event_overrides.clone());
    let headers: HeaderMap =
        [(CONTENT_TYPE, http::HeaderValue::from_static("application/cloudevents+json"))].into_iter().collect();
    let event_type = attributes.get("type").and_then(Value::as_str).unwrap_or("t").to_owned();
    Event::new(event_type, headers, Bytes::from(Value::Object(attributes).to_string()))
}
