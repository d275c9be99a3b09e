//! The users of the chart's bundled NATS, one that may do everything, and their passwords.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

/// The users of the chart's bundled NATS, and one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The operator's user, which manages streams, consumers and buckets.
    Operator,
    /// The dispatchers' user, which reads events and stores what could not be delivered.
    Dispatcher,
    /// The user of applications, which publish events.
    App,
    /// The user of people who read dead letters and what waits for a retry.
    Reader,
    /// The user that monitors the server itself.
    Sys,
    /// A user of the tests, and of no installation: it may do everything in Hookwright's account.
    Admin,
}

impl User {
    const ALL: [Self; 6] = [Self::Operator, Self::Dispatcher, Self::App, Self::Reader, Self::Sys, Self::Admin];

    /// The user's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Dispatcher => "dispatcher",
            Self::App => "app",
            Self::Reader => "reader",
            Self::Sys => "sys",
            Self::Admin => "admin",
        }
    }

    /// The prefix of the user's inboxes, which are the only subjects that the restricted users may subscribe to.
    pub fn inbox_prefix(self) -> &'static str {
        match self {
            Self::Operator => "_INBOX_operator",
            Self::Dispatcher => "_INBOX_dispatcher",
            Self::App => "_INBOX_app",
            Self::Reader => "_INBOX_reader",
            Self::Sys => "_INBOX",
            Self::Admin => "_INBOX_admin",
        }
    }
}

/// A random password for each user, which is also in a file.
#[derive(Clone)]
pub(super) struct Passwords {
    folder: PathBuf,
    passwords: [String; 6],
}

impl Passwords {
    pub(super) fn generate(folder: &Path) -> Result<Self> {
        // nats.conf reads a value that starts with a letter as a string.
        let passwords = User::ALL.map(|_| format!("p{:032x}", rand::random::<u128>()));
        let generated = Self { folder: folder.to_owned(), passwords };
        for user in User::ALL {
            std::fs::write(generated.file(user), generated.of(user))?;
        }
        Ok(generated)
    }

    pub(super) fn of(&self, user: User) -> &str {
        &self.passwords[user as usize]
    }

    pub(super) fn file(&self, user: User) -> PathBuf {
        self.folder.join(format!("{}.password", user.name()))
    }

    /// Sets the variables that the configuration reads.
    pub(super) fn give_to(&self, command: &mut Command) {
        for user in User::ALL {
            command.env(format!("{}_PASSWORD", user.name().to_uppercase()), self.of(user));
        }
    }
}
