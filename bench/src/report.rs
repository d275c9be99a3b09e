//! Reports the figures: on the terminal as they come, and as JSON.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::figure::Figure;
use crate::lab::Compared;

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    scenarios: Vec<Section>,
}

/// The figures of one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    pub(crate) letter: String,
    pub(crate) title: &'static str,
    pub(crate) figures: Vec<Figure>,
    compared: Compared,
}

#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    started: String,
    /// The commit that is measured; empty outside of a git checkout.
    commit: String,
    nats_server: String,
}

impl Default for Machine {
    fn default() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: String, name: &str| -> Option<String> {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kib = field(read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Self {
            processor: field(read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kib.unwrap_or_default().div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            started: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            commit: commit().unwrap_or_default(),
            nats_server: String::new(),
        }
    }
}

fn commit() -> Option<String> {
    let describe = ["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"];
    let output = Command::new("git").args(describe).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[expect(clippy::print_stdout, reason = "for a person at a terminal")]
impl Report {
    /// Sets the version of nats-server, which is known once the server runs.
    pub(crate) fn on(&mut self, nats_server: String) {
        self.machine.nats_server = nats_server;
    }

    pub(crate) fn begin(&mut self, letter: String, title: &'static str) {
        println!("\n==> {letter}: {title}");
        self.scenarios.push(Section { letter, title, figures: Vec::new(), compared: Compared::default() });
    }

    /// Adds figures of the current scenario.
    pub(crate) fn add(&mut self, figures: impl IntoIterator<Item = Figure>) {
        for figure in figures {
            println!("    {figure}");
            if let Some(section) = self.scenarios.last_mut() {
                section.figures.push(figure);
            }
        }
    }

    /// Prints a note of progress.
    pub(crate) fn progress(&self, what: &str) {
        println!("    ({what})");
    }

    pub(crate) fn sections(&self) -> &[Section] {
        &self.scenarios
    }

    /// Ends the current scenario.
    pub(crate) fn end(&mut self, compared: Compared) {
        let Compared { deliveries, lost, duplicates } = compared;
        println!("    ({deliveries} deliveries compared: {lost} lost, {duplicates} came again)");
        if let Some(section) = self.scenarios.last_mut() {
            section.compared = compared;
        }
    }

    /// Prints all figures as a table in Markdown, and how many miss their target.
    pub(crate) fn finish(&self) {
        println!("\n{}", self.markdown());
        let figures = || self.scenarios.iter().flat_map(|section| &section.figures);
        let missed = figures().filter(|figure| figure.is_met() == Some(false)).count();
        println!("{missed} of {} targets were missed.", figures().filter(|figure| figure.is_met().is_some()).count());
    }
}

impl Report {
    fn markdown(&self) -> String {
        let Machine { processor, cores, memory_gib, kernel, started, commit, nats_server } = &self.machine;
        let mut text = format!(
            "{started}, commit {commit}, nats-server {nats_server}, {cores} cores ({processor}), {memory_gib} GiB, \
             Linux {kernel}\n\n\
             | | figure | measured | runs | target | |\n|---|---|---|---|---|---|\n"
        );
        for section in &self.scenarios {
            for figure in &section.figures {
                text.push_str(&format!("| {} | {}\n", section.letter, figure.row()));
            }
        }
        text
    }

    pub(crate) fn save(&self, json: &Path) -> Result<()> {
        if let Some(folder) = json.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(json, serde_json::to_vec_pretty(self)?).with_context(|| format!("write {}", json.display()))
    }
}
