//! Whether a Subscription's events are sent now, how many wait in the stream, and which the stream dropped meanwhile.

use hookwright_core::nats::loss::{TOLD_FOR, is_told};
use hookwright_core::position::{self, Waits};
use hookwright_core::record::DisabledFor;
use hookwright_crds::{Behind, BehindReason, ConditionType, DeliveryStatus, Missed, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::cache::health::Rests;
use crate::cache::progress::{Head, Progress};
use crate::refusal::Refusal;
use crate::status::conditions::{Judgement, find, seconds};

/// Losses that follow each other within this time are told by one Event.
const SPELL: SignedDuration = SignedDuration::from_mins(10);

/// Returns whether the Subscription's record keeps events from being sent. Before the operator has looked at it, the last
/// status says so.
pub(super) fn rests(known: Option<Rests>, before: &[Condition]) -> Rests {
    let said = || match find(before, ConditionType::Delivering).map(|old| &*old.reason) {
        Some(reason) if reason == Reason::Suspended.as_str() => Rests::Suspended,
        Some(reason) if reason == Reason::Refused.as_str() => Rests::Refused,
        _ => Rests::No,
    };
    known.unwrap_or_else(said)
}

/// Returns what keeps events from being sent once dispatchers are looked at, too. If some go by another egress file than
/// the operator, as `differ` says, they may hold back what the operator has accepted.
pub(super) fn with_dispatchers(
    known: Option<Rests>,
    progress: &Progress,
    differ: impl FnOnce() -> bool,
) -> Option<Rests> {
    let reason = || progress.behind().and_then(|behind| behind.reason);
    let is_blocked = known == Some(Rests::No) && reason() == Some(position::Reason::Refused) && differ();
    if is_blocked { Some(Rests::Blocked) } else { known }
}

/// Returns why a Subscription is disabled, as conditions say it.
pub(super) const fn disabled(why: DisabledFor) -> (Reason, &'static str) {
    match why {
        DisabledFor::EndpointGone => (
            Reason::EndpointGone,
            "The endpoint answered 410 Gone. Nothing is sent, and events wait in the stream, until the Subscription is edited \
             or gets a new value of the annotation hookwright.dev/resume.",
        ),
        DisabledFor::Failing => (
            Reason::Disabled,
            "Attempts have failed for as long as delivery.disableAfter allows. Nothing is sent, and events wait in the stream, \
             until the Subscription is edited or gets a new value of the annotation hookwright.dev/resume.",
        ),
    }
}

/// Returns the judgement of `Delivering`.
pub(super) fn delivering(rests: Rests, why: Option<DisabledFor>, progress: &Progress, now: Timestamp) -> Judgement {
    match rests {
        Rests::No => {}
        Rests::Suspended => {
            let message = "spec.suspend is true; events wait in the stream.";
            return Judgement::fails(&Refusal::new(Reason::Suspended, message));
        }
        Rests::Refused => {
            let message = "The Subscription can't be applied as it is, as Ready says. Nothing is sent, and events wait in the \
                           stream until it can.";
            return Judgement::fails(&Refusal::new(Reason::Refused, message));
        }
        Rests::Blocked => {
            let message = "Dispatchers go by another egress file than the operator, and it may forbid the URL. Events \
                           wait in the stream, and go out once the dispatchers' file allows the URL. If this lasts, ask \
                           the installation's administrator: the dispatchers' logs say whether their file can't be used.";
            return Judgement::fails(&Refusal::new(Reason::Refused, message));
        }
    }
    if let Some(why) = why {
        let (reason, message) = disabled(why);
        return Judgement::fails(&Refusal::new(reason, message));
    }
    match progress.closed(now) {
        Some(Waits { until: Some(until), .. }) if now < until => {
            let message = format!("The endpoint has asked for a pause until {until:.0}; events wait in the stream.");
            return Judgement::fails(&Refusal::new(Reason::RetryAfter, message));
        }
        Some(Waits { since, ours: true, .. }) => {
            let message = format!(
                "Attempts fail before any byte of an answer, and so they did for half of the namespaces or more, at \
                 {since:.0}: that is taken for an outage on Hookwright's side. Nothing is counted against the endpoint. \
                 Events wait in the stream; the endpoint is tried every 5 s, and what waits goes out once it answers."
            );
            return Judgement::fails(&Refusal::new(Reason::EndpointFailing, message));
        }
        Some(Waits { since, .. }) => {
            let message = format!(
                "Attempts fail again and again, since {since:.0}. Events wait in the stream; the endpoint \
                 is probed, at most 5 min apart, and what waits goes out once it is back."
            );
            return Judgement::fails(&Refusal::new(Reason::EndpointFailing, message));
        }
        None => {}
    }
    if progress.behind().is_some() {
        if progress.cursor().is_some_and(|cursor| cursor.queued) {
            let message = "Events wait in the stream until it is this Subscription's turn: as many as a dispatcher takes on \
                           (limits.catchingUp) catch up now.";
            return Judgement::holds(Reason::CatchUpQueued, message);
        }
        let message = "Events that have waited in the stream are delivered, the oldest first.";
        return Judgement::holds(Reason::CatchingUp, message);
    }
    Judgement::holds(Reason::Live, "Events are delivered as they come.")
}

/// Returns the judgement of `EventsMissed` while it is told.
pub(super) fn missed_condition(missed: Option<&Missed>, now: Timestamp) -> Option<Judgement> {
    let missed = missed.filter(|missed| is_told(missed.time.0, now))?;
    let Missed { first_sequence, last_sequence, count, since, time } = missed;
    let message = format!(
        "Up to {count} events that waited for this Subscription were removed from the stream before they could be \
         delivered, between the sequences {first_sequence} and {last_sequence}: by a limit of the stream, a purge or a \
         deletion. The first were noticed at {:.0}, the last at {:.0}. This stays for a day.",
        since.0, time.0
    );
    Some(Judgement::holds(Reason::EventsMissed, message))
}

/// Returns the judgement of `PayloadWithheld` while it is told.
pub(super) fn withheld_condition(last: Option<Timestamp>, now: Timestamp) -> Option<Judgement> {
    last.filter(|last| is_told(*last, now))?;
    let message = "The data of an event isn't JSON. As the Producer withholds fields of the data from this Subscription, \
                   all of it was withheld: the event was sent without data. This stays for a day after the last.";
    Some(Judgement::holds(Reason::DataNotJson, message))
}

/// Returns when a condition ends whose cause was last seen then.
pub(super) fn told_until(last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    last.filter(|last| is_told(*last, now))?.checked_add(TOLD_FOR).ok()
}

/// Returns how far delivery is behind. What isn't known after a start of the operator stays as it was.
pub(super) fn behind(before: Option<&Behind>, progress: &Progress, head: Option<Head>) -> Option<Behind> {
    let (position, unread) = (progress.behind()?, progress.unread(head)?);
    let known = |before: &Behind| before.events;
    let passed = |before: &Behind| before.passed;
    Some(Behind {
        since: position.since.map(seconds),
        reason: position.reason.map(reason),
        from_sequence: number(unread.from),
        events: unread.sequences.map(number).or(before.map(known)).unwrap_or_default(),
        passed: unread.passed.map(number).or_else(|| before.and_then(passed)),
        per_second: unread.per_second.map(number),
        oldest_event_time: progress.cursor().and_then(|cursor| cursor.oldest).map(seconds),
    })
}

/// Returns what the stream dropped. It stays as it was while no cursor was read.
pub(super) fn missed(before: Option<&DeliveryStatus>, progress: &Progress) -> Option<Missed> {
    let Some(cursor) = progress.cursor() else { return before.and_then(|before| before.missed.clone()) };
    cursor.missed.map(|missed| Missed {
        first_sequence: number(missed.first),
        last_sequence: number(missed.last),
        count: number(missed.count),
        since: seconds(missed.since),
        time: seconds(missed.time),
    })
}

/// Returns how many sequences were left out on request. It stays as it was while no cursor was read.
pub(super) fn skipped(before: Option<&DeliveryStatus>, progress: &Progress) -> Option<i64> {
    let Some(cursor) = progress.cursor() else { return before.and_then(|before| before.skipped) };
    Some(number(cursor.skipped)).filter(|skipped| *skipped > 0)
}

/// Returns how many more sequences were missed.
pub(super) fn newly_missed(old: Option<&Missed>, new: Option<&Missed>) -> u64 {
    let count = |missed: Option<&Missed>| missed.map_or(0, |missed| missed.count);
    u64::try_from(count(new) - count(old)).unwrap_or_default()
}

/// Returns whether a loss is worth an Event though an earlier one is still told.
pub(super) fn is_new_spell(old: Option<&Missed>, new: Option<&Missed>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => new.count > old.count && new.time.0.duration_since(old.time.0) > SPELL,
        _ => false,
    }
}

