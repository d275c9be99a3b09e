//! Every file of `examples/` is accepted by a real API server.

use std::path::{Path, PathBuf};

use hookwright_e2e::workspace;

use crate::shop::plane;

#[tokio::test]
async fn the_api_server_accepts_every_example() {
    let (plane, _machine) = plane().await;
    for folder in std::fs::read_dir(workspace().join("examples")).unwrap() {
        let folder = folder.unwrap().path();
        let applied = plane.kubectl(&["apply", "-f", &folder.to_string_lossy()]).await.unwrap();
        let files = std::fs::read_dir(&folder).unwrap().filter_map(Result::ok);
        let files = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "yaml")).count();
        assert!(files > 0 && applied.lines().count() >= files, "{}: {applied}", folder.display());
    }
}

/// Every command in a document that publishes does so as the user `app`, who reads answers under its own prefix only; and
/// names Subscriptions so that no other kind is meant.
#[test]
fn the_commands_in_documents_work_as_they_are() {
    let mut files = vec![workspace().join("README.md")];
    for folder in ["docs/reference", "docs/operations", "examples", "manifests"] {
        files.extend(documents(&workspace().join(folder)));
    }
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.lines() {
            let publishes = line.starts_with("nats ") && (line.contains(" pub ") || line.contains(" publish "));
            assert!(!publishes || line.contains("--inbox-prefix _INBOX_app"), "{}: {line}", file.display());
            assert!(!line.contains(" subscription/"), "{}: {line}", file.display());
        }
    }
}

/// The documents below a folder.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = paths.flat_map(|path| if path.is_dir() { documents(&path) } else { vec![path] });
    below.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}
