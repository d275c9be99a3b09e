use super::*;
use proptest::prelude::*;

fn t(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A look at a whole stream: the sequence delivered up to, the number of deliveries, and the first sequence held.
const fn look(delivered: u64, deliveries: u64, first: u64) -> Look {
    let consumer_created = Timestamp::UNIX_EPOCH;
    let last = if delivered < first { first - 1 } else { delivered };
    Look { consumer_created, start: None, delivered, deliveries, waits: false, first, last, whole: true }
}

const fn part(look: Look, waits: bool) -> Look {
    Look { waits, whole: false, ..look }
}

fn anew(look: Look, start: u64) -> Look {
    Look { consumer_created: t(1), start: Some(start), ..look }
}

/// The number of events that each look finds, and whether all numbers are exact.
fn found(looks: &[Look]) -> (Vec<u64>, bool) {
    let (mut position, mut all, mut exact) = (None, Vec::new(), true);
    for look in looks {
        let (next, found) = look.compare(position.as_ref());
        position = Some(next);
        exact &= found.events == 0 || found.exact;
        all.push(found.events);
    }
    (all, exact)
}

#[test]
fn of_a_whole_stream_the_count_is_exact() {
    for (what, looks, want) in [
        (
            "all is delivered and dropped later",
            vec![look(0, 0, 1), look(900, 900, 1), look(5000, 5000, 4001)],
            [0, 0, 0],
        ),
        ("nobody reads", vec![look(10, 10, 1), look(10, 10, 111), look(10, 10, 131)], [0, 100, 20]),
        ("nobody read for a while", vec![look(10, 10, 1), look(10, 10, 111), look(500, 390, 131)], [0, 100, 10]),
        ("seen only afterwards", vec![look(10, 10, 1), look(500, 400, 111), look(501, 401, 111)], [0, 100, 0]),
        ("the first look", vec![look(10, 10, 111), look(10, 10, 111), look(120, 20, 111)], [100, 0, 0]),
        ("one deleted in the middle", vec![look(10, 10, 1), look(10, 10, 1), look(20, 19, 1)], [0, 0, 1]),
        (
            "delivered again after a crash: too low",
            vec![look(10, 10, 1), look(10, 30, 1), look(130, 100, 111)],
            [0, 0, 50],
        ),
        ("emptied", vec![look(10, 10, 1), look(10, 10, 51), look(60, 20, 61)], [0, 40, 0]),
        ("NATS forgot deliveries", vec![look(100, 100, 1), look(90, 90, 1), look(120, 120, 1)], [0, 0, 0]),
        ("and events went", vec![look(100, 100, 1), look(140, 95, 131), look(150, 105, 131)], [0, 0, 0]),
    ] {
        let (counts, exact) = found(&looks);
        assert_eq!((counts.as_slice(), exact), (&want[..], true), "{what}");
    }
}

#[test]
fn of_a_part_of_a_stream_only_what_waits_can_go() {
    let part = |delivered, deliveries, first, waits| part(look(delivered, deliveries, first), waits);
    for (what, looks, want) in [
        (
            "others' events come and go",
            vec![part(10, 10, 1, false), part(10, 10, 500, false), part(900, 11, 800, false)],
            [0, 0, 0],
        ),
        (
            "one of its own just came",
            vec![part(10, 10, 1, false), part(10, 10, 500, true), part(900, 11, 800, false)],
            [0, 0, 0],
        ),
        ("nobody reads", vec![part(10, 10, 1, true), part(10, 10, 111, true), part(10, 10, 131, true)], [0, 100, 20]),
        ("many at once", vec![part(10, 10, 1, false), part(10, 10, 111, true), part(10, 10, 111, true)], [0, 0, 100]),
        (
            "slow, and others' are dropped",
            vec![part(10, 10, 1, true), part(500, 20, 200, true), part(900, 30, 600, true)],
            [0, 0, 0],
        ),
        (
            "all that waited has gone",
            vec![part(10, 10, 1, true), part(10, 10, 111, false), part(10, 10, 111, false)],
            [0, 100, 0],
        ),
    ] {
        let (counts, exact) = found(&looks);
        assert_eq!((counts.as_slice(), exact), (&want[..], counts == [0, 0, 0]), "{what}");
    }
    // If nothing waited, the events in the stream were not the consumer's: their removal doesn't count.
    let others = Look { last: 200, ..part(10, 10, 1, false) };
    assert_eq!(found(&[others, part(10, 10, 231, true), part(10, 10, 231, true)]).0, [0, 0, 30]);
}

#[test]
fn a_consumer_made_anew_starts_at_the_checkpoint() {
    for (what, looks, want) in [
        ("all is there", vec![look(600, 600, 1), anew(look(700, 200, 1), 501)], 0),
        ("what was acked since the checkpoint comes again", vec![look(600, 600, 1), anew(look(500, 0, 1), 501)], 0),
        ("the front has gone", vec![look(600, 600, 1), anew(look(700, 50, 651), 501)], 150),
        ("and nobody reads", vec![look(600, 600, 1), anew(look(650, 0, 651), 501)], 150),
        ("of a part", vec![part(look(600, 60, 1), true), part(anew(look(700, 5, 651), 501), false)], 150),
        ("of a part, all is there", vec![part(look(600, 60, 1), true), part(anew(look(700, 5, 501), 501), false)], 0),
    ] {
        let (counts, exact) = found(&looks);
        assert_eq!((counts.as_slice(), exact), (&[0, want][..], want == 0), "{what}");
    }
    // A consumer that was created to start with the first event starts a count of its own.
    let other = Look { consumer_created: t(1), ..look(5, 5, 1) };
    assert_eq!(found(&[look(600, 600, 1), other]).0, [0, 0]);
    // The Producer's subjects were edited.
    assert_eq!(found(&[part(look(10, 1, 1), false), look(500, 20, 1), look(510, 30, 1)]).0, [0, 0, 0]);
}

#[test]
fn a_loss_is_told_for_a_day() {
    let found = |events, exact| Found { events, exact };
    let first = Loss::with(None, found(3, true), t(0));
    assert_eq!(first, Some(Loss { events: 3, exact: true, last: t(0) }));
    let second = Loss::with(first.as_ref(), found(4, false), t(3600));
    assert_eq!(second, Some(Loss { events: 7, exact: false, last: t(3600) }));
    assert_eq!(Loss::with(second.as_ref(), found(0, true), t(80_000)), second);
    assert_eq!(Loss::with(second.as_ref(), found(0, true), t(100_000)), None);
    assert_eq!(Loss::with(second.as_ref(), found(1, true), t(100_000)).map(|loss| loss.events), Some(1));
    assert_eq!(Loss::with(None, found(0, true), t(0)), None);
}

/// A step between looks, or a look.
#[derive(Debug, Clone, Copy)]
enum Step {
    Publish(u64),
    /// The shared consumer delivers this many events to dispatchers.
    Deliver(u64),
    /// A limit or a purge removes this many events from the front.
    Drop(u64),
    /// The event at this index is deleted.
    Delete(u64),
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..20u64).prop_map(Step::Publish),
        (1..20u64).prop_map(Step::Deliver),
        (1..20u64).prop_map(Step::Drop),
        (0..40u64).prop_map(Step::Delete),
        Just(Step::Look),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    /// The model knows what NATS doesn't tell: which events were removed undelivered.
    #[test]
    fn no_look_counts_what_was_delivered_and_none_that_went_is_missed(steps in steps()) {
        let mut held = std::collections::BTreeSet::new();
        let (mut last, mut delivered, mut deliveries, mut lost) = (0u64, 0u64, 0u64, 0u64);
        let (mut position, mut counted) = (look(0, 0, 1).compare(None).0, 0);
        for step in steps.into_iter().chain([Step::Deliver(u64::MAX), Step::Look]) {
            let mut went = |sequence: u64, delivered: u64| lost += u64::from(sequence > delivered);
            match step {
                Step::Publish(n) => {
                    held.extend(last + 1..=last + n);
                    last += n;
                }
                Step::Deliver(n) => {
                    let next: Vec<u64> = held.range(delivered + 1..).take(n.min(1 << 20) as usize).copied().collect();
                    deliveries += next.len() as u64;
                    // The consumer has come to the end if there were fewer events than it wanted.
                    delivered = if (next.len() as u64) < n { last } else { next[next.len() - 1] };
                }
                Step::Drop(n) => (0..n).for_each(|_| held.pop_first().into_iter().for_each(|s| went(s, delivered))),
                Step::Delete(n) => {
                    let one = held.iter().nth(n as usize).copied();
                    one.into_iter().for_each(|s| { held.remove(&s); went(s, delivered) });
                }
                Step::Look => {
                    let first = held.first().copied().unwrap_or(last + 1);
                    let (next, found) = look(delivered, deliveries, first).compare(Some(&position));
                    position = next;
                    counted += found.events;
                    prop_assert!(counted <= lost, "{counted} of {lost}");
                }
            }
        }
        prop_assert_eq!(counted, lost);
    }
}
