//! What the API server admits: the table of `crds/tests/admission`.

use std::path::PathBuf;

use hookwright_e2e::{ControlPlane, Scratch, Tools, wait_for, workspace};

use crate::shop::SOON;

#[tokio::test]
async fn the_api_server_admits_what_it_should_and_says_why_not() {
    let tools = Tools::locate().await.unwrap();
    let scratch = Scratch::new().unwrap();
    let plane = ControlPlane::start(&tools, &scratch.path().join("kube")).await.unwrap();
    let mut wrong = Vec::new();
    let (accepted, refused) = (cases("accepted"), cases("refused"));
    assert!(accepted.len() > 10 && refused.len() > 100);
    for case in accepted {
        for document in documents(&case) {
            if let Err(error) = put(&plane, &document).await {
                wrong.push(format!("{} is refused: {error:#}", case.display()));
            }
        }
    }
    for case in refused {
        let text = std::fs::read_to_string(&case).unwrap();
        let expected = text.lines().next().unwrap().strip_prefix("# expect: ").unwrap();
        let mut documents = documents(&case);
        let last = documents.pop().unwrap();
        for document in documents {
            put(&plane, &document).await.unwrap();
        }
        match put(&plane, &last).await {
            Ok(()) => wrong.push(format!("{} is admitted", case.display())),
            Err(error) if format!("{error:#}").contains(expected) => {}
            Err(error) => wrong.push(format!("{}: expected {expected:?}, got {error:#}", case.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn explain_reads_well() {
    let tools = Tools::locate().await.unwrap();
    let scratch = Scratch::new().unwrap();
    let plane = ControlPlane::start(&tools, &scratch.path().join("kube")).await.unwrap();
    for (field, wanted) in [
        ("subscriptions.hookwright.dev", "DESCRIPTION"),
        ("subscriptions.hookwright.dev.spec.delivery.retry.backoff", "schedule"),
        ("subscriptions.hookwright.dev.spec.endpoint.url", "http"),
        ("producers.hookwright.dev.spec.stream", "deletionPolicy"),
        ("producers.hookwright.dev.spec.validation", "Enforce"),
        ("eventschemas.hookwright.dev.spec.versions", "jsonSchema"),
    ] {
        // The API server publishes the schemas a moment after it serves the resources.
        let explained = wait_for("an explanation", SOON, async || plane.kubectl(&["explain", field]).await);
        let text = explained.await.unwrap();
        assert!(text.contains(wanted) && !text.contains("Auto-generated"), "{field}: {text}");
    }
}

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = workspace().join("crds/tests/admission").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn documents(case: &PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(case).unwrap();
    text.split("\n---\n").map(str::to_owned).collect()
}

/// Creates the object, or replaces the one of its name.
async fn put(plane: &ControlPlane, document: &str) -> anyhow::Result<()> {
    match plane.kubectl_stdin(&["create", "-f", "-"], document).await {
        Err(error) if format!("{error:#}").contains("AlreadyExists") => {
            plane.kubectl_stdin(&["replace", "-f", "-"], document).await.map(drop)
        }
        result => result.map(drop),
    }
}
