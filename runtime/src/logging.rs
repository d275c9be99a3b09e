//! Logs: to standard error, one line an event.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;

const SELDOM: Duration = Duration::from_secs(10);

/// How to log.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LogSettings {
    /// `Text` or `Json`.
    pub format: Format,
    /// What to log, in the form of `RUST_LOG`, which wins over it; if neither is given, `info`.
    pub filter: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Starts logging; the first call counts.
pub fn init(settings: &LogSettings) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(settings.filter.as_deref().unwrap_or("info,async_nats=warn")));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that a subscriber is there already.
    let _ = match settings.format {
        Format::Text => builder.with_ansi(false).try_init(),
        Format::Json => builder.json().try_init(),
    };
}

/// Lets one in ten seconds of many like lines through: what fails for thousands of deliveries fails for one reason.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether this line is to be written.
    pub fn now(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = last.is_none_or(|last| now.duration_since(last) >= SELDOM);
        if due {
            *last = Some(now);
        }
        due
    }
}

/// An error with all its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_in_ten_seconds() {
        let seldom = Seldom::default();
        assert!(seldom.now() && !seldom.now());
        tokio::time::advance(SELDOM).await;
        assert!(seldom.now() && !seldom.now());
    }
}
