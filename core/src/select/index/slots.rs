//! The entries of one pattern.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::attributes::Attributes;

/// A count of events.
pub(super) type Count = Arc<AtomicU64>;

/// An attribute, and the value that it has to have.
pub(super) type Needs = (Box<str>, Box<str>);

/// A place of an entry: its slot, and what an event has to have besides the type.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) slot: usize,
    pub(super) major: Option<u32>,
    pub(super) needs: Option<&'a Needs>,
}

/// What an event has besides its type.
pub(super) struct Seen<'a, A> {
    pub(super) major: Option<u32>,
    pub(super) attributes: &'a A,
}

/// Entries of one pattern: those that need nothing more, and the others by attribute and value; then those of one major
/// version alone.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<usize>,
    /// The events that the pattern has selected while there were others.
    selected: Count,
    by_value: HashMap<Box<str>, HashMap<Box<str>, Vec<usize>>>,
    majors: BTreeMap<u32, Slots>,
}

impl Slots {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.by_value.is_empty() && self.majors.is_empty()
    }

    /// The entries, if none of them needs anything more.
    pub(super) fn alike(&self) -> Option<&[usize]> {
        (self.by_value.is_empty() && self.majors.is_empty()).then_some(&self.all[..])
    }

    /// Adds an entry, and returns the count of the events that the pattern selects.
    pub(super) fn insert(&mut self, Place { slot, major, needs }: Place<'_>) -> Count {
        if let Some(major) = major {
            return self.majors.entry(major).or_default().insert(Place { slot, major: None, needs });
        }
        match needs {
            None => self.all.push(slot),
            Some((name, value)) => {
                self.by_value.entry(name.clone()).or_default().entry(value.clone()).or_default().push(slot);
            }
        }
        Arc::clone(&self.selected)
    }

    pub(super) fn remove(&mut self, Place { slot, major, needs }: Place<'_>) {
        if let Some(major) = major {
            if let Some(slots) = self.majors.get_mut(&major) {
                slots.remove(Place { slot, major: None, needs });
                if slots.is_empty() {
                    self.majors.remove(&major);
                }
            }
            return;
        }
        let Some((name, value)) = needs else { return take_out(&mut self.all, slot) };
        let Some(values) = self.by_value.get_mut(name) else { return };
        if let Some(slots) = values.get_mut(value) {
            take_out(slots, slot);
            if slots.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.by_value.remove(name);
        }
    }

    /// Adds the entries that an event finds whose type the pattern selects.
    pub(super) fn find(&self, seen: &Seen<'_, impl Attributes>, found: &mut Vec<usize>) {
        found.extend_from_slice(&self.all);
        if !self.by_value.is_empty() {
            self.selected.fetch_add(1, Ordering::Relaxed);
            self.find_by_value(seen.attributes, found);
        }
        if let Some(slots) = seen.major.and_then(|major| self.majors.get(&major)) {
            slots.find(seen, found);
        }
    }

    /// Adds the entries that need a value which the event has. An entry never needs an attribute to be absent. So it is
    /// enough to look at the names that the entries need, or at those that the event has, whichever are fewer.
    fn find_by_value(&self, attributes: &impl Attributes, found: &mut Vec<usize>) {
        let mut look = |name: &str, values: &HashMap<Box<str>, Vec<usize>>| {
            if let Some(slots) = attributes.value(name).and_then(|value| values.get(&*value)) {
                found.extend_from_slice(slots);
            }
        };
        if self.by_value.len() <= attributes.count() {
            self.by_value.iter().for_each(|(name, values)| look(name, values));
            return;
        }
        for name in attributes.names() {
            if let Some(values) = self.by_value.get(name) {
                look(name, values);
            }
        }
    }
}

fn take_out(slots: &mut Vec<usize>, slot: usize) {
    if let Some(at) = slots.iter().position(|other| *other == slot) {
        slots.swap_remove(at);
    }
}
