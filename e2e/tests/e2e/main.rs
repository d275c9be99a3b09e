//! Everything together, the way a user runs it: a real API server, a real nats-server, the operator with its
//! ServiceAccount's rights, two dispatchers, real receivers.
//!
//! Most tests share one world and run side by side, each in a namespace of its own (`shop::shared`). A test that stops or
//! changes what is shared has a world of its own (`shop::beside`). One that takes all that the machine has runs alone
//! (`shop::alone`).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and prints its figures")]
#![allow(clippy::too_many_lines, reason = "a scenario may be long")]

mod admission;
mod behind;
mod chart;
mod clients;
mod cluster;
mod corners;
mod cut_connections;
mod dead_letters;
mod disabled;
mod due;
mod edits;
mod egress;
mod examples;
mod fault_table;
mod faults;
mod filters;
mod flow_control;
mod harness;
mod hostile;
mod installation;
mod kills;
mod lifecycle;
mod load;
mod malformed;
mod nats_login;
mod parking;
mod payload;
mod poison;
mod refusals;
mod restores;
mod retries;
mod rights;
mod routing;
mod schemas;
mod secrets;
mod send_test;
mod sharing;
mod shop;
mod shutdown;
mod startup;
mod status;
mod storage;
mod streams;
mod system;
mod upgrades;
mod wire;
