//! Most scenarios, with little of everything: for correctness, not for time.

use std::process::Command;

use serde_json::Value;

#[test]
fn matching_finds_who_wants_an_event() {
    let output = Command::new(env!("CARGO_BIN_EXE_hookwright-bench")).args(["match", "--smoke"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("10001 want an event") && said.contains("ns"), "{said}");
}

#[test]
fn filters_of_each_dialect_are_measured() {
    let output = Command::new(env!("CARGO_BIN_EXE_hookwright-bench")).args(["filter", "--smoke"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(["sql", "jmespath", "cel", "tenantid"].iter().all(|part| said.contains(part)), "{said}");
}

#[test]
fn scenarios_run_and_lose_nothing() {
    let json = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("smoke.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_hookwright-bench"));
    let output =
        bench.args(["run", "--smoke", "--only", "A,B,C,D,E,F,G,H,I,J,M,N,P,Q", "--json"]).arg(&json).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let sections = report["scenarios"].as_array().unwrap();
    let letters: String = sections.iter().filter_map(|section| section["letter"].as_str()).collect();
    assert_eq!(letters, "ABCDEFGHIJMNPQ", "{said}");
    for section in sections {
        let figures = section["figures"].as_array().unwrap();
        assert!(!figures.is_empty(), "{section}");
        for figure in figures {
            assert!(figure["value"].is_number(), "{figure}");
            assert!(figure["name"] != "lost" || figure["value"] == 0.0, "{figure}");
        }
        let compared = &section["compared"];
        assert!(compared["deliveries"].as_u64().unwrap() > 0 && compared["lost"] == 0, "{section}");
        // A kill, and a Subscription that becomes live again, may send something twice.
        let may_repeat = ["J", "H"].iter().any(|letter| section["letter"] == *letter);
        assert!(compared["duplicates"] == 0 || may_repeat, "{section}");
    }
    let chart = std::fs::read_to_string(json.with_extension("svg")).unwrap();
    assert!(chart.contains("Hookwright") && chart.contains("<rect"), "{chart}");
}
