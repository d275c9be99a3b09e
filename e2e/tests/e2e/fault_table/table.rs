//! The table: holds the load while a fault happens, judges what came of it, and prints a row.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::{LocalBoxFuture, join_all};
use futures::{FutureExt, TryStreamExt};
use hookwright_core::nats::names::DEAD_LETTER_STREAM;
use hookwright_e2e::{User, is_long, report, wait_for};

use crate::faults::{Load, count_duplicates, missing};
use crate::shop::Shop;

const RATE: u64 = 200;
/// What a dispatcher has under way for one endpoint at most, by its default settings.
pub(super) const IN_FLIGHT: usize = 64;
/// How long everything may take to arrive; a delivery may be parked and come again.
const ARRIVAL: Duration = Duration::from_secs(180);
/// How much is under way for how long in a quiet time, at the most.
pub(super) const QUIET: (usize, u64) = (0, 5);

/// A row of the table.
pub(super) struct Row {
    /// Its number in the list of faults.
    pub(super) number: u32,
    pub(super) fault: &'static str,
    /// What is expected beside that the load goes on.
    pub(super) expected: &'static str,
    /// How many deliveries of the load may come twice.
    pub(super) twice: usize,
    /// How long nothing of the load may arrive. It is judged in the long form only, which has a machine for itself.
    pub(super) silence: Duration,
}

/// A row, with how much of the load may come twice and how many seconds it may be silent.
pub(super) const fn row(
    number: u32,
    fault: &'static str,
    expected: &'static str,
    (twice, silence): (usize, u64),
) -> Row {
    Row { number, fault, expected, twice, silence: Duration::from_secs(silence) }
}

/// How many dead letters there are under a subject.
pub(super) async fn dead_letters(shop: &Shop<'_>, subject: &str) -> anyhow::Result<usize> {
    let stream = shop.world.nats.jetstream(User::Admin).await?.get_stream(DEAD_LETTER_STREAM).await?;
    let counts: HashMap<String, usize> = stream.info_with_subjects(subject).await?.try_collect().await?;
    Ok(counts.values().sum())
}

/// A fault that happens while there is load. It returns what was measured of it, or why it failed.
pub(super) type Fault<'a> = LocalBoxFuture<'a, anyhow::Result<String>>;

/// What became of the load.
struct Held {
    events: usize,
    lost: usize,
    twice: usize,
    silence: Duration,
}

/// The table as it is filled. Events of the type `tick` are its load, which the Subscription `all` gets.
pub(super) struct Table<'w> {
    pub(super) shop: &'w Shop<'w>,
    failed: Vec<&'static str>,
}

impl<'w> Table<'w> {
    pub(super) fn new(shop: &'w Shop<'w>) -> Self {
        Self { shop, failed: Vec::new() }
    }

    /// Holds the load while the fault happens, and until it is over: 100 more events have arrived. The fault returns what
    /// was measured of it, or why it failed.
    pub(super) async fn hold(&mut self, row: Row, fault: impl Future<Output = anyhow::Result<String>>) {
        self.hold_all(vec![(row, fault.boxed_local())]).await;
    }

    /// The same with faults that happen at the same time.
    pub(super) async fn hold_all(&mut self, faults: Vec<(Row, Fault<'_>)>) {
        let (rows, faults): (Vec<Row>, Vec<Fault<'_>>) = faults.into_iter().unzip();
        let (shop, before) = (self.shop, self.shop.receiver.count("/all"));
        let arrived = async |n: usize| drop(shop.receiver.wait_count("/all", n, ARRIVAL).await);
        let mut outcomes = Vec::new();
        let held = async {
            arrived(before + 100).await;
            outcomes = join_all(faults).await;
            arrived(shop.receiver.count("/all") + 100).await;
        };
        let load = Load::during(shop, &shop.publisher, RATE, held).await;
        let requests = || shop.receiver.requests("/all").split_off(before);
        let all = wait_for("all to arrive", ARRIVAL, async || {
            let missing = missing(&requests(), &load.acknowledged).len();
            anyhow::ensure!(missing == 0, "{missing} are missing");
            Ok(())
        });
        drop(all.await);
        let requests = requests();
        let held = Held {
            events: load.acknowledged.len(),
            lost: missing(&requests, &load.acknowledged).len(),
            twice: count_duplicates(&requests),
            silence: load.longest_silence(&requests),
        };
        for (row, outcome) in rows.into_iter().zip(outcomes) {
            self.judge(&row, &held, outcome);
        }
    }

    /// Prints a row.
    fn judge(&mut self, row: &Row, held: &Held, outcome: anyhow::Result<String>) {
        let Row { number, fault, expected, twice: most_twice, silence: most_silence } = *row;
        let Held { events, lost, twice, silence } = *held;
        let steady = lost == 0 && twice <= most_twice && (!is_long() || silence <= most_silence);
        let passed = steady && outcome.is_ok();
        if !passed {
            self.failed.push(fault);
        }
        let measured = outcome.unwrap_or_else(|error| format!("{error:#}"));
        report(&format!(
            "{number:>2} | {fault} | {RATE}/s, {events} events | lost 0, twice <= {most_twice}, silence <= {} s; \
             {expected} | lost {lost}, twice {twice}, silence {:.1} s; {measured} | {}",
            most_silence.as_secs(),
            silence.as_secs_f64(),
            if passed { "pass" } else { "FAILED" }
        ));
    }

    pub(super) fn end(self) {
        assert!(self.failed.is_empty(), "failed: {:?}", self.failed);
    }
}
