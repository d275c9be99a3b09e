//! Runs published conformance files as they are: `conformance <kind> <folder>`. Prints a line for each failure and
//! `N passed, N failed`.
#![allow(clippy::print_stdout, reason = "a command line")]

mod cesql;
mod jmespath;
mod json_schema;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The result of all cases.
struct Report {
    /// What is printed before the name of a case that failed.
    failure: &'static str,
    passed: usize,
    failed: usize,
}

impl Report {
    fn new(failure: &'static str) -> Self {
        Self { failure, passed: 0, failed: 0 }
    }

    /// Counts a case. `failure` says what is wrong, if anything is.
    fn case(&mut self, name: &str, failure: Option<String>) {
        match failure {
            None => self.passed += 1,
            Some(failure) => {
                self.failed += 1;
                println!("{} {name}: {failure}", self.failure);
            }
        }
    }
}

/// The files below a folder that have one of these extensions, in order.
fn files(folder: &Path, extensions: &[&str]) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if path.is_dir() {
            found.extend(files(&path, extensions)?);
        } else if extensions.contains(&extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, folder] = &arguments[..] else {
        println!("usage: conformance cesql|jmespath|json-schema <folder>");
        return ExitCode::FAILURE;
    };
    let mut report = Report::new("FAILED");
    let run = match kind.as_str() {
        "cesql" => cesql::run(Path::new(folder), &mut report),
        "jmespath" => jmespath::run(Path::new(folder), &mut report),
        "json-schema" => json_schema::run(Path::new(folder), &mut report),
        other => Err(format!("there is no kind {other:?}").into()),
    };
    if let Err(error) = run {
        println!("{error}");
        return ExitCode::FAILURE;
    }
    println!("{} passed, {} failed", report.passed, report.failed);
    if report.failed == 0 && report.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
