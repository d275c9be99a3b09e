//! The world as a model: what may happen next, and what must always hold.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Mutex;

use hookwright_core::position::{Gone, Position, Range, Reason};
use jiff::Timestamp;
use stateright::{Model, Property};

use crate::state::{DISPATCHERS, Id, Late, Phase, State};

/// When the stream was created, and what time it is: the rules don't depend on it.
pub(crate) const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// What may happen how often.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    pub(crate) events: u8,
    /// How often `suspend` changes.
    pub(crate) toggles: u8,
    /// How often a dispatcher lapses.
    pub(crate) lapses: u8,
    /// How often another owner takes over, with what the cursor said at any time before.
    pub(crate) takeovers: u8,
    /// How many positions a mirror loads one after the other; with 1 it loads the newest, and with 0 it has loaded it
    /// at once.
    pub(crate) unseen: usize,
    /// Whether it begins behind, suspended, with an open range that all know of. Much that goes wrong begins there, and
    /// the states on the way there are saved.
    pub(crate) behind: bool,
    /// Up to which number deliveries are counted: each number is a state of its own.
    pub(crate) count_to: u8,
}

/// A rule that is broken on purpose: the check must find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The event is acked before the position that covers it is stored.
    AckFirst,
    /// `until` is stored before all dispatchers have loaded `to`.
    UntilEarly,
    /// A range is dropped before the ack floor has passed it.
    DropEarly,
    /// A mirror goes back to an older position.
    Regress,
    /// What a follower that lags has is taken for the newest position.
    StoreOnOld,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Publish,
    Toggle,
    Lapse { dispatcher: u8 },
    TakeOver { cursor: u8 },
    LateStore { sequence: u8 },
    LateAck { sequence: u8 },
    FormerOwner { ahead: u8 },
    Regress { dispatcher: u8 },
    Join { dispatcher: u8 },
    LoadPosition { dispatcher: u8 },
    LoadSuspend { dispatcher: u8 },
    Take { dispatcher: u8, sequence: u8 },
    Decide { sequence: u8 },
    Store { sequence: u8 },
    Succeed { sequence: u8 },
    Fail { sequence: u8 },
    Ack { sequence: u8 },
    OwnerLoadsSuspend,
    OwnerPlans { ahead: u8 },
    OwnerStores,
    OwnerReads,
}

pub(crate) struct World {
    pub(crate) bounds: Bounds,
    pub(crate) fault: Option<Fault>,
    positions: Mutex<Positions>,
}

#[derive(Default)]
struct Positions {
    all: Vec<Position>,
    ids: HashMap<Position, Id>,
}

impl World {
    pub(crate) fn new(bounds: Bounds, fault: Option<Fault>) -> Self {
        Self { bounds, fault, positions: Mutex::default() }
    }

    pub(crate) fn id(&self, position: Position) -> Id {
        let mut positions = self.positions.lock().unwrap();
        if let Some(&id) = positions.ids.get(&position) {
            return id;
        }
        let id = Id::try_from(positions.all.len()).unwrap();
        positions.all.push(position.clone());
        positions.ids.insert(position, id);
        id
    }

    pub(crate) fn position(&self, id: Id) -> Position {
        self.positions.lock().unwrap().all[usize::from(id)].clone()
    }

    /// How many positions there were, and how many of them with two ranges.
    pub(crate) fn variety(&self) -> (usize, usize) {
        let positions = self.positions.lock().unwrap();
        (positions.all.len(), positions.all.iter().filter(|position| position.ranges.len() == 2).count())
    }

    pub(crate) fn covers(&self, id: Id, sequence: u8) -> bool {
        self.positions.lock().unwrap().all[usize::from(id)].covers(NOW, sequence.into())
    }

    pub(crate) fn is_behind(&self, id: Id) -> bool {
        self.positions.lock().unwrap().all[usize::from(id)].is_behind()
    }

    /// What the newest position says.
    pub(crate) fn ranges<T>(&self, state: &State, look: impl FnOnce(&[Range]) -> T) -> T {
        look(&self.positions.lock().unwrap().all[usize::from(state.position)].ranges)
    }

    /// Whether the dedicated reader delivers this event, now or later.
    pub(crate) fn will_read(&self, state: &State, sequence: u8) -> bool {
        sequence >= state.owner.next && self.ranges(state, |ranges| ranges.iter().any(|range| reads(range, sequence)))
    }

    /// What the outside world does. It may also never do it.
    fn chances(&self, state: &State, actions: &mut Vec<Action>) {
        if state.published < self.bounds.events {
            actions.push(Action::Publish);
        }
        if state.toggles < self.bounds.toggles {
            actions.push(Action::Toggle);
        }
        for (d, dispatcher) in (0..).zip(&state.dispatchers) {
            // A dispatcher that has decided nothing may lapse as well: it is as if it had taken nothing and loaded all.
            let has_decided = |phase| matches!(phase, Phase::Settled | Phase::Blocked);
            let decided = state.events.iter().any(|e| e.hand.is_some_and(|(h, phase)| h == d && has_decided(phase)));
            if decided && state.lapses < self.bounds.lapses {
                actions.push(Action::Lapse { dispatcher: d });
            }
            let moved = dispatcher.before != dispatcher.mirror;
            if self.fault == Some(Fault::Regress) && dispatcher.live && moved && !state.regressed {
                actions.push(Action::Regress { dispatcher: d });
            }
        }
        if state.takeovers < self.bounds.takeovers {
            actions.extend((1..=state.owner.next).map(|cursor| Action::TakeOver { cursor }));
        }
        if state.former.is_some() {
            actions.extend((0..=1).map(|ahead| Action::FormerOwner { ahead }));
        }
        for sequence in 1..=state.published {
            match state.event(sequence).late {
                Late::Nothing => {}
                Late::Ack => actions.push(Action::LateAck { sequence }),
                Late::Store => actions.push(Action::LateStore { sequence }),
            }
        }
    }

