//! Starts this executable in one of its other roles, as a child process.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use hookwright_e2e::Process;

/// Starts this executable with these arguments.
pub(crate) fn spawn(name: &str, arguments: &[&str], log: &Path) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe().context("where this executable is")?);
    command.args(arguments);
    Process::spawn(name, &command, log)
}
