//! Delivers what waits in the stream for Subscriptions that are behind. The owner of a Subscription reads its events from
//! the stream, and hands each one to the Subscription's lane like a live one.
//!
//! [`slots`] shares the Subscriptions out to dispatchers. [`owner`] runs a [`reader`] for each Subscription of this
//! dispatcher that is not live. It reads from a [`stream`], a [`block`] at a time, which all readers share that come to it
//! ([`blocks`]), while it has its turn ([`turns`]). Its [`window`] says what is under way. [`hand_out`] puts events into
//! the lane, and [`probe`] tries an endpoint whose breaker is open. `run` starts it.

mod block;
pub(crate) mod blocks;
mod hand_out;
mod memory;
pub(crate) mod owner;
mod probe;
mod reader;
pub(crate) mod slots;
mod stream;
pub(crate) mod turns;
mod window;
pub(crate) mod work;
