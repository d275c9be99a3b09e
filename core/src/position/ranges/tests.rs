use super::*;

const CREATED: Timestamp = Timestamp::UNIX_EPOCH;

fn range(from: u64, to: impl Into<Option<u64>>, until: impl Into<Option<u64>>, begun: bool) -> Range {
    Range { from, to: to.into(), until: until.into(), begun }
}

fn position(ranges: &[Range]) -> Position {
    let (since, reason) = (Some(CREATED), Some(Reason::EndpointSlow));
    let behind = Position { since, reason, ..Position::live(CREATED) };
    if ranges.is_empty() { Position::live(CREATED) } else { Position { ranges: ranges.to_vec(), ..behind } }
}

#[test]
fn covers_table() {
    let two = position(&[range(3, 6, None, true), range(8, None, None, false)]);
    let covered = |position: &Position| (1..10).filter(|&s| position.covers(CREATED, s)).collect::<Vec<_>>();
    assert_eq!(covered(&two), [3, 4, 5, 8, 9]);
    assert!(covered(&position(&[])).is_empty());
    // What the owner reads beyond `to` is delivered by the others as well.
    assert_eq!(covered(&position(&[range(2, 4, 7, true)])), [2, 3]);
    let started = Position { start: Some(2), ..position(&[range(3, None, None, true)]) };
    assert_eq!(covered(&started), [1, 3, 4, 5, 6, 7, 8, 9], "what was not asked for is skipped");
    let other = Timestamp::from_second(1).unwrap();
    assert!(!two.covers(other, 4));
    assert!(two.is_behind() && !position(&[]).is_behind() && !position(&[range(2, 4, None, true)]).is_behind());
}

#[test]
fn go_behind_table() {
    use Gone::{Behind, Covered, Park};
    let (fresh, open) = (range(5, None, None, false), range(5, None, None, true));
    let (closed, ending) = (range(2, 5, None, true), range(2, 5, 7, true));
    for (ranges, sequence, want, after) in [
        (&[][..], 4, Behind, &[range(4, None, None, false)][..]),
        (&[fresh], 5, Covered, &[fresh]),
        (&[fresh], 9, Covered, &[fresh]),
        (&[fresh], 4, Behind, &[range(4, None, None, false)]),
        // The reader may have passed it.
        (&[open], 4, Park, &[open]),
        (&[closed], 4, Covered, &[closed]),
        // Others may have skipped it, and the reader is there already.
        (&[closed], 1, Park, &[closed]),
        (&[closed], 5, Behind, &[closed, range(5, None, None, false)]),
        (&[ending], 6, Behind, &[ending, range(6, None, None, false)]),
        (&[ending, range(8, None, None, false)], 6, Behind, &[ending, range(6, None, None, false)]),
        (&[ending, range(8, None, None, false)], 1, Park, &[ending, range(8, None, None, false)]),
        (&[ending, range(8, None, None, true)], 6, Park, &[ending, range(8, None, None, true)]),
        // Two ranges are the most.
        (&[ending, range(8, 9, None, true)], 9, Park, &[ending, range(8, 9, None, true)]),
    ] {
        let mut position = position(ranges);
        let gone = position.go_behind(sequence, CREATED, Reason::Suspended);
        assert_eq!((gone, &position.ranges[..]), (want, after), "{ranges:?} {sequence}");
        let new = after.len() > ranges.len();
        let reason = if new { Reason::Suspended } else { Reason::EndpointSlow };
        assert_eq!((position.since, position.reason), (Some(CREATED), Some(reason)), "{ranges:?} {sequence}");
    }
}

const SEEN: Seen = Seen { next: 5, may_read: true, last: 7, ahead: 0, all_loaded: true, floor: 7 };

#[test]
fn next_table() {
    use Step::{Live, Read, Store, Wait};
    let (fresh, open) = (range(3, None, None, false), range(3, None, None, true));
    let (closed, ending) = (range(3, 7, None, true), range(3, 7, 7, true));
    let later = range(7, None, None, false);
    let head = Seen { next: 8, ..SEEN };
    let not = Seen { may_read: false, ..SEEN };
    for (ranges, seen, want, after) in [
        (&[][..], SEEN, Live, &[][..]),
        (&[fresh], not, Wait, &[fresh]),
        (&[fresh], SEEN, Store, &[open]),
        (&[open], SEEN, Read { from: 5, upto: None }, &[open]),
        (&[open], Seen { next: 1, ..SEEN }, Read { from: 3, upto: None }, &[open]),
        (&[open], not, Wait, &[open]),
        (&[open], head, Store, &[range(3, 8, None, true)]),
        (&[open], Seen { ahead: 2, ..head }, Store, &[range(3, 10, None, true)]),
        (&[open], Seen { may_read: false, ..head }, Wait, &[open]),
        (&[closed], SEEN, Read { from: 5, upto: Some(6) }, &[closed]),
        (&[closed], Seen { next: 7, all_loaded: false, ..SEEN }, Wait, &[closed]),
        (&[closed], Seen { next: 7, last: 9, ..SEEN }, Store, &[range(3, 7, 9, true)]),
        (&[closed], Seen { next: 7, last: 6, ..SEEN }, Store, &[range(3, 7, 6, true)]),
        // `until` needs no reading, so it is stored while nothing may be read.
        (&[closed], not, Store, &[range(3, 7, 7, true)]),
        (&[ending], SEEN, Read { from: 5, upto: Some(7) }, &[ending]),
        (&[ending], Seen { next: 7, last: 6, ..SEEN }, Wait, &[ending]),
        (&[ending], not, Wait, &[ending]),
        (&[ending], Seen { floor: 6, ..head }, Wait, &[ending]),
        (&[ending], head, Store, &[]),
        // The second range has its turn when the first is gone.
        (&[ending, later], Seen { floor: 6, ..head }, Wait, &[ending, later]),
        (&[ending, later], head, Store, &[later]),
    ] {
        let mut position = position(ranges);
        let step = position.next(&seen);
        assert_eq!((step, &position.ranges[..]), (want, after), "{ranges:?} {seen:?}");
        assert_eq!(position.since.is_some(), !after.is_empty(), "{ranges:?} {seen:?}");
    }
}

