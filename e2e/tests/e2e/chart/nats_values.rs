//! The values for the official NATS chart: its server reads the users from a file that the configuration includes.

use std::process::Command;

use hookwright_e2e::{Scratch, Tools, workspace};
use serde_json::Value;

#[tokio::test]
async fn the_values_for_the_official_nats_chart_have_all_users_and_a_server_reads_them() {
    let text = std::fs::read_to_string(workspace().join("manifests/nats/values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let included = values["config"]["merge"]["$include"].as_str().unwrap();
    let users = values["configMap"]["merge"]["data"][included].as_str().unwrap();
    let bundled = std::fs::read_to_string(workspace().join("charts/hookwright/files/nats.conf")).unwrap();
    assert!(bundled.trim_end().ends_with(users.trim_end()) && users.starts_with("accounts {"), "{users}");

    let scratch = Scratch::new().unwrap();
    let config = scratch.path().join("nats.conf");
    std::fs::write(&config, format!("jetstream {{ store_dir: $NATS_STORE }}\ninclude {included};\n")).unwrap();
    std::fs::write(scratch.path().join(included), users).unwrap();
    let server = Tools::locate().await.unwrap().tool("nats-server").unwrap();
    let check = |variables: &[&str]| {
        let mut command = Command::new(&server);
        command.arg("-t").arg("--config").arg(&config).env("NATS_STORE", scratch.path().join("store"));
        command.envs(variables.iter().map(|name| (*name, "password")));
        command.output().unwrap()
    };
    let environment = values["container"]["env"].as_object().unwrap();
    let variables: Vec<&str> = environment.keys().map(String::as_str).collect();
    let output = check(&variables);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!check(&variables[1..]).status.success(), "each variable is a user's");
}
