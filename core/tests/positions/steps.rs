//! What each action changes. The decisions are those of `core::position`.

use hookwright_core::position::{Gone, Reason, Seen, Step};

use crate::model::{Action, Fault, NOW, World, reads};
use crate::state::{Dispatcher, Event, Id, Late, Owner, Phase, State};

impl World {
    /// The state after the action; none if the action isn't possible or changes nothing.
    pub(crate) fn step(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Publish => next.published += 1,
            Action::Toggle => self.toggle(&mut next),
            Action::Lapse { dispatcher } => lapse(&mut next, dispatcher),
            Action::TakeOver { cursor } => take_over(&mut next, cursor),
            Action::LateStore { sequence } => {
                next.event_mut(sequence).late = Late::Ack;
                self.store(&mut next, sequence, state.position);
            }
            Action::LateAck { sequence } => {
                next.event_mut(sequence).late = Late::Nothing;
                next.event_mut(sequence).acked = true;
            }
            Action::FormerOwner { ahead } => return self.former_owner(next, ahead),
            Action::Regress { dispatcher } => regress(&mut next, dispatcher),
            Action::Join { dispatcher } => {
                next.dispatchers[usize::from(dispatcher)] = Dispatcher::joined(next.position, next.suspended);
            }
            Action::LoadPosition { dispatcher } => self.load(&mut next.dispatchers[usize::from(dispatcher)]),
            Action::LoadSuspend { dispatcher } => {
                next.dispatchers[usize::from(dispatcher)].suspended = next.suspended;
            }
            Action::Take { dispatcher, sequence } => {
                next.event_mut(sequence).hand = Some((dispatcher, Phase::Fresh));
            }
            Action::Decide { sequence } => self.decide(&mut next, sequence),
            Action::Store { sequence } => {
                let position = self.found(state, sequence);
                next.event_mut(sequence).hand = state.event(sequence).hand.map(|(d, _)| (d, Phase::Settled));
                self.store(&mut next, sequence, position);
            }
            Action::Succeed { sequence } => self.attempted(&mut next, sequence),
            Action::Fail { sequence } => {
                let (dispatcher, _) = state.event(sequence).hand?;
                // It is left to the dedicated reader. Else it is parked, which is like a success here.
                if !self.covers(state.dispatchers[usize::from(dispatcher)].mirror, sequence) {
                    return None;
                }
                next.event_mut(sequence).hand = Some((dispatcher, Phase::Settled));
            }
            Action::Ack { sequence } => {
                next.event_mut(sequence).acked = true;
                next.event_mut(sequence).hand = None;
            }
            Action::OwnerLoadsSuspend => next.owner.suspended = next.suspended,
            Action::OwnerPlans { ahead } => next.owner.plan = Some(self.plan(state, &state.owner, ahead)?),
            Action::OwnerStores => {
                let plan = state.owner.plan?;
                self.write(&mut next, plan);
            }
            Action::OwnerReads => next.owner.next = 1 + self.read(&mut next, &state.owner)?,
        }
        Some(next)
    }

    fn toggle(&self, state: &mut State) {
        state.toggles += 1;
        state.suspended = !state.suspended;
        if self.bounds.unseen == 0 {
            state.owner.suspended = state.suspended;
            state.dispatchers.iter_mut().for_each(|dispatcher| dispatcher.suspended = state.suspended);
        }
    }

    fn load(&self, dispatcher: &mut Dispatcher) {
        let Some(position) = dispatcher.unseen[0].take() else { return };
        if matches!(self.fault, Some(Fault::Regress | Fault::StoreOnOld)) {
            dispatcher.before = dispatcher.mirror;
        }
        dispatcher.mirror = position;
        dispatcher.unseen.rotate_left(1);
        dispatcher.regressed = false;
    }

    fn decide(&self, state: &mut State, sequence: u8) {
        let Some((holder, _)) = state.event(sequence).hand else { return };
        let dispatcher = state.dispatchers[usize::from(holder)];
        let phase = if self.covers(dispatcher.mirror, sequence) {
            Phase::Settled
        } else if dispatcher.suspended || self.is_behind(dispatcher.mirror) {
            Phase::Blocked
        } else {
            Phase::Attempting
        };
        let event = state.event_mut(sequence);
        event.hand = Some((holder, phase));
        event.live |= self.bounds.count_to > 1 && phase == Phase::Attempting;
        event.acked |= self.fault == Some(Fault::AckFirst) && phase == Phase::Blocked;
        self.mark_twice(state, sequence);
    }

    fn attempted(&self, state: &mut State, sequence: u8) {
        self.deliver(state.event_mut(sequence));
        let event = state.event_mut(sequence);
        event.hand = event.hand.map(|(dispatcher, _)| (dispatcher, Phase::Settled));
    }

    fn deliver(&self, event: &mut Event) {
        event.delivered = (event.delivered + 1).min(self.bounds.count_to);
    }

    /// The position that a dispatcher finds when it looks for the newest one.
    fn found(&self, state: &State, sequence: u8) -> Id {
        match state.event(sequence).hand {
            Some((holder, _)) if self.fault == Some(Fault::StoreOnOld) => state.dispatchers[usize::from(holder)].before,
            _ => state.position,
        }
    }

    /// A dispatcher makes an event durable that must not be delivered now.
    fn store(&self, state: &mut State, sequence: u8, found: Id) {
        let mut position = self.position(found);
        match position.go_behind(sequence.into(), NOW, Reason::Suspended) {
            Gone::Covered => {}
            Gone::Park => self.deliver(state.event_mut(sequence)),
            // The compare-and-set fails if the position is another one, and is tried again on the newest.
            Gone::Behind if found != state.position => self.store(state, sequence, state.position),
            Gone::Behind => {
                let id = self.id(position);
                self.write(state, id);
            }
        }
    }

    /// The position is stored. Any plan was made from the one before.
    fn write(&self, state: &mut State, id: Id) {
        state.position = id;
        state.owner.plan = None;
        if let Some(former) = &mut state.former {
            former.plan = None;
        }
        for dispatcher in state.dispatchers.iter_mut().filter(|dispatcher| dispatcher.live) {
            match self.bounds.unseen {
                0 => dispatcher.mirror = id,
                most => dispatcher.hear(id, most),
            }
        }
        for sequence in 1..=state.published {
            self.mark_twice(state, sequence);
        }
    }

    /// Others deliver an event that the dedicated reader delivers as well. They have taken it before the position was
    /// stored that covers it; or it came after `to`, when they deliver again, and not after `until`.
    fn mark_twice(&self, state: &mut State, sequence: u8) {
        if state.event(sequence).live {
            let twice = self.ranges(state, |ranges| ranges.iter().any(|range| reads(range, sequence)));
            state.event_mut(sequence).twice |= twice;
        }
    }

    fn seen(&self, state: &State, owner: &Owner, ahead: u8) -> Seen {
        let all_loaded = state.dispatchers.iter().all(Dispatcher::has_loaded);
        Seen {
            next: owner.next.into(),
            may_read: !owner.suspended,
            last: state.published.into(),
            ahead: ahead.into(),
            all_loaded: all_loaded || self.fault == Some(Fault::UntilEarly),
            floor: if self.fault == Some(Fault::DropEarly) { u64::MAX } else { state.floor().into() },
        }
    }

    /// The position that an owner stores next.
    fn plan(&self, state: &State, owner: &Owner, ahead: u8) -> Option<Id> {
        let mut position = self.position(state.position);
        let step = position.next(&self.seen(state, owner, ahead));
        (step == Step::Store).then(|| self.id(position))
    }

    /// An owner delivers the next event. The answer is its sequence.
    fn read(&self, state: &mut State, owner: &Owner) -> Option<u8> {
        let Step::Read { from, .. } = self.position(state.position).next(&self.seen(state, owner, 0)) else {
            return None;
        };
        let sequence = u8::try_from(from).unwrap();
        let again = self.bounds.takeovers > 0 && state.event(sequence).read;
        let event = state.event_mut(sequence);
        event.read = self.bounds.takeovers > 0;
        // What a cursor of before makes read again is counted apart: it isn't counted at all.
        if !again {
            self.deliver(event);
        }
        Some(sequence)
    }

    /// The former owner does one more step, by what it knows of its cursor.
    fn former_owner(&self, mut state: State, ahead: u8) -> Option<State> {
        let former = state.former.take()?;
        if let Some(plan) = former.plan.or_else(|| self.plan(&state, &former, ahead)) {
            self.write(&mut state, plan);
        } else {
            self.read(&mut state, &former)?;
        }
        Some(state)
    }
}

