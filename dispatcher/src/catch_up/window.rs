//! The events that a dedicated reader has handed out and whose deliveries are not settled yet.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::ack::hold::Back;

/// The most events that are handed out at a time. The cursor names each of them.
pub(crate) const MOST: usize = 512;
/// The fewest events that may be handed out at a time.
const LEAST: usize = 8;

/// The events that are handed out. Their number follows the endpoint: deliveries that come back because it is slow make
/// it smaller.
pub(crate) struct Window {
    under_way: BTreeMap<u64, Timestamp>,
    /// The events that came back, which are handed out again, and when they were published if that is known.
    again: BTreeMap<u64, Option<Timestamp>>,
    limit: usize,
    backs: mpsc::UnboundedReceiver<Back>,
    sender: mpsc::UnboundedSender<Back>,
}

impl Window {
    /// A window in which these events were under way when the cursor was written.
    pub(crate) fn new(again: impl IntoIterator<Item = u64>) -> Self {
        let (sender, backs) = mpsc::unbounded_channel();
        let again = again.into_iter().map(|sequence| (sequence, None)).collect();
        Self { under_way: BTreeMap::new(), again, limit: MOST, backs, sender }
    }

    /// Where events that were handed out are reported.
    pub(crate) fn reports(&self) -> mpsc::UnboundedSender<Back> {
        self.sender.clone()
    }

    /// How many more events may be handed out. There is none before a quarter of the window is free: a read costs nearly as
    /// much for one event as for many.
    pub(crate) fn room(&self) -> usize {
        let free = self.limit.saturating_sub(self.under_way.len());
        if free < self.limit / 4 { 0 } else { free }
    }

    /// Whether everything that was handed out is settled.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.again.is_empty()
    }

    /// Whether something is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// The first event that has to be handed out again.
    pub(crate) fn again(&self) -> Option<u64> {
        self.again.keys().next().copied()
    }

    /// The first event after this one that has to be handed out again.
    pub(crate) fn again_after(&self, sequence: u64) -> Option<u64> {
        self.again.range(sequence.saturating_add(1)..).next().map(|(sequence, _)| *sequence)
    }

    /// How many events wait to be handed out again.
    pub(crate) fn aside(&self) -> usize {
        self.again.len()
    }

    pub(crate) fn hand_out(&mut self, sequence: u64, published: Timestamp) {
        self.again.remove(&sequence);
        self.under_way.insert(sequence, published);
    }

    /// The event is not to be delivered, or is no longer there.
    pub(crate) fn leave_out(&mut self, sequence: u64) {
        self.again.remove(&sequence);
    }

    /// Leaves out the events up to this one that came back. Returns how many there were.
    pub(crate) fn leave_out_until(&mut self, sequence: u64) -> u64 {
        let before = self.again.len();
        self.again = self.again.split_off(&sequence.saturating_add(1));
        (before - self.again.len()) as u64
    }

    /// All events that are not settled.
    pub(crate) fn unsettled(&self) -> Vec<u64> {
        let all: BTreeSet<u64> = self.under_way.keys().chain(self.again.keys()).copied().collect();
        all.into_iter().collect()
    }

    /// When the oldest event was published that is not settled, as far as that is known.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.under_way.values().chain(self.again.values().flatten()).min().copied()
    }

    /// Takes in what was reported.
    pub(crate) fn take(&mut self) {
        while let Ok(back) = self.backs.try_recv() {
            self.took(back);
        }
    }

    /// Waits for reports until nothing is under way, or an event has come back; or until there is `room`, if that is wanted.
    pub(crate) async fn wait(&mut self, room: bool) {
        let aside = self.aside();
        while let Some(back) = self.backs.recv().await {
            self.took(back);
            self.take();
            if !self.is_under_way() || self.aside() > aside || room && self.room() > 0 {
                break;
            }
        }
    }

    fn took(&mut self, back: Back) {
        let published = self.under_way.remove(&back.sequence);
        if back.settled {
            self.limit = (self.limit + 1).min(MOST);
        } else {
            self.again.insert(back.sequence, published);
            self.limit = self.under_way.len().clamp(LEAST, self.limit.max(LEAST));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_event_that_came_back_has_its_turn() {
        let mut window = Window::new([7, 3]);
        let mut turns = Vec::new();
        let mut last = 0;
        for _ in 0..7 {
            let Some(sequence) = window.again_after(last) else {
                last = 0;
                continue;
            };
            window.hand_out(sequence, Timestamp::UNIX_EPOCH);
            turns.push(sequence);
            // It fails, and another one comes back meanwhile.
            for back in [sequence, 5] {
                window.reports().send(Back { sequence: back, settled: false }).unwrap();
            }
            window.take();
            last = sequence;
        }
        assert_eq!(turns, [3, 5, 7, 3, 5, 7]);
    }

    #[tokio::test]
    async fn there_is_room_once_a_quarter_is_free() {
        let mut window = Window::new([]);
        let all = MOST as u64;
        (0..all).for_each(|sequence| window.hand_out(sequence, Timestamp::UNIX_EPOCH));
        let settle = |window: &Window, sequences: std::ops::Range<u64>| {
            let reports = window.reports();
            sequences.for_each(|sequence| reports.send(Back { sequence, settled: true }).unwrap());
        };
        settle(&window, 0..all / 4 - 1);
        window.take();
        assert_eq!((window.room(), window.is_under_way()), (0, true));
        settle(&window, all / 4 - 1..all / 4);
        window.wait(true).await;
        assert_eq!(window.room(), MOST / 4);
        settle(&window, all / 4..all);
        window.wait(false).await;
        assert_eq!((window.room(), window.is_idle()), (MOST, true));
    }

    #[tokio::test]
    async fn an_event_that_comes_back_ends_the_wait() {
        let mut window = Window::new([]);
        window.hand_out(3, Timestamp::UNIX_EPOCH);
        window.hand_out(5, Timestamp::UNIX_EPOCH);
        window.reports().send(Back { sequence: 5, settled: false }).unwrap();
        window.wait(false).await;
        assert_eq!((window.again(), window.is_under_way()), (Some(5), true));
    }

    #[tokio::test]
    async fn knows_the_oldest_event_that_is_not_settled() {
        let mut window = Window::new([]);
        let mut told = Vec::new();
        let published = |sequence: u64| Timestamp::from_second(sequence.try_into().unwrap()).unwrap();
        for sequence in 1..=3 {
            window.hand_out(sequence, published(sequence));
        }
        for (sequence, settled) in [(1, false), (2, true), (3, false), (1, true), (3, true)] {
            window.reports().send(Back { sequence, settled }).unwrap();
            window.take();
            told.push(window.oldest().map(Timestamp::as_second));
            window.again().into_iter().for_each(|again| window.hand_out(again, published(again)));
        }
        assert_eq!(told, [Some(1), Some(1), Some(1), Some(3), None]);
    }

    #[tokio::test]
    async fn what_came_back_can_be_left_out() {
        let mut window = Window::new([3, 5, 7]);
        window.hand_out(4, Timestamp::UNIX_EPOCH);
        assert_eq!((window.leave_out_until(5), window.unsettled()), (2, vec![4, 7]), "what is under way may succeed");
        assert_eq!((window.leave_out_until(5), window.unsettled()), (0, vec![4, 7]));
    }
}
