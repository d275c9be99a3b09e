use bytes::Bytes;
use hookwright_core::delivery::dead_letter::DeadLetterReason;
use hookwright_core::event::event_type::EventTypeRule;
use hookwright_core::record::{ProducerRecord, StreamRef, Validation};
use jiff::Timestamp;

use super::*;
use crate::catch_up::block::Found;
use crate::catch_up::stream::Stored;

/// What is taken for a block in these tests.
const BLOCK: usize = BYTES;

fn producer(name: &str) -> Arc<Producer> {
    Arc::new(Producer::new(ProducerRecord {
        version: 1,
        uid: ProducerUid::parse("p-1").unwrap(),
        generation: 1,
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        stream: StreamRef { name: "stream".to_owned(), created: Timestamp::UNIX_EPOCH },
        consumer: "consumer".to_owned(),
        event_type: EventTypeRule::default(),
        validation: Validation::Ignore,
    }))
}

fn stored(sequence: u64, body: usize) -> Stored {
    let (subject, time) = ("order.created".to_owned(), Timestamp::UNIX_EPOCH);
    Stored { sequence, subject, time, headers: Some(async_nats::HeaderMap::new()), body: Bytes::from(vec![b'x'; body]) }
}

/// A block of a stream whose first sequence is `first` by now.
fn block(sequences: &[u64], (first, end): (u64, u64), body: usize, reserved: Option<Reserved>) -> Block {
    let messages = sequences.iter().map(|sequence| stored(*sequence, body)).collect();
    Block::read(&producer("orders"), &[], messages, (first, end), reserved)
}

type Asked = Result<Option<Arc<Block>>, &'static str>;

/// Asks for a sequence. Returns whether it had to be read.
async fn ask(blocks: &Blocks, shelf: &Shelf, sequence: u64, end: u64, body: usize) -> (Asked, bool) {
    let mut was_read = false;
    let read = |reserved| {
        was_read = true;
        async move { Ok(Some(block(&[sequence], (1, end), body, reserved))) }
    };
    let found = shelf.find_or_read(blocks, sequence, read).await;
    (found, was_read)
}

#[test]
fn what_a_block_says() {
    let ten = block(&[10, 12, 15], (1, 16), 1, None);
    let from = |sequence| ten.from(sequence).iter().map(|entry| entry.sequence).collect::<Vec<_>>();
    assert_eq!((from(3), from(12), from(13), from(16)), (vec![10, 12, 15], vec![12, 15], vec![15], vec![]));
    // What is missing before the first message was dropped only if the stream began later by then.
    for (first, from, want) in [(1, 5, 1), (8, 5, 8), (11, 5, 10), (11, 11, 11), (99, 13, 13)] {
        assert_eq!(block(&[10, 12, 15], (first, 16), 1, None).dropped_before(from), want, "{first} {from}");
    }
    assert_eq!(block(&[], (7, 30), 1, None).dropped_before(5), 7);
    assert_eq!(block(&[], (90, 30), 1, None).dropped_before(5), 30);
}

