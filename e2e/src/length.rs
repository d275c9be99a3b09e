//! How much the tests do that gain from doing more, such as tests of kills, of long times and of large numbers; and on
//! how many NATS servers.

use std::fs::OpenOptions;
use std::io::Write;

/// Returns `short`, or `long` if `HOOKWRIGHT_TEST_LONG` is set to something but 0, as `make test-long` does.
pub fn by_length<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// Whether the long form is asked for.
pub fn is_long() -> bool {
    std::env::var("HOOKWRIGHT_TEST_LONG").is_ok_and(|value| !value.is_empty() && value != "0")
}

/// How many NATS servers there are where a test doesn't say: `HOOKWRIGHT_TEST_SERVERS`, else 1.
pub fn servers() -> usize {
    std::env::var("HOOKWRIGHT_TEST_SERVERS").ok().and_then(|value| value.parse().ok()).unwrap_or(1)
}

/// Prints a line about what a test found, and appends it to the file that `HOOKWRIGHT_TEST_SUMMARY` names.
#[expect(clippy::print_stdout, reason = "for a person who runs tests")]
pub fn report(line: &str) {
    println!("{line}");
    let Some(path) = std::env::var_os("HOOKWRIGHT_TEST_SUMMARY") else { return };
    let written = OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| writeln!(file, "{line}"));
    if let Err(error) = written {
        println!("can't write the summary: {error}");
    }
}
