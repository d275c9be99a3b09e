//! What a lane has seen of its endpoint: how fast attempts end, and whether the endpoint or the dispatcher is slow.

use std::time::Duration;

use hookwright_core::delivery::outcome::OutcomeKind;
use tokio::time::Instant;

use crate::limits::slowness::{Allowance, START_WITHIN};

/// How many time-outs in a row narrow a lane to one delivery at a time.
pub(super) const TRIP: u32 = 5;
/// How often the pace of a lane is measured while deliveries linger in it.
pub(super) const PACE: Duration = Duration::from_secs(1);
/// An endpoint that takes longer than this by itself is slow, also if the dispatcher is slow.
const QUICK: Duration = Duration::from_millis(500);

/// What a lane has seen of its endpoint.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The number of attempts that have ended.
    ended: usize,
    /// How long answers have taken lately.
    typical: Option<Duration>,
    /// How long the quickest of the last few hundred answers has taken, about.
    quickest: Option<Duration>,
    /// The number of attempts in a row that timed out.
    timed_out: u32,
    /// Deliveries waited while no attempt ended, and no attempt was answered since.
    hangs: bool,
    /// The pace, while deliveries linger.
    pace: Option<Pace>,
}

/// How fast a lane has taken deliveries lately.
#[derive(Debug)]
struct Pace {
    looked: Instant,
    /// The number of attempts that had ended at the last look, and at the look before.
    ended: [usize; 2],
    looks: usize,
    /// How many deliveries the lane will take in time.
    in_time: usize,
}

impl Answers {
    /// Counts an attempt, and returns whether the endpoint has answered.
    pub(super) fn attempted(&mut self, outcome: OutcomeKind, took: Duration) -> bool {
        self.ended = self.ended.wrapping_add(1);
        if outcome == OutcomeKind::TimedOut {
            self.timed_out = self.timed_out.saturating_add(1);
            return false;
        }
        (self.timed_out, self.hangs) = (0, false);
        self.typical = Some(self.typical.map_or(took, |typical| typical - typical / 8 + took / 8));
        self.quickest = Some(self.quickest.map_or(took, |quickest| took.min(quickest + quickest / 64)));
        true
    }

    /// Whether the lane lets in only one delivery at a time, because the endpoint let attempts time out.
    pub(super) fn is_narrow(&self) -> bool {
        self.timed_out >= TRIP
    }

    /// Whether the endpoint hangs.
    pub(super) fn hangs(&self) -> bool {
        self.hangs
    }

    /// Whether the dispatcher's own slowness explains how long the endpoint takes.
    pub(super) fn are_delayed_by_us(&self, allowance: Allowance) -> bool {
        let (Some(typical), Some(quickest)) = (self.typical, self.quickest) else { return false };
        !self.hangs && self.timed_out == 0 && allowance.explains(typical.saturating_sub(quickest.min(QUICK)))
    }

    /// Forgets the pace: nothing lingers.
    pub(super) fn forget_pace(&mut self) {
        self.pace = None;
    }

    /// Returns how many deliveries will have their turn in time, judged by the last two looks, which are this far apart.
    pub(super) fn look(&mut self, now: Instant, every: Duration) -> usize {
        let ended = self.ended;
        let pace = self.pace.get_or_insert(Pace { looked: now, ended: [ended; 2], looks: 0, in_time: usize::MAX });
        if now >= pace.looked + every {
            let looks = (pace.looks + 1).min(2);
            let took = ended.wrapping_sub(pace.ended[1]);
            // After only one look without an ended attempt, the endpoint may just be slow to answer.
            if took > 0 || looks == 2 {
                pace.in_time = took * (START_WITHIN.as_millis() / every.as_millis()).max(1) as usize / looks;
                self.hangs |= took == 0;
            }
            *pace = Pace { looked: now, ended: [ended, pace.ended[0]], looks, in_time: pace.in_time };
        }
        pace.in_time
    }
}
