//! What runs beside the reconciles: the watches of namespaces and Services, and work that is done again and again.
//!
//! `run` has the one list of what runs and how often; work of this kind is also in `health`. A failure costs nothing but
//! time: it is logged, and the next turn tries again. So is a panic.

pub(crate) mod account;
pub(crate) mod checkpoint;
pub(crate) mod egress;
pub(crate) mod fences;
pub(crate) mod namespaces;
pub(crate) mod overdue;
pub(crate) mod secrets;
pub(crate) mod services;
pub(crate) mod stream_numbers;
pub(crate) mod stream_sizes;
pub(crate) mod sweep;
pub(crate) mod tombstones;
mod unreadable;

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::context::Context;
use crate::faults;

/// Work that is done again and again while NATS is connected.
pub(crate) trait Periodic {
    /// Does the work once.
    async fn turn(&mut self, ctx: &Context);
}

/// Does the work at this interval. A turn that takes longer delays the next one.
pub(crate) async fn every(interval: Duration, mut work: impl Periodic, ctx: &Context) -> Infallible {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if ctx.js.nats().is_err() {
            continue;
        }
        faults::one(std::any::type_name_of_val(&work), work.turn(ctx)).await;
    }
}
