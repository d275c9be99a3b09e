//! Logs: one line for each event, to standard error.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;

/// The shortest time between two lines that [`Seldom`] lets through if nobody says otherwise.
const SELDOM: Duration = Duration::from_secs(10);

/// What no filter lets through.
const NOT_LOGGED: &str = "kube_client::client=error";

/// The settings of the logs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LogSettings {
    /// The format of a line: `Text` or `Json`.
    pub format: Format,
    /// Which lines to log, in the form of `RUST_LOG`. The variable `RUST_LOG` wins over this setting. If neither is
    /// given, the filter is `info,async_nats=warn`.
    pub filter: Option<String>,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub enum Format {
    /// Text for people, without colours.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

/// Starts logging. Only the first call in a process has an effect.
pub fn init(settings: &LogSettings) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(settings.filter.as_deref().unwrap_or("info,async_nats=warn")));
    // The client of Kubernetes logs a list that it can't read, with what all tenants wrote.
    let filter = match NOT_LOGGED.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that logging was started already.
    let _ = match settings.format {
        Format::Text => builder.with_ansi(false).try_init(),
        Format::Json => builder.json().try_init(),
    };
}

/// A limit for a log line that may repeat: by default it lets one line through in ten seconds. If thousands of deliveries
/// fail, they fail for one reason, and one line is enough.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    last: Mutex<Option<Instant>>,
}

impl Default for Seldom {
    fn default() -> Self {
        Self::every(SELDOM)
    }
}

impl Seldom {
    /// A limit that lets one line through in this time.
    #[must_use]
    pub fn every(time: Duration) -> Self {
        Self { every: time, last: Mutex::default() }
    }

    /// Whether the line is to be written now.
    pub fn now(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = last.is_none_or(|last| now.duration_since(last) >= self.every);
        if due {
            *last = Some(now);
        }
        due
    }
}

/// The text of an error and all its causes, on one line with colons between them. A cause that the text already ends
/// with is not repeated.
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
    async fn one_line_in_ten_seconds_or_in_the_time_that_is_given() {
        let (seldom, rarely) = (Seldom::default(), Seldom::every(2 * SELDOM));
        assert!(seldom.now() && !seldom.now() && rarely.now());
        tokio::time::advance(SELDOM).await;
        assert!(seldom.now() && !seldom.now() && !rarely.now());
        tokio::time::advance(SELDOM).await;
        assert!(rarely.now() && !rarely.now());
    }
}
