//! The egress file, which operator and dispatchers read: it says which endpoints may be dialled.
//!
//! The file is read again while the process runs. A change counts once two looks in a row have found it, as a file that is
//! written in place may be half there. A file that can't be used changes nothing: the rules that were in force stay so.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hookwright_core::destination::egress::Egress;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::logging::{Seldom, chain};

/// The wait between two looks at the file. The content is compared: the file may be a link, and another file takes the
/// place of the one behind it.
const LOOK: Duration = Duration::from_secs(1);
/// How often the log says that the file can't be used, while that lasts. A process that starts meanwhile ends at once.
const AGAIN: Duration = Duration::from_secs(60);

/// The rules of an egress file.
#[derive(Debug)]
pub struct EgressRules {
    /// The rules of each namespace.
    pub egress: Egress,
    /// The digest of the rules, as leases have it.
    pub digest: String,
}

impl From<Egress> for EgressRules {
    fn from(egress: Egress) -> Self {
        let digest = egress.digest();
        Self { egress, digest }
    }
}

/// The rules in force.
pub type InForce = watch::Receiver<Arc<EgressRules>>;

/// Why an egress file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EgressFileError {
    #[error("can't read the egress file {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("the egress file {path} is not YAML")]
    Yaml { path: PathBuf, source: Box<serde_saphyr::Error> },
    #[error("the rules in the egress file {path} are wrong")]
    Invalid { path: PathBuf, source: serde_json::Error },
}

/// An egress file that is followed.
pub struct EgressFile {
    path: Option<PathBuf>,
    rules: watch::Sender<Arc<EgressRules>>,
    /// What the last look has found: the content, or why there is none.
    seen: Result<Vec<u8>, io::ErrorKind>,
    /// Whether something was made of what was seen.
    is_settled: bool,
    /// Why the file can't be used, if that is so, and how often the log says it.
    fault: Option<(String, Seldom)>,
}

impl EgressFile {
    /// Reads the file. Without one, the default rules hold.
    ///
    /// # Errors
    /// If the file can't be read, or is not YAML, or has rules that make no sense.
    pub fn open(path: Option<&Path>) -> Result<Self, EgressFileError> {
        let text = match path {
            Some(path) => {
                std::fs::read(path).map_err(|source| EgressFileError::File { path: path.to_owned(), source })?
            }
            None => Vec::new(),
        };
        let egress = path.map(|path| parse(path, &text)).transpose()?.unwrap_or_default();
        let rules = watch::Sender::new(Arc::new(EgressRules::from(egress)));
        Ok(Self { path: path.map(Path::to_owned), rules, seen: Ok(text), is_settled: true, fault: None })
    }

    /// The rules in force.
    #[must_use]
    pub fn in_force(&self) -> InForce {
        self.rules.subscribe()
    }

