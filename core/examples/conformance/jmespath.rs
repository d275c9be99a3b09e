//! The compliance suite of JMESPath: the folder `tests` of <https://github.com/jmespath/jmespath.test>.

use std::error::Error;
use std::path::Path;

use hookwright_core::expression::Jmespath;
use serde::Deserialize;
use serde_json::Value;

use crate::{Report, files};

#[derive(Deserialize)]
struct Suite {
    given: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    expression: String,
    /// Absent or `null`: the wanted result is null, unless there is an error.
    #[serde(default)]
    result: Value,
    error: Option<String>,
    bench: Option<String>,
}

pub(crate) fn run(folder: &Path, report: &mut Report) -> Result<(), Box<dyn Error>> {
    for path in files(folder, &["json"])? {
        let text = std::fs::read_to_string(&path)?;
        let suites: Vec<Suite> = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        for suite in suites {
            for case in suite.cases.iter().filter(|case| case.bench.is_none()) {
                report.case(&format!("{name}: {}", case.expression), failure(&suite.given, case));
            }
        }
    }
    Ok(())
}

fn failure(given: &Value, case: &Case) -> Option<String> {
    match (Jmespath::search(&case.expression, given), &case.error) {
        (Err(_), Some(_)) => None,
        (Ok(found), Some(error)) => Some(format!("{found}, not the error {error}")),
        (Ok(found), None) => {
            let (found, wanted) = (plain(found), plain(case.result.clone()));
            (found != wanted).then(|| format!("{found}, not {wanted}"))
        }
        (Err(error), None) => Some(format!("{error}, not {}", case.result)),
    }
}

/// The value with numbers in one form: JSON doesn't tell 1.0 from 1.
fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(list) => list.into_iter().map(plain).collect(),
        Value::Object(map) => map.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        other => other,
    }
}
