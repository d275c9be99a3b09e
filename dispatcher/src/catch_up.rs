//! Delivers what waits in the stream for Subscriptions that are behind. The owner of a Subscription reads its events from
//! the stream, and hands each one to the Subscription's lane like a live one.
//!
//! [`slots`] shares the Subscriptions out to dispatchers. [`owner`] runs a [`reader`] for each Subscription of this
//! dispatcher that is not live. It reads from a [`stream`], and its [`window`] says what is under way. `run` starts it.

pub(crate) mod owner;
pub(crate) mod reader;
pub(crate) mod slots;
pub(crate) mod stream;
pub(crate) mod window;