#[test]
fn what_comes_before_the_start_is_never_waited_for() {
    let mut started = Position { start: Some(5), ..position(&[range(5, None, None, false)]) };
    let before = started.clone();
    assert_eq!(started.go_behind(3, CREATED, Reason::EndpointSlow), Gone::Covered);
    assert_eq!(started, before);
    started.ranges = vec![range(5, 7, 7, true)];
    assert_eq!(started.next(&Seen { next: 8, ..SEEN }), Step::Store);
    assert_eq!(started, Position::live(CREATED));
}

#[test]
fn a_success_closes_the_breaker_and_ends_no_pause() {
    let mut position = position(&[]);
    assert!(!position.answered());
    assert!(position.open_breaker(CREATED, false) && !position.open_breaker(CREATED, false));
    let until = Timestamp::from_second(60).unwrap();
    assert!(position.pause(until, CREATED) && position.answered() && !position.answered());
    assert_eq!(position.waits, Some(Waits { until: Some(until), ..Waits::since(CREATED) }));
}

#[test]
fn a_breaker_that_an_outage_opened_says_so_until_the_endpoint_fails_by_itself() {
    let mut position = position(&[]);
    for (opens, changed, ours) in
        [(true, true, true), (true, false, true), (false, true, false), (true, false, false), (false, false, false)]
    {
        assert_eq!(position.open_breaker(CREATED, opens), changed);
        assert_eq!(position.waits, Some(Waits { breaker: true, ours, ..Waits::since(CREATED) }));
    }
    assert!(position.answered() && position.open_breaker(CREATED, true) && position.answered());
    assert_eq!(position.waits, Some(Waits::since(CREATED)));
}

#[test]
fn a_position_is_written_short() {
    let position = position(&[range(3, 7, None, true), range(9, None, None, false)]);
    let json = serde_json::json!({
        "version": 1,
        "streamCreated": "1970-01-01T00:00:00Z",
        "ranges": [{ "from": 3, "to": 7, "begun": true }, { "from": 9 }],
        "since": "1970-01-01T00:00:00Z",
        "reason": "EndpointSlow",
    });
    assert_eq!(serde_json::to_value(&position).unwrap(), json);
    assert_eq!(serde_json::from_value::<Position>(json).unwrap(), position);
    let live = serde_json::json!({ "version": 1, "streamCreated": "1970-01-01T00:00:00Z" });
    assert_eq!(serde_json::from_value::<Position>(live).unwrap(), Position::live(CREATED));
}

#[test]
fn what_waited_in_an_earlier_stream_is_not_forgotten() {
    let (second, third) = (Timestamp::from_second(1).unwrap(), Timestamp::from_second(2).unwrap());
    let waits = Some(Waits::since(CREATED));
    let behind = Position { waits, ..position(&[range(5, 9, 12, true), range(20, None, None, false)]) };
    assert_eq!(behind.moved_to(CREATED), behind);
    let left = Some(Left { stream_created: CREATED, from: 5, last: 5 });
    let mut moved = behind.moved_to(second);
    assert_eq!(moved, Position { waits, left, ..Position::live(second) });
    // An event of the new stream puts it behind, before the owner has counted what is gone. Then that stream goes, too.
    assert_eq!(moved.go_behind(1, CREATED, Reason::Suspended), Gone::Behind);
    assert_eq!((moved.left, moved.moved_to(third).left), (left, left));
    assert!(!Position { left, ..Position::live(second) }.is_idle());

    assert!(position(&[]).moved_to(second).is_idle());
    let started = Position { start: Some(5), ..position(&[range(5, None, None, false)]) };
    assert_eq!(started.moved_to(second).left, Some(Left { stream_created: CREATED, from: 5, last: 4 }));
}

#[test]
fn what_was_removed_is_covered_again() {
    let removed = position(&[range(5, 9, 12, true), range(20, None, None, false)]);
    let all = range(5, None, None, true);
    for (found, after) in [
        (&[][..], &[all][..]),
        (&[range(15, None, None, false)], &[all]),
        (&[range(5, 30, None, true)], &[range(5, 30, None, true)]),
        (&[range(2, None, None, false)], &[range(2, None, None, false)]),
    ] {
        let mut position = position(found);
        let changed = position.include(&removed);
        assert_eq!((changed, &position.ranges[..]), (found != after, after), "{found:?}");
    }
    let mut next = Position::live(Timestamp::from_second(1).unwrap());
    assert!(!next.include(&removed) && !position(&[]).include(&position(&[])));
}
