//! What the world looks like at one moment: the stream, the dispatchers, the position and its owner.

/// The most events of a world.
pub(crate) const EVENTS: usize = 4;
/// How many dispatchers share the consumer.
pub(crate) const DISPATCHERS: usize = 2;
/// The most positions that a mirror has still to load one after the other.
pub(crate) const UNSEEN: usize = 3;

/// A position, by its number in [`super::model::World`]: so a state is small and is compared fast.
pub(crate) type Id = u16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct State {
    /// How many events were published: their sequences are 1 and up.
    pub(crate) published: u8,
    pub(crate) events: [Event; EVENTS],
    pub(crate) dispatchers: [Dispatcher; DISPATCHERS],
    /// The newest position, which is durable.
    pub(crate) position: Id,
    /// Whether the Subscription is suspended, as its record says.
    pub(crate) suspended: bool,
    pub(crate) owner: Owner,
    /// The owner before, which hasn't noticed yet that another one took over: it does at most one more step.
    pub(crate) former: Option<Owner>,
    pub(crate) toggles: u8,
    pub(crate) lapses: u8,
    pub(crate) takeovers: u8,
    pub(crate) regressed: bool,
}

/// An event, and its delivery to the one Subscription of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Event {
    /// The dispatcher that has it in hand, and how far it is.
    pub(crate) hand: Option<(u8, Phase)>,
    /// Whether the shared consumer has its ack.
    pub(crate) acked: bool,
    /// What a dispatcher that lapsed may still do.
    pub(crate) late: Late,
    /// How many times it was delivered. A parked delivery is stored, and counts as well.
    pub(crate) delivered: u8,
    /// Whether a dispatcher has decided to deliver it.
    pub(crate) live: bool,
    /// Whether the dedicated reader of any owner has delivered it.
    pub(crate) read: bool,
    /// Whether it may be delivered twice.
    pub(crate) twice: bool,
}

/// How far a dispatcher is with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    /// It hasn't looked at the event.
    Fresh,
    /// It must not deliver the event now, and has nothing durable that says so.
    Blocked,
    /// A live attempt is under way.
    Attempting,
    /// It has only to ack the event.
    Settled,
}

/// What a dispatcher that lapsed may still do with an event that it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Late {
    Nothing,
    Ack,
    Store,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Dispatcher {
    pub(crate) live: bool,
    /// The position that it knows of.
    pub(crate) mirror: Id,
    /// The newer positions that come to it next, oldest first.
    pub(crate) unseen: [Option<Id>; UNSEEN],
    /// The position before the one that it knows of. It counts only for [`super::model::Fault::Regress`].
    pub(crate) before: Id,
    /// Whether its mirror has gone back, while its lease says that it has loaded the newest.
    pub(crate) regressed: bool,
    /// Whether it knows the Subscription as suspended.
    pub(crate) suspended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner {
    /// Whether it knows the Subscription as suspended.
    pub(crate) suspended: bool,
    /// The first sequence that it hasn't delivered.
    pub(crate) next: u8,
    /// The position that it is about to store. It was made from the newest one: any write of another makes the
    /// compare-and-set fail.
    pub(crate) plan: Option<Id>,
}

impl Event {
    pub(crate) const NEW: Self =
        Self { hand: None, acked: false, late: Late::Nothing, delivered: 0, live: false, read: false, twice: false };

    pub(crate) fn phase(&self) -> Option<Phase> {
        self.hand.map(|(_, phase)| phase)
    }
}

impl Dispatcher {
    pub(crate) fn joined(position: Id, suspended: bool) -> Self {
        Self { live: true, mirror: position, unseen: [None; UNSEEN], before: position, regressed: false, suspended }
    }

    /// Whether its lease says that it has loaded the newest position.
    pub(crate) fn has_loaded(&self) -> bool {
        !self.live || self.regressed || self.unseen[0].is_none()
    }

    /// A new position comes. A bucket keeps only the newest values, so the oldest one drops out.
    pub(crate) fn hear(&mut self, position: Id, most: usize) {
        let count = self.unseen.iter().flatten().count();
        if count == most {
            self.unseen[..most].rotate_left(1);
        }
        self.unseen[count.min(most - 1)] = Some(position);
        self.regressed = false;
    }
}

impl State {
    pub(crate) fn new(position: Id, suspended: bool) -> Self {
        Self {
            published: 0,
            events: [Event::NEW; EVENTS],
            dispatchers: [Dispatcher::joined(position, suspended); DISPATCHERS],
            position,
            suspended,
            owner: Owner { suspended, next: 1, plan: None },
            former: None,
            toggles: 0,
            lapses: 0,
            takeovers: 0,
            regressed: false,
        }
    }

    pub(crate) fn event(&self, sequence: u8) -> &Event {
        &self.events[usize::from(sequence) - 1]
    }

    pub(crate) fn event_mut(&mut self, sequence: u8) -> &mut Event {
        &mut self.events[usize::from(sequence) - 1]
    }

    /// The sequence up to which all events are acked.
    pub(crate) fn floor(&self) -> u8 {
        (1..=self.published).find(|&s| !self.event(s).acked).map_or(self.published, |s| s - 1)
    }

    /// One of the states that are alike: with the dispatchers the other way round, and without a second ack of an event.
    pub(crate) fn representative(mut self) -> Self {
        for event in self.events.iter_mut().filter(|event| event.acked && event.late == Late::Ack) {
            event.late = Late::Nothing;
        }
        let mut other = self;
        other.dispatchers.swap(0, 1);
        for event in &mut other.events {
            event.hand = event.hand.map(|(dispatcher, phase)| (1 - dispatcher, phase));
        }
        self.min(other)
    }
}
