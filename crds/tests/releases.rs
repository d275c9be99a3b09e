//! `tools/crd-compat.sh`: which release the CRDs are compared with, and what it makes of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A repository with releases of the CRDs; it goes when it is dropped.
struct Releases(PathBuf);

impl Drop for Releases {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Releases {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("hookwright-crds-{}-{name}", std::process::id()));
        std::fs::create_dir_all(folder.join("crds/yaml")).unwrap();
        let releases = Self(folder);
        releases.git(&["init", "--quiet", "--initial-branch=main"]);
        releases
    }

    fn git(&self, arguments: &[&str]) {
        let identity = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "tag.gpgSign=false"];
        let status = Command::new("git").arg("-C").arg(&self.0).args(identity).args(arguments).status().unwrap();
        assert!(status.success(), "{arguments:?}");
    }

    /// The CRDs as they are now, with `from` for `to` in them.
    fn release(&self, tag: &str, (from, to): (&str, &str)) {
        for file in std::fs::read_dir(Path::new(ROOT).join("crds/yaml")).unwrap() {
            let file = file.unwrap();
            let text = std::fs::read_to_string(file.path()).unwrap();
            std::fs::write(self.0.join("crds/yaml").join(file.file_name()), text.replace(from, to)).unwrap();
        }
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--allow-empty", "--no-gpg-sign", "--message", tag]);
        self.git(&["tag", tag]);
    }

    /// Whether the CRDs of now pass, and what is said.
    fn compare(&self) -> (bool, String) {
        let script = Path::new(ROOT).join("tools/crd-compat.sh");
        let compare = env!("CARGO_BIN_EXE_hookwright-crds-compat");
        let output = Command::new("bash").arg(script).arg(&self.0).arg(compare).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }
}

/// In a release of long ago: what is admitted now was not.
const NARROWER: (&str, &str) = ("maxLength: 2048", "maxLength: 7");
/// In one that admitted more.
const WIDER: (&str, &str) = ("maxLength: 2048", "maxLength: 4096");
const SAME: (&str, &str) = ("", "");

#[test]
fn the_highest_release_counts_on_whatever_branch_it_is() {
    let releases = Releases::new("highest");
    let (passes, text) = releases.compare();
    assert!(passes && text.contains("no release yet"), "{text}");
    releases.release("v0.9.0", WIDER);
    let (passes, text) = releases.compare();
    assert!(!passes && text.contains("with those of v0.9.0") && text.contains("maxLength was 4096"), "{text}");
    releases.release("v0.10.0", NARROWER);
    assert!(releases.compare().0);
    releases.git(&["checkout", "--quiet", "-b", "maintenance", "v0.9.0"]);
    releases.release("v0.9.1", SAME);
    releases.release("v0.11.0-rc.1", NARROWER);
    releases.release("v0.11.0", WIDER);
    releases.git(&["checkout", "--quiet", "main"]);
    let (passes, text) = releases.compare();
    assert!(!passes && text.contains("with those of v0.11.0\n"), "{text}");
}

#[test]
fn a_shallow_clone_is_refused() {
    let (releases, clone) = (Releases::new("whole"), Releases::new("shallow"));
    releases.release("v0.9.0", WIDER);
    releases.release("later", SAME);
    let url = format!("file://{}", releases.0.display());
    clone.git(&["fetch", "--quiet", "--no-tags", "--depth=1", &url, "main"]);
    let (passes, text) = clone.compare();
    assert!(!passes && text.contains("shallow"), "{text}");
}