#[test]
fn an_empty_event_that_should_not_be_empty_is_unreadable() {
    for (size, body, want) in
        [(None, 0, None), (Some("0"), 0, None), (Some("7"), 7, None), (Some("7"), 0, Some(DeadLetterReason::Malformed))]
    {
        let mut message = stored(1, body);
        size.into_iter().for_each(|size| message.headers.as_mut().unwrap().insert("Nats-Msg-Size", size));
        let block = Block::read(&producer("orders"), &[], vec![message], (1, 2), None);
        let found = match &block.from(1)[0].found {
            Found::Unreadable(_, unreadable) => Some(unreadable.reason),
            Found::Event(..) => None,
            Found::Nothing => panic!("it is an event"),
        };
        assert_eq!(found, want, "{size:?} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_is_read_once_for_all_who_come_to_it() {
    let blocks = Blocks::new(10 * BLOCK, 1);
    let shelf = blocks.of(&producer("orders"), &[]);
    assert!(Arc::ptr_eq(&shelf, &blocks.of(&producer("orders"), &[])));
    for (sequence, end, read) in
        [(10, 20, true), (10, 20, false), (19, 0, false), (20, 25, true), (5, 8, true), (8, 10, true)]
    {
        let (found, was_read) = ask(&blocks, &shelf, sequence, end, 1).await;
        assert!(found.unwrap().unwrap().end > sequence);
        assert_eq!(was_read, read, "{sequence}");
    }
    // A read that brings nothing says nothing about the next one.
    assert!(ask(&blocks, &shelf, 30, 30, 1).await.1 && ask(&blocks, &shelf, 30, 31, 1).await.1);
    // What was purged is not delivered for long, however often readers come.
    for _ in 0..OLD.as_secs() {
        tokio::time::advance(Duration::from_secs(1)).await;
        shelf.find(10);
    }
    assert!(shelf.find(10).is_none());
    blocks.forget_old();
    assert_eq!((shelf.blocks().len(), blocks.memory.used()), (0, 0));
    // Another record, or other filters, make other events of the same messages.
    for (name, filters) in [("other", vec![]), ("orders", vec!["a.>".to_owned()])] {
        assert!(!Arc::ptr_eq(&shelf, &blocks.of(&producer(name), &filters)));
    }
    ask(&blocks, &shelf, 1, 2, 1).await.0.unwrap();
    drop(shelf);
    let shelf = blocks.of(&producer("orders"), &[]);
    assert_eq!((shelf.blocks().len(), blocks.memory.used()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_read_share_what_it_brings_and_its_failure() {
    let blocks = Blocks::new(10 * BLOCK, 1);
    let shelf = blocks.of(&producer("orders"), &[]);
    let second = Duration::from_secs(1);
    let slow = |fails: bool| {
        let (blocks, shelf) = (&blocks, &shelf);
        async move {
            let read = |reserved| async move {
                tokio::time::sleep(second).await;
                if fails { Err("late") } else { Ok(Some(block(&[1], (1, 9), 1, reserved))) }
            };
            shelf.find_or_read(blocks, 1, read).await
        }
    };
    let (first, second, third) = tokio::join!(slow(true), slow(true), slow(false));
    assert!(first.is_err() && matches!(second, Ok(None)) && matches!(third, Ok(None)));
    let began = Instant::now();
    let (first, second) = tokio::join!(slow(false), slow(true));
    assert!(Arc::ptr_eq(&first.unwrap().unwrap(), &second.unwrap().unwrap()));
    assert!(began.elapsed() < Duration::from_millis(1500));
}

#[tokio::test(start_paused = true)]
async fn blocks_take_no_more_memory_than_they_may() {
    let blocks = Blocks::new(4 * BLOCK, 1);
    let shelf = blocks.of(&producer("orders"), &[]);
    let kept = |shelf: &Shelf| shelf.blocks().len();
    for n in 0..6 {
        let (found, was_read) = ask(&blocks, &shelf, 10 * n, 10 * n + 5, BLOCK - 4096).await;
        assert!(found.unwrap().is_some() && was_read);
    }
    assert_eq!(kept(&shelf), 4, "the others were read for one reader alone");
    assert!(blocks.memory.used() <= 4 * BLOCK);
    // A block that is not used makes room, also for another stream.
    tokio::time::advance(UNUSED).await;
    shelf.find(0);
    let other = Arc::new(Producer::new(ProducerRecord {
        uid: ProducerUid::parse("p-2").unwrap(),
        ..producer("orders").record.clone()
    }));
    let other = blocks.of(&other, &[]);
    ask(&blocks, &other, 1, 2, 1).await.0.unwrap();
    assert_eq!((kept(&shelf), kept(&other)), (1, 1));
    drop((shelf, other));
    assert_eq!(blocks.memory.used(), 0);
    // A server whose messages may be larger than all blocks together.
    let none = Blocks::new(BLOCK, BLOCK + 1);
    let shelf = none.of(&producer("orders"), &[]);
    assert!(ask(&none, &shelf, 1, 2, 1).await.0.unwrap().is_some() && kept(&shelf) == 0);
}