    /// What the dispatchers and the owner do by themselves, sooner or later.
    fn progress(&self, state: &State, actions: &mut Vec<Action>) {
        let free = |&s: &u8| !state.event(s).acked && state.event(s).hand.is_none();
        let free = (1..=state.published).find(free);
        for d in 0..DISPATCHERS {
            let (dispatcher, d) = (&state.dispatchers[d], u8::try_from(d).unwrap());
            if !dispatcher.live {
                actions.push(Action::Join { dispatcher: d });
                continue;
            }
            if dispatcher.unseen[0].is_some() {
                actions.push(Action::LoadPosition { dispatcher: d });
            }
            if dispatcher.suspended != state.suspended {
                actions.push(Action::LoadSuspend { dispatcher: d });
            }
            // The consumer hands out the lowest one.
            actions.extend(free.map(|sequence| Action::Take { dispatcher: d, sequence }));
        }
        for sequence in 1..=state.published {
            match state.event(sequence).phase() {
                None => {}
                Some(Phase::Fresh) => actions.push(Action::Decide { sequence }),
                Some(Phase::Blocked) => actions.push(Action::Store { sequence }),
                Some(Phase::Settled) => actions.push(Action::Ack { sequence }),
                Some(Phase::Attempting) => {
                    actions.extend([Action::Succeed { sequence }, Action::Fail { sequence }]);
                }
            }
        }
        if state.owner.suspended != state.suspended {
            actions.push(Action::OwnerLoadsSuspend);
        }
        match state.owner.plan {
            Some(_) => actions.push(Action::OwnerStores),
            None => {
                actions.extend([Action::OwnerReads, Action::OwnerPlans { ahead: 0 }, Action::OwnerPlans { ahead: 1 }]);
            }
        }
    }

    /// Whether the world can go on without the outside.
    fn moves(&self, state: &State) -> bool {
        thread_local!(static ACTIONS: RefCell<Vec<Action>> = const { RefCell::new(Vec::new()) });
        ACTIONS.with_borrow_mut(|actions| {
            actions.clear();
            self.progress(state, actions);
            actions.drain(..).any(|action| self.step(state, action).is_some())
        })
    }

    /// Whether all is done that can be: every event is settled, and the Subscription is live again, unless it is
    /// suspended or the end of its range wasn't published yet.
    fn is_done(&self, state: &State) -> bool {
        let published = &state.events[..usize::from(state.published)];
        let settled = published.iter().all(|event| event.acked && event.hand.is_none());
        settled
            && (state.suspended
                || published.iter().all(|event| event.delivered > 0)
                    && self.ranges(state, |ranges| match ranges {
                        [] => true,
                        [range] => range.until.is_some_and(|until| until > state.published.into()),
                        _ => false,
                    }))
    }
}

/// Whether the dedicated reader delivers this event when it is at this range. As long as `until` isn't known, it will be
/// at least what has been published.
pub(crate) fn reads(range: &Range, sequence: u8) -> bool {
    range.from <= sequence.into() && range.until.is_none_or(|until| u64::from(sequence) <= until)
}

pub(crate) const LOST: &str = "an acked event is delivered, stored or still to be read";
pub(crate) const STUCK: &str = "when nothing moves, every event is settled and the Subscription is live";
pub(crate) const TWICE: &str = "an event is delivered twice only if others took it on the way behind or live";
pub(crate) const THRICE: &str = "no event is delivered three times";

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut position = Position::live(NOW);
        let live = self.id(position.clone());
        if !self.bounds.behind {
            return vec![State::new(live, false)];
        }
        assert_eq!(position.go_behind(1, NOW, Reason::StartFrom), Gone::Behind);
        vec![State::new(self.id(position), true)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.chances(state, actions);
        self.progress(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.step(state, action).map(State::representative)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(LOST, |world: &Self, state: &State| {
                let safe = |s: u8| {
                    let event = state.event(s);
                    !event.acked || event.delivered > 0 || world.will_read(state, s)
                };
                (1..=state.published).all(safe)
            }),
            Property::always(STUCK, |world: &Self, state: &State| world.is_done(state) || world.moves(state)),
            Property::always(TWICE, |world: &Self, state: &State| {
                // Views that lag and takeovers repeat more, so this is for worlds without them.
                let at_once = world.bounds.unseen == 0 && world.bounds.lapses == 0 && world.bounds.takeovers == 0;
                !at_once || state.events.iter().all(|event| event.delivered <= 1 + u8::from(event.twice))
            }),
            Property::always(THRICE, |world: &Self, state: &State| {
                // A crash repeats.
                let crashes = world.bounds.lapses > 0 || world.bounds.takeovers > 0;
                crashes || state.events.iter().all(|event| event.delivered <= 2)
            }),
        ]
    }
}