const fn reason(reason: position::Reason) -> BehindReason {
    match reason {
        position::Reason::Suspended => BehindReason::Suspended,
        position::Reason::Refused => BehindReason::Refused,
        position::Reason::EndpointGone => BehindReason::EndpointGone,
        position::Reason::Disabled => BehindReason::Disabled,
        position::Reason::EndpointFailing => BehindReason::EndpointFailing,
        position::Reason::RetryAfter => BehindReason::RetryAfter,
        position::Reason::EndpointSlow => BehindReason::EndpointSlow,
        position::Reason::StartFrom => BehindReason::StartFrom,
        position::Reason::FiltersSlow => BehindReason::FiltersSlow,
    }
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookwright_core::position::{Cursor, Position, Range};

    fn t(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn progress(ranges: Vec<Range>) -> Progress {
        let mut progress = Progress::default();
        progress.moved(Some(Position {
            ranges,
            since: Some(t(50)),
            reason: Some(position::Reason::Suspended),
            ..Position::live(t(1))
        }));
        progress
    }

    fn open() -> Vec<Range> {
        vec![Range { from: 10, to: None, until: None, begun: false }]
    }

    #[test]
    fn whether_events_are_sent() {
        let text = |rests, gone: bool, ranges| {
            let why = gone.then_some(DisabledFor::EndpointGone);
            let judgement = delivering(rests, why, &progress(ranges), t(60));
            format!("{} {}", judgement.status.as_str(), judgement.reason.as_str())
        };
        assert_eq!(text(Rests::Suspended, true, open()), "False Suspended");
        assert_eq!(text(Rests::Refused, true, open()), "False Refused");
        assert_eq!(text(Rests::No, true, open()), "False EndpointGone");
        assert_eq!(text(Rests::No, false, open()), "True CatchingUp");
        assert_eq!(text(Rests::No, false, vec![]), "True Live");
        let queued = |queued, ranges| {
            let mut progress = progress(ranges);
            progress.read(Some(Cursor { queued, ..Cursor::new(t(1)) }), t(5));
            delivering(Rests::No, None, &progress, t(60)).reason
        };
        assert_eq!(queued(true, open()), Reason::CatchUpQueued);
        assert_eq!(queued(false, open()), Reason::CatchingUp);
        assert_eq!(queued(true, vec![]), Reason::Live);
        let waiting = |waits: Waits| {
            let mut progress = Progress::default();
            progress.moved(Some(Position { waits: Some(waits), ..Position::live(t(1)) }));
            delivering(Rests::No, None, &progress, t(60))
        };
        let broken = Waits { breaker: true, ..Waits::since(t(1)) };
        for (ours, says) in [(false, "again and again"), (true, "Hookwright's side")] {
            let judgement = waiting(Waits { ours, ..broken });
            assert_eq!(judgement.reason, Reason::EndpointFailing);
            assert!(judgement.message.contains(says), "{}", judgement.message);
        }
        assert_eq!(waiting(Waits { until: Some(t(61)), ..Waits::since(t(1)) }).reason, Reason::RetryAfter);
        assert_eq!(waiting(Waits { until: Some(t(60)), ..Waits::since(t(1)) }).reason, Reason::Live);
        assert_eq!((rests(None, &[]), rests(Some(Rests::Refused), &[])), (Rests::No, Rests::Refused));
    }

    #[test]
    fn what_dispatchers_may_hold_back_by_an_egress_file_of_their_own_is_not_sent() {
        let behind = |reason| {
            let mut progress = Progress::default();
            progress.moved(Some(Position { ranges: open(), reason: Some(reason), ..Position::live(t(1)) }));
            progress
        };
        let (refused, suspended) = (position::Reason::Refused, position::Reason::Suspended);
        for (known, reason, differ, want) in [
            (Some(Rests::No), refused, true, Some(Rests::Blocked)),
            (Some(Rests::No), refused, false, Some(Rests::No)),
            (Some(Rests::No), suspended, true, Some(Rests::No)),
            (Some(Rests::Suspended), refused, true, Some(Rests::Suspended)),
            (None, refused, true, None),
        ] {
            let found = with_dispatchers(known, &behind(reason), || differ);
            assert_eq!(found, want, "{known:?} {reason:?} {differ}");
        }
        assert_eq!(with_dispatchers(Some(Rests::No), &Progress::default(), || true), Some(Rests::No), "it is live");
        let judgement = delivering(Rests::Blocked, None, &behind(refused), t(60));
        assert_eq!((judgement.status.as_str(), judgement.reason), ("False", Reason::Refused));
        assert!(judgement.message.contains("egress file"), "{}", judgement.message);
    }

    #[test]
    fn what_waits_and_what_has_gone() {
        let mut progress = progress(open());
        let before = Behind {
            since: None,
            reason: None,
            from_sequence: 10,
            events: 7,
            passed: Some(4),
            per_second: Some(2),
            oldest_event_time: None,
        };
        let after_start = behind(Some(&before), &progress, None).unwrap();
        assert_eq!((after_start.events, after_start.reason), (7, Some(BehindReason::Suspended)));
        assert_eq!((after_start.passed, after_start.per_second), (Some(4), None));
        let status = DeliveryStatus { skipped: Some(3), ..DeliveryStatus::default() };
        assert_eq!(skipped(Some(&status), &progress), Some(3));

        let mut cursor = Cursor { next: 20, last: 30, oldest: Some(t(90)), skipped: 5, ..Cursor::new(t(1)) };
        cursor.miss(12, 19, t(100));
        progress.read(Some(Cursor { next: 0, ..cursor.clone() }), t(100));
        progress.read(Some(cursor), t(110));
        let now = behind(Some(&before), &progress, Some(Head { created: t(1), last: 40 })).unwrap();
        assert_eq!((now.from_sequence, now.events), (20, 21));
        assert_eq!((now.passed, now.per_second), (Some(10), Some(2)));
        assert_eq!((now.since.unwrap().0, now.oldest_event_time.unwrap().0), (t(50), t(90)));
        assert_eq!(skipped(Some(&status), &progress), Some(5));
        let lost = missed(Some(&status), &progress).unwrap();
        assert_eq!((lost.first_sequence, lost.last_sequence, lost.count), (12, 19, 8));
        let message = missed_condition(Some(&lost), t(200)).unwrap().message;
        assert!(message.starts_with("Up to 8 events") && message.contains("12 and 19"), "{message}");
        let day = 24 * 3600;
        assert_eq!(told_until(Some(t(100)), t(200)), Some(t(100 + day)));
        assert!(missed_condition(Some(&lost), t(100 + day)).is_none());
        assert!(told_until(Some(t(100)), t(100 + day)).is_none());
        let withheld = |last, now| withheld_condition(last, t(now)).map(|judgement| judgement.reason);
        assert_eq!(withheld(Some(t(100)), 200), Some(Reason::DataNotJson));
        assert_eq!((withheld(Some(t(100)), 100 + day), withheld(None, 200)), (None, None));
    }

    #[test]
    fn a_loss_is_counted_once_and_a_new_spell_is_told() {
        let missed = |count, second| {
            let (since, time) = (seconds(t(1)), seconds(t(second)));
            Some(Missed { first_sequence: 1, last_sequence: 9, count, since, time })
        };
        for (old, new, counted, told) in [
            (None, missed(3, 10), 3, false),
            (missed(3, 10), missed(3, 10), 0, false),
            (missed(3, 10), missed(5, 20), 2, false),
            (missed(3, 10), missed(5, 700), 2, true),
            (missed(5, 10), missed(2, 700), 0, false),
            (missed(5, 10), None, 0, false),
        ] {
            assert_eq!(newly_missed(old.as_ref(), new.as_ref()), counted, "{old:?} {new:?}");
            assert_eq!(is_new_spell(old.as_ref(), new.as_ref()), told, "{old:?} {new:?}");
        }
    }
}