    /// Reads the file again and again, for as long as the process runs. `unusable` is 1 while the file can't be used.
    pub async fn follow(mut self, unusable: Gauge) -> Infallible {
        let Some(path) = self.path.clone() else { return std::future::pending().await };
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let found = tokio::fs::read(&path).await;
            self.look(&path, found, &unusable);
        }
    }

    /// Takes what a look has found.
    fn look(&mut self, path: &Path, found: io::Result<Vec<u8>>, unusable: &Gauge) {
        let found = found.map_err(|error| error.kind());
        if found != self.seen {
            (self.seen, self.is_settled) = (found, false);
            return;
        }
        if std::mem::replace(&mut self.is_settled, true) {
            return self.tell();
        }
        let read = match &self.seen {
            Ok(text) => parse(path, text),
            Err(kind) => Err(EgressFileError::File { path: path.to_owned(), source: (*kind).into() }),
        };
        match read {
            Ok(egress) => {
                unusable.set(0);
                self.fault = None;
                let former = self.rules.borrow().clone();
                let rules = EgressRules::from(egress.after(&former.egress));
                info!(digest = rules.digest, "the egress file was read again");
                if former.digest != rules.digest {
                    self.rules.send_replace(Arc::new(rules));
                }
            }
            Err(error) => {
                unusable.set(1);
                self.fault = Some((chain(&error), Seldom::every(AGAIN)));
                self.tell();
            }
        }
    }

    /// Says in the log why the file can't be used, if it can't, now and then: nobody else does, as what runs goes on.
    fn tell(&self) {
        if let Some((error, seldom)) = &self.fault
            && seldom.now()
        {
            warn!(error, "the egress file can't be used: the former rules stay in force, and no process can start");
        }
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Egress, EgressFileError> {
    let rules: Value = serde_saphyr::from_slice(text)
        .map_err(|source| EgressFileError::Yaml { path: path.to_owned(), source: Box::new(source) })?;
    // An empty file is refused: a mistake would put the default rules in force.
    serde_json::from_value(rules).map_err(|source| EgressFileError::Invalid { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;

    /// A folder of its own for a test. It is removed when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("hookwright-egress-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        /// Writes the file as the kubelet does: the file is a link into a folder, and another folder takes its place.
        fn mount(&self, version: &str, text: &str) -> PathBuf {
            let file = self.0.join("egress.yaml");
            fs::create_dir(self.0.join(version)).unwrap();
            fs::write(self.0.join(version).join("egress.yaml"), text).unwrap();
            symlink(version, self.0.join("..data_tmp")).unwrap();
            fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
            let _ = symlink("..data/egress.yaml", &file);
            file
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn allows(rules: &InForce, url: &str) -> bool {
        rules.borrow().egress.of("shop").check_url(&url.parse().unwrap()).is_ok()
    }

    const PLAIN: &str = "http://example.com:8080/";

    #[tokio::test(start_paused = true)]
    async fn a_mounted_file_is_read_again() {
        let folder = Folder::new("mounted");
        let path = folder.mount("1", "allowedPorts: [443]");
        let file = EgressFile::open(Some(&path)).unwrap();
        let (mut rules, former) = (file.in_force(), file.in_force().borrow().clone());
        tokio::spawn(file.follow(Gauge::default()));
        assert!(!allows(&rules, PLAIN));
        folder.mount("2", "{ allowedPorts: [8080], plainHttp: true }");
        rules.changed().await.unwrap();
        assert!(allows(&rules, PLAIN));
        assert_ne!(rules.borrow().digest, former.digest);
        folder.mount("3", "allowedPorts: [443]");
        rules.changed().await.unwrap();
        assert!(!allows(&rules, PLAIN));
        assert_eq!(rules.borrow().digest, former.digest);
    }

    #[test]
    fn what_two_looks_find_counts_and_what_can_not_be_used_changes_nothing() {
        let folder = Folder::new("looks");
        let path = folder.mount("1", "allowedPorts: [443]");
        let (mut file, unusable) = (EgressFile::open(Some(&path)).unwrap(), Gauge::default());
        let rules = file.in_force();
        let former = rules.borrow().digest.clone();
        let gone = || io::Result::Err(io::ErrorKind::NotFound.into());
        let text = |text: &str| Ok(text.as_bytes().to_vec());
        let open = "{ allowedPorts: [8080], plainHttp: true }";
        for (found, is_new, is_unusable) in [
            (text("allowedPorts: [443]"), false, 0),
            (text("allowedPorts: [44"), false, 0),
            (text("allowedPorts: [443]"), false, 0),
            (text("allowedPorts: [44"), false, 0),
            (text("allowedPorts: [44"), false, 1),
            (text(""), false, 1),
            (text(""), false, 1),
            (text("plainHTTP: true"), false, 1),
            (text("plainHTTP: true"), false, 1),
            (gone(), false, 1),
            (gone(), false, 1),
            (text("allowedPorts: [443]"), false, 1),
            (text("allowedPorts: [443]"), false, 0),
            (gone(), false, 0),
            (text(open), false, 0),
            (text(open), true, 0),
            (gone(), true, 0),
            (gone(), true, 1),
        ] {
            let what = format!("{found:?}");
            file.look(&path, found, &unusable);
            assert_eq!((allows(&rules, PLAIN), unusable.get()), (is_new, is_unusable), "{what}");
            assert_eq!(file.fault.is_some(), is_unusable == 1, "{what}");
            assert_eq!(rules.borrow().digest != former, is_new, "{what}");
        }
    }

    #[test]
    fn a_file_that_can_not_be_used_ends_the_start_and_none_means_the_default_rules() {
        let folder = Folder::new("start");
        let opened = |version: &str, text: &str| EgressFile::open(Some(&folder.mount(version, text))).err();
        assert!(matches!(opened("1", "plainHttp: ["), Some(EgressFileError::Yaml { .. })));
        assert!(matches!(opened("2", "plainHttp: maybe"), Some(EgressFileError::Invalid { .. })));
        assert!(matches!(opened("3", ""), Some(EgressFileError::Yaml { .. } | EgressFileError::Invalid { .. })));
        assert!(opened("4", "{}").is_none());
        assert!(matches!(EgressFile::open(Some(&folder.0.join("none"))), Err(EgressFileError::File { .. })));
        let rules = EgressFile::open(None).unwrap().in_force();
        assert!(allows(&rules, "https://example.com/") && !allows(&rules, PLAIN));
    }

    #[test]
    fn the_documented_example_has_the_defaults() {
        let docs = include_str!("../../docs/reference/settings.md");
        let example = docs.split("```yaml\n").nth(3).and_then(|rest| rest.split("```").next()).unwrap();
        let written = parse(Path::new("egress.yaml"), example.as_bytes()).unwrap();
        let default: Egress = serde_json::from_value(json!({})).unwrap();
        assert_eq!(format!("{written:?}"), format!("{default:?}"));
        assert_eq!(written.digest(), Egress::default().digest(), "the same as without a file");
    }
}
