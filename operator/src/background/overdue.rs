//! Publishes overdue schedules again.
//!
//! A server that can't store a message when its time has come, as its account's storage is full, takes the schedule for
//! published until it restarts or another server leads (nats-server 2.12 to 2.15). Such a delivery would never be made.
//! So the operator goes round the schedules, some at a time. It publishes a schedule that is long overdue again, unless
//! the delivery was parked again or published meanwhile.
//!
//! On its way, it notes the Subscriptions that have no object any more.

use std::collections::HashSet;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use hookwright_core::nats::names::{PARKED_AT_SUBJECTS, PARKED_STREAM};
use hookwright_runtime::logging;
use jiff::{SignedDuration, Timestamp};
use tracing::{debug, warn};

use crate::background::Periodic;
use crate::context::Context;
use crate::faults;
use crate::nats::jetstream::{JsError, JsResult};

/// How many schedules a turn looks at, and how many bytes of them.
const LOOK: usize = 500;
const LOOK_BYTES: usize = 8 << 20;
/// How late a schedule may be. A server is late by less than a second.
const LATE: SignedDuration = SignedDuration::from_secs(60);

/// The position of a round, and its end. What is published again comes after the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    from: u64,
    until: u64,
}

/// The round in progress, if any.
#[derive(Default)]
pub(crate) struct Overdue(Option<Round>);

impl Periodic for Overdue {
    async fn turn(&mut self, ctx: &Context) {
        match look(ctx, self.0).await {
            Ok(next) => self.0 = next,
            Err(error) => debug!(error = logging::chain(&error), "can't look for overdue schedules"),
        }
    }
}

/// Looks at some schedules. Returns how to go on, or none if the round is over.
async fn look(ctx: &Context, round: Option<Round>) -> JsResult<Option<Round>> {
    let names = ctx.js.names()?;
    let (parked, subjects) = (names.stream(PARKED_STREAM), names.subject(PARKED_AT_SUBJECTS));
    let mut round = match round {
        Some(round) => round,
        None => {
            let Some(stream) = ctx.js.stream(&parked).await? else { return Ok(None) };
            Round { from: stream.state.first_sequence, until: stream.state.last_sequence }
        }
    };
    let now = ctx.js.time().await?;
    ctx.subscriptions.listed.wait().await;
    let living: HashSet<String> =
        ctx.subscriptions.store.state().iter().map(|object| ctx.identities.of(&**object)).collect();
    let mut bytes = 0;
    for _ in 0..LOOK {
        let next = ctx.js.next_message(&parked, round.from, &subjects).await?;
        let Some(raw) = next.filter(|raw| raw.sequence <= round.until) else { return Ok(None) };
        round.from = raw.sequence + 1;
        bytes += raw.payload.len();
        if let Some(uid) = names.parse_parked_at(&raw.subject).filter(|uid| !living.contains(uid.as_str())) {
            ctx.orphans.note(uid);
        }
        // The next round comes to what fails again. The others must not wait for it.
        faults::one(raw.sequence, look_at(ctx, raw, now)).await;
        if bytes >= LOOK_BYTES {
            break;
        }
    }
    Ok(Some(round))
}

async fn look_at(ctx: &Context, raw: RawMessage, now: Timestamp) {
    // The client library panics at some headers.
    match StreamMessage::try_from(raw) {
        Ok(message) => {
            if let Err(error) = again(ctx, message, now).await {
                debug!(error = logging::chain(&error), "can't publish an overdue schedule again");
            }
        }
        Err(error) => warn!(%error, "can't read a parked delivery"),
    }
}

/// Publishes a schedule again if it is overdue.
async fn again(ctx: &Context, message: StreamMessage, now: Timestamp) -> Result<(), JsError> {
    let schedule = message.headers.get("Nats-Schedule").map(|value| value.as_str());
    let Some(at) = schedule.and_then(due).filter(|at| now.duration_since(*at) > LATE) else {
        return Ok(());
    };
    let StreamMessage { subject, headers, payload, sequence, .. } = message;
    let subject = subject.into_string();
    if ctx.js.publish_at(subject.clone(), headers, payload, sequence).await?.is_some() {
        ctx.metrics.overdue_schedules.inc();
        warn!(subject, due = %at, "NATS did not publish a delivery that was due; scheduled it again");
    }
    Ok(())
}

/// Returns when a schedule is due, or none if it is not one of Hookwright's.
fn due(schedule: &str) -> Option<Timestamp> {
    schedule.strip_prefix("@at ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_time_of_a_schedule() {
        assert_eq!(due("@at 2026-01-02T03:04:05.5Z").unwrap().to_string(), "2026-01-02T03:04:05.5Z");
        for other in ["@every 5s", "@at soon", ""] {
            assert_eq!(due(other), None, "{other}");
        }
    }
}
