//! How far a Subscription is behind its stream, and by which steps it goes behind and becomes live again.
//!
//! # Theory of operation
//!
//! A Subscription is *live*: the reader that all Subscriptions of a Producer share hands it each event. Or it is
//! *behind*: its events stay in the stream, until a reader of its own delivers them. The stream is the buffer, so
//! nothing is copied and no bound is needed but the stream's own.
//!
//! Its [`Position`] says which sequences are the dedicated reader's. Those are *covered*: the shared reader skips them.
//! The **invariant** is: when the shared reader acks an event, each of its deliveries is done, stored, or covered by a
//! durable position, and a range goes only after everything in it was delivered or stored.
//!
//! Dispatchers learn of a new position with a delay, so each step is safe with any mix of old and new views:
//!
//! - **Going behind** ([`Position::go_behind`]). An event that must not be delivered now is held until the position
//!   covers it durably, or until the delivery is parked.
//! - **Reading**. One dispatcher owns the Subscription. It reads from `from`, or from where the cursor has come to.
//! - **Going live** ([`Position::next`]). At the head of the stream the owner closes the range: from `to` on, those who
//!   know of it deliver themselves. Once all know of it, the owner stores `until`, the last sequence that anyone can have
//!   skipped, and reads up to it. The range goes when the cursor and the shared consumer's ack floor have passed `until`:
//!   until then an event may still be in the hands of a dispatcher that skips it.
//!
//! The rules were found with a model of two dispatchers whose views lag; `tests/positions` checks them with these very
//! functions.

mod cursor;
mod flow;
mod ranges;
pub mod slots;
mod turns;

pub use cursor::{Cursor, Missed};
pub use flow::{Flow, SkipTo, resume_mark};
pub use ranges::{Gone, Left, Position, Range, Reason, Seen, Step, Waits};
pub use turns::Turns;
