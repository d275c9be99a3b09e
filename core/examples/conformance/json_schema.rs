//! The JSON Schema test suite: the folder of a draft below `tests` of
//! <https://github.com/json-schema-org/JSON-Schema-Test-Suite>.
//!
//! The cases in its folder `optional` are about what an implementation may do: to validate `format` and contents, which
//! only annotate here. They are run and told apart.

use std::error::Error;
use std::path::Path;

use hookwright_core::schema::{EventSchema, Instance, SchemaVersion, VersionedSchema, check};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Report, files};

#[derive(Deserialize)]
struct Group {
    description: String,
    schema: Value,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    description: String,
    data: Value,
    valid: bool,
}

pub(crate) fn run(folder: &Path, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let (mut refused, mut optional) = (0, Report::new("OPTIONAL"));
    for path in files(folder, &["json"])? {
        let draft7 = path.iter().any(|part| part == "draft7" || part == "draft-07");
        let text = std::fs::read_to_string(&path)?;
        let groups: Vec<Group> = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let report = if path.iter().any(|part| part == "optional") { &mut optional } else { &mut *report };
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for Group { description, schema, tests } in groups {
            let name = format!("{file}: {description}");
            match compiled(schema, draft7) {
                Ok(schema) => tests.iter().for_each(|case| {
                    report.case(&format!("{name}: {}", case.description), failure(&schema, case));
                }),
                Err(reason) => {
                    refused += tests.len();
                    println!("REFUSED {name}: {reason}");
                }
            }
        }
    }
    println!("{refused} refused; of those that are optional, {} done, {} not", optional.passed, optional.failed);
    Ok(())
}

/// The schema, as an EventSchema has it. One without a draft is read as one of the suite's.
fn compiled(mut schema: Value, draft7: bool) -> Result<EventSchema, String> {
    if let Some(object) = schema.as_object_mut().filter(|_| draft7) {
        object.entry("$schema").or_insert_with(|| json!("http://json-schema.org/draft-07/schema#"));
    }
    let version = SchemaVersion::parse("1").map_err(|error| error.to_string())?;
    let versions = [VersionedSchema { version, uri: None, json_schema: schema, deprecated: false }];
    check(&versions).map_err(|error| error.to_string())?;
    EventSchema::compile(&versions).map_err(|error| error.to_string())
}

fn failure(schema: &EventSchema, case: &Case) -> Option<String> {
    let instance = Instance { data: case.data.clone(), version: None, uri: None };
    let result = schema.validate(&instance);
    match (result, case.valid) {
        (Ok(()), false) => Some("valid, although it should not be".to_owned()),
        (Err(violation), true) => Some(violation.to_string()),
        _ => None,
    }
}
