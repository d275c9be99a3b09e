//! How many sockets the process may have open. Container runtimes start processes with a low soft limit (1,024) and leave
//! it to them to raise it up to the hard limit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// The files that are left to other uses than attempts and idle connections: NATS, name servers, logs.
const OTHERS: u64 = 512;

/// Raises the limit of open files, and returns how many of this many attempts fit into it, with as many idle connections.
pub(crate) fn for_attempts(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // If it can't be raised, it stays as it is.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let files = if raised.is_ok() { maximum } else { current };
    let fit = fitting(wanted, files);
    if fit < wanted {
        warn!(
            files,
            attempts = fit,
            "the limit of open files (RLIMIT_NOFILE) allows fewer attempts than limits.inFlight"
        );
    }
    fit
}

fn fitting(wanted: usize, files: Option<u64>) -> usize {
    let most = |files: u64| {
        let fit = (files.saturating_sub(OTHERS) / 2).max(files / 4);
        usize::try_from(fit).unwrap_or(usize::MAX).max(1)
    };
    files.map_or(wanted, |files| wanted.min(most(files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_leave_files_to_others() {
        for (files, fits) in [(None, 8192), (Some(1 << 20), 8192), (Some(4096), 1792), (Some(600), 150), (Some(1), 1)] {
            assert_eq!(fitting(8192, files), fits, "{files:?}");
        }
        assert_eq!(fitting(64, Some(4096)), 64);
    }
}
