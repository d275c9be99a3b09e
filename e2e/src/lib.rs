//! A harness that starts everything for real: a Kubernetes control plane, NATS, the operator, dispatchers and
//! receivers.
//!
//! # Theory of operation
//!
//! [`World::start`] starts everything. Its parts ([`ControlPlane`], [`Nats`], [`Operator`], [`Dispatcher`],
//! [`Receiver`]) also stand alone. Every server listens on a free port of 127.0.0.1. Tests wait for
//! what they expect with [`wait_for`], which reports what it saw last. Nothing sleeps for a guessed time.
//!
//! Nothing outlives the test. Children are killed on drop, and by the kernel when this process dies, however it dies
//! (see `process.rs`). The operator acts with its ServiceAccount's token. Its rights, the settings and the rights of NATS
//! users are those of the chart ([`chart`]). So a missing right fails a test, at its end at the latest ([`Component`]).
//!
//! A missing tool is an error, never a skipped test.
//!
//! `HOOKWRIGHT_KEEP=1` keeps the folder with configuration, data and logs. `HOOKWRIGHT_TEST_LONG=1` asks for the long
//! form of the tests that have one ([`by_length`]), `HOOKWRIGHT_TEST_SERVERS=3` for a cluster of NATS servers in place of
//! one ([`servers`]).

pub mod chart;
mod component;
mod control_plane;
mod dispatcher;
mod http_get;
mod length;
mod lent_plane;
mod nats;
mod operator;
mod process;
mod proxy;
mod publish;
mod receiver;
mod scratch;
mod settings;
mod tools;
mod verify;
mod wait;
mod world;

pub use component::Component;
pub use control_plane::{ControlPlane, operator};
pub use dispatcher::Dispatcher;
pub use length::{by_length, is_long, report, servers};
pub use lent_plane::LentPlane;
pub use nats::{Nats, NatsOptions, NatsServer, SmallDisk, User};
pub use operator::Operator;
pub use process::Process;
pub use proxy::{Mode, Proxy};
pub use publish::{Event, Publisher};
pub use receiver::{Answer, Gate, Received, Receiver};
pub use scratch::Scratch;
pub use settings::SealingKey;
pub use tools::{Tools, Use, workspace, workspace_binary};
pub use verify::{Language, ParsedEvent, Signed, Verdict, verify, verify_documented, verify_javascript, verify_python};
pub use wait::wait_for;
pub use world::{Options, World};