/// A dispatcher lapses: what it held is delivered again, and what it was about to do may come late.
fn lapse(state: &mut State, dispatcher: u8) {
    state.lapses += 1;
    for event in &mut state.events {
        let Some((_, phase)) = event.hand.filter(|(holder, _)| *holder == dispatcher) else { continue };
        event.hand = None;
        event.late = match phase {
            Phase::Settled => Late::Ack,
            Phase::Blocked => Late::Store,
            Phase::Fresh | Phase::Attempting => event.late,
        };
    }
    // It has forgotten everything. All dispatchers that are gone have the same value, which makes fewer states.
    let gone = Dispatcher::joined(0, false);
    state.dispatchers[usize::from(dispatcher)] = Dispatcher { live: false, ..gone };
}

/// A mirror goes back. It will load the position again, and has said already that it has loaded it.
fn regress(state: &mut State, dispatcher: u8) {
    state.regressed = true;
    let dispatcher = &mut state.dispatchers[usize::from(dispatcher)];
    dispatcher.regressed |= dispatcher.unseen[0].is_none();
    dispatcher.unseen[0].get_or_insert(dispatcher.mirror);
    dispatcher.mirror = dispatcher.before;
}

/// Another owner takes over, from what the cursor said when it was written last.
fn take_over(state: &mut State, cursor: u8) {
    state.takeovers += 1;
    state.former = Some(state.owner);
    state.owner = Owner { suspended: state.suspended, next: cursor, plan: None };
}
