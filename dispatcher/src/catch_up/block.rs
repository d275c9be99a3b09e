//! A part of a Producer's stream, read for all dedicated readers that come to it.

use std::sync::Arc;

use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::event::Event;

use crate::catch_up::memory::Reserved;
use crate::catch_up::stream::{Stored, wants};
use crate::config::index::Producer;
use crate::deliver::reading::{self, Unreadable};
use crate::intake::bodiless::{MISSING_BODY, lacks_its_body};
use crate::parking::messages::{Published, StreamPosition, size};

/// What an event takes beside its own bytes, about.
const OVERHEAD: usize = 512;

/// A part of a Producer's stream. After it was read the stream was still the same one, so the block holds events of that
/// stream whatever becomes of it.
pub(super) struct Block {
    entries: Vec<Entry>,
    /// Before this sequence there is nothing more.
    pub(super) end: u64,
    /// The first sequence that the stream had afterwards.
    pub(super) first: u64,
    /// The memory that the block takes of what all blocks may take; `None` for a block that is used only once.
    _reserved: Option<Reserved>,
}

/// A message of the stream.
pub(super) struct Entry {
    pub(super) sequence: u64,
    /// The approximate number of its bytes.
    pub(super) size: usize,
    pub(super) found: Found,
}

/// What a message of the stream was read as.
pub(super) enum Found {
    Event(Arc<Published>, Arc<Event>),
    Unreadable(Arc<Published>, Unreadable),
    /// No event of the Producer, or one whose headers nobody can read. That was buried when it came.
    Nothing,
}

impl Block {
    /// Reads messages of the Producer's stream, which lie before `end`.
    pub(super) fn read(
        producer: &Producer,
        filters: &[String],
        messages: Vec<Stored>,
        (first, end): (u64, u64),
        reserved: Option<Reserved>,
    ) -> Self {
        let entries: Vec<Entry> = messages.into_iter().map(|message| Entry::read(producer, filters, message)).collect();
        let bytes = OVERHEAD + entries.iter().map(|entry| entry.size + OVERHEAD).sum::<usize>();
        let _reserved = reserved.map(|reserved| reserved.resized(bytes));
        Self { entries, end, first, _reserved }
    }

    /// The messages from this sequence on.
    pub(super) fn from(&self, sequence: u64) -> &[Entry] {
        &self.entries[self.entries.partition_point(|entry| entry.sequence < sequence)..]
    }

    /// The sequences from `from` on, before this one, that the stream had dropped, or never had under these subjects.
    pub(super) fn dropped_before(&self, from: u64) -> u64 {
        match self.entries.first() {
            Some(entry) if entry.sequence < from => from,
            Some(entry) => entry.sequence.min(self.first),
            None => self.end.min(self.first),
        }
    }
}

impl Entry {
    fn read(producer: &Producer, filters: &[String], message: Stored) -> Self {
        let Stored { sequence, subject, time, headers, body } = message;
        let size = headers.as_ref().map_or(0, size) + subject.len() + body.len();
        let found = match headers.filter(|_| wants(filters, &subject)) {
            Some(headers) => {
                let stream = &producer.record.stream;
                let position = StreamPosition { stream: stream.name.clone(), sequence, published: time };
                Found::of(producer, Published::of(subject, headers, body, position, stream.created))
            }
            None => Found::Nothing,
        };
        Self { sequence, size, found }
    }
}

impl Found {
    fn of(producer: &Producer, mut published: Published) -> Self {
        if !published.is_event() {
            return Self::Nothing;
        }
        // Nothing is left out of what is read here: the publisher wrote the header.
        if lacks_its_body(&published.headers, &published.body) {
            let (reason, detail) = (DeadLetterReason::Malformed, MISSING_BODY.to_owned());
            return Self::Unreadable(Arc::new(published), Unreadable { reason, detail });
        }
        match reading::read(&mut published, producer) {
            Ok(event) => Self::Event(Arc::new(published), Arc::new(event)),
            Err(unreadable) => Self::Unreadable(Arc::new(published), unreadable),
        }
    }
}
