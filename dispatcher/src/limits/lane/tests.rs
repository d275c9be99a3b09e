use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::time::{interval, sleep};

use super::*;
use crate::limits::outage::Tenants;

const FIRST: usize = 2;
const MOST: usize = 4;
const MOST_WAITING: usize = 100;
const QUICK: Duration = Duration::from_millis(5);

/// The outcome of a wait: a permit, or none.
type Got = Option<Permit<Delivery>>;

/// A delivery that reports the outcome of its wait to the test.
struct Delivery {
    got: oneshot::Sender<Got>,
    received: Instant,
    parked_before: bool,
    size: usize,
    lingers: Arc<AtomicBool>,
}

impl Waits for Delivery {
    fn start(self, permit: Permit<Self>) {
        drop(self.got.send(Some(permit)));
    }

    fn leave(self) {
        drop(self.got.send(None));
    }

    fn lingers(&mut self) -> bool {
        self.lingers.store(true, Ordering::Release);
        !self.parked_before
    }

    fn received(&self) -> Instant {
        self.received
    }

    fn parked_before(&self) -> bool {
        self.parked_before
    }

    fn size(&self) -> usize {
        self.size
    }
}

/// The parts of a dispatcher with this many slots, and this many places for deliveries that linger.
fn shared(slots: usize, places: usize, lane_waiting: usize) -> Arc<Shared<Delivery>> {
    let (first, in_flight, waiting, most_waiting) = (FIRST, MOST, lane_waiting, MOST_WAITING);
    let (attempts, lingering) = (Arc::new(Room::new(slots)), Room::new(places));
    let (closed, backlogged) = (AtomicBool::new(false), Mutex::default());
    Arc::new(Shared { first, in_flight, waiting, most_waiting, attempts, lingering, closed, backlogged })
}

/// A lane of a dispatcher that has enough of everything.
fn free_lane(lane_waiting: usize) -> Arc<Lane<Delivery>> {
    Lane::new(&shared(1000, 10_000, lane_waiting), &Tenants::default().of("shop"))
}

fn enter(lane: &Arc<Lane<Delivery>>, parked_before: bool) -> oneshot::Receiver<Got> {
    let (got, receiver) = oneshot::channel();
    lane.enter(Delivery { got, received: Instant::now(), parked_before, size: 1, lingers: Arc::default() });
    receiver
}

/// Deliveries that wait, whose flags the test does not look at.
fn others(lane: &Arc<Lane<Delivery>>, n: usize) -> Vec<oneshot::Receiver<Got>> {
    (0..n).map(|_| enter(lane, false)).collect()
}

fn waiting(lane: &Lane<Delivery>) -> usize {
    lane.state().waiting.len()
}

fn forget_waiting(lane: &Lane<Delivery>) {
    let mut state = lane.state();
    state.waiting = VecDeque::new();
    state.answers.forget_pace();
}

/// Waits for the outcome, and sweeps meanwhile.
async fn wait(lane: &Arc<Lane<Delivery>>, mut entered: oneshot::Receiver<Got>) -> Got {
    let mut ticks = interval(SWEEP);
    loop {
        tokio::select! {
            biased;
            got = &mut entered => return got.unwrap(),
            now = ticks.tick() => lane.shared.sweep(now, Allowance::default()),
        }
    }
}

fn at_once(lane: &Arc<Lane<Delivery>>) -> Got {
    let got = enter(lane, false).now_or_never();
    if got.is_none() {
        lane.state().waiting.pop_back();
    }
    got?.unwrap()
}

fn all(lane: &Arc<Lane<Delivery>>) -> Vec<Permit<Delivery>> {
    std::iter::from_fn(|| at_once(lane)).collect()
}

/// Ends attempts as answered. Returns how many permits the lane has then; deliveries that wait get the new ones.
fn answered(lane: &Arc<Lane<Delivery>>, attempts: usize) -> usize {
    (0..attempts).for_each(|_| lane.attempted(OutcomeKind::Rejected, QUICK));
    lane.state().open
}

/// A sweep may come late, and it takes two to see which deliveries linger.
fn assert_took(start: Instant, wanted: Duration) {
    let took = start.elapsed();
    assert!(took >= wanted && took <= wanted + SWEEP * 3, "{took:?}, not {wanted:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_leaves_when_its_time_is_over_or_the_lane_hangs() {
    let lane = free_lane(3);
    let mut permits = all(&lane);
    assert_eq!(permits.len(), FIRST);
    for (waiting, waited) in [(3, START_WITHIN), (4, LINGER + PACE * 2)] {
        let (start, first) = (Instant::now(), enter(&lane, false));
        let others = others(&lane, waiting - 1);
        assert!(wait(&lane, first).await.is_none());
        assert_took(start, waited);
        assert!(lane.is_stuck());
        forget_waiting(&lane);
        drop(others);
    }
    let others = others(&lane, MOST);
    assert!(enter(&lane, true).now_or_never().unwrap().unwrap().is_none(), "at once");
    forget_waiting(&lane);
    drop(others);
    let last = enter(&lane, true);
    let (permit, ()) = tokio::join!(wait(&lane, last), async { drop(permits.pop()) });
    assert!(permit.is_some());
    assert_eq!(waiting(&lane), 0);
    answered(&lane, 1);
    assert!(!lane.is_stuck());
}

#[tokio::test(start_paused = true)]
async fn what_was_parked_lingers_at_a_lane_where_many_wait() {
    let lane = free_lane(100);
    let mut permits = all(&lane);
    for (waiting, waited) in [(MOST - 1, START_WITHIN), (MOST, LINGER), (MOST_WAITING, Duration::ZERO)] {
        let (others, start) = (others(&lane, waiting), Instant::now());
        let entered = enter(&lane, true);
        assert!(wait(&lane, entered).await.is_none());
        assert_took(start, waited);
        forget_waiting(&lane);
        lane.attempted(OutcomeKind::Rejected, QUICK);
        drop(others);
    }
    let (others, start) = (others(&lane, MOST), Instant::now());
    let entered = enter(&lane, true);
    let one_ends = async {
        sleep(LINGER / 2).await;
        drop(permits.pop());
    };
    let (permit, ()) = tokio::join!(wait(&lane, entered), one_ends);
    // The others came before, but they are fewer now.
    assert!(permit.is_none());
    assert_took(start, START_WITHIN);
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_long_is_told_so_and_what_has_its_turn_in_time_is_not() {
    let lane = free_lane(100);
    let permits = all(&lane);
    for (waited, told) in [(LINGER - SWEEP / 2, false), (LINGER, true)] {
        let (got, mut receiver) = oneshot::channel();
        let (received, lingers) = (Instant::now(), Arc::<AtomicBool>::default());
        lane.enter(Delivery { got, received, parked_before: false, size: 1, lingers: Arc::clone(&lingers) });
        sleep(waited).await;
        lane.shared.sweep(Instant::now(), Allowance::default());
        assert_eq!(lingers.load(Ordering::Acquire), told);
        assert!(receiver.try_recv().is_err(), "it goes on waiting");
    }
    drop(permits);
}

#[tokio::test(start_paused = true)]
async fn a_burst_leaves_no_memory_behind() {
    let lane = free_lane(8);
    let permits = all(&lane);
    let mut entered = others(&lane, 1000);
    drop(permits);
    while waiting(&lane) > 0 {
        entered.retain_mut(|got| got.try_recv().is_err());
    }
    assert!(lane.state().waiting.capacity() > 0);
    lane.shared.sweep(Instant::now(), Allowance::default());
    assert_eq!(lane.state().waiting.capacity(), 0);
    assert!(lane.shared.backlogged().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_hangs_is_known_however_much_comes_due_for_it() {
    let lane = free_lane(3);
    let _permits = all(&lane);
    let start = Instant::now();
    let mut entered = Vec::new();
    let mut ticks = interval(LINGER / 50);
    while !lane.is_stuck() {
        let now = ticks.tick().await;
        lane.shared.sweep(now, Allowance::default());
        entered.push(enter(&lane, true));
        assert!(start.elapsed() < LINGER + PACE * 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_goes_on_is_waited_for_as_long_as_its_pace_allows() {
    let lane = free_lane(0);
    let permits = all(&lane);
    // About eight attempts end between two looks, so five seconds are enough for forty.
    let pace = async {
        let mut ticks = interval(PACE / 8);
        loop {
            ticks.tick().await;
            lane.state().answers.attempted(OutcomeKind::Rejected, QUICK);
        }
    };
    tokio::pin!(pace);
    for (waiting, gives_up) in [(30, false), (50, true)] {
        let first = enter(&lane, false);
        let others = others(&lane, waiting - 1);
        let gave_up = tokio::select! {
            permit = wait(&lane, first) => permit.is_none(),
            () = sleep(PACE * 4) => false,
            never = &mut pace => never,
        };
        assert_eq!(gave_up, gives_up, "{waiting}");
        assert!(!lane.is_stuck());
        let left = lane.state().waiting.len();
        assert!(if gives_up { (35..45).contains(&left) } else { left == waiting }, "{left} of {waiting}");
        forget_waiting(&lane);
        drop(others);
    }
    drop(permits);
    assert!(at_once(&lane).is_some());
}

#[tokio::test]
async fn a_lane_opens_while_it_is_used_and_closes_when_it_is_not() {
    let lane = free_lane(8);
    let permits = all(&lane);
    assert_eq!(permits.len(), FIRST);
    assert_eq!(answered(&lane, 4), FIRST, "nobody waited");
    let entered = others(&lane, MOST * 2);
    assert_eq!(answered(&lane, 4), MOST);
    let mut opened: Vec<_> = entered.into_iter().filter_map(|got| got.now_or_never()?.unwrap()).collect();
    assert_eq!(opened.len(), MOST - FIRST, "each takes one that waited");
    forget_waiting(&lane);
    opened.extend(permits);
    drop(opened);
    assert_eq!(all(&lane).len(), FIRST);
}

#[tokio::test]
async fn a_permit_that_is_free_goes_to_the_one_that_waits_longest() {
    let lane = free_lane(8);
    let mut permits = all(&lane);
    let mut entered = others(&lane, 3).into_iter();
    for _ in 0..3 {
        drop(permits.pop());
        let next = entered.next().unwrap().now_or_never().unwrap().unwrap();
        assert!(entered.len() == 0 || waiting(&lane) == entered.len());
        permits.insert(0, next.unwrap());
    }
    assert!(at_once(&lane).is_none());
}

#[tokio::test]
async fn a_lane_opens_no_further_than_its_namespace_lets_it() {
    let shared = shared(7, 100, 8);
    let lane = Lane::new(&shared, &Tenants::default().of("shop"));
    let mut wide = all(&lane);
    assert_eq!(wide.len(), FIRST, "two of seven, so that five are free");
    let entered = others(&lane, 2);
    assert_eq!(answered(&lane, 4), FIRST, "which is one more than a Subscription may have");
    drop(wide.pop());
    assert_eq!((lane.state().under_way, shared.attempts.held()), (FIRST, FIRST));
    drop((wide, entered));
}

#[tokio::test(start_paused = true)]
async fn what_others_give_back_is_found_by_the_sweep() {
    let (shared, tenants) = (shared(4, 100, 8), Tenants::default());
    let lanes: Vec<_> = ["a", "b"].iter().map(|name| Lane::new(&shared, &tenants.of(name))).collect();
    let taken = all(&lanes[0]);
    let beside = all(&lanes[1]);
    assert_eq!((taken.len(), beside.len()), (2, 1), "each at most what is free");
    let mut waits = enter(&lanes[1], false);
    drop(taken);
    assert!((&mut waits).now_or_never().is_none());
    shared.sweep(Instant::now(), Allowance::default());
    assert!((&mut waits).now_or_never().unwrap().unwrap().is_some());
    drop(beside);
    assert_eq!(shared.attempts.held(), 0);
}

#[tokio::test]
async fn an_attempt_takes_a_slot_for_each_part_of_its_event() {
    let lane = free_lane(8);
    let (got, receiver) = oneshot::channel();
    let (received, size) = (Instant::now(), 10 * SLOT);
    lane.enter(Delivery { got, received, parked_before: false, size, lingers: Arc::default() });
    let permit = receiver.await.unwrap();
    assert_eq!((lane.state().slots, lane.shared.attempts.held()), (11, 11));
    drop(permit);
    assert_eq!((lane.state().slots, lane.shared.attempts.held()), (0, 0));
}

/// Endpoints of one namespace hang with more deliveries than may linger, while those of another one wait.
#[tokio::test(start_paused = true)]
async fn what_lingers_of_one_namespace_leaves_places_to_others() {
    let (shared, tenants) = (shared(1000, 90, 64), Tenants::default());
    let (greedy, other) = (tenants.of("greedy"), tenants.of("other"));
    let slow: Vec<_> = (0..10).map(|_| Lane::new(&shared, &greedy)).collect();
    let [due, lane] = [&greedy, &other].map(|tenant| Lane::new(&shared, tenant));
    let permits: Vec<_> = slow.iter().chain([&due, &lane]).flat_map(all).collect();
    let mut crowd: Vec<_> = slow.iter().flat_map(|lane| others(lane, 30)).collect();
    let mut few = others(&lane, 10);
    let (parked, new) = (enter(&due, true), enter(&due, false));
    sleep(LINGER).await;
    shared.sweep(Instant::now(), Allowance::default());
    let stay = |entered: &mut Vec<oneshot::Receiver<Got>>| {
        entered.retain_mut(|got| got.try_recv().is_err());
        entered.len()
    };
    let (greedy_stay, others_stay) = (stay(&mut crowd), stay(&mut few));
    assert!((35..=45).contains(&greedy_stay) && others_stay == 10, "{greedy_stay} and {others_stay}");
    assert_eq!(shared.lingering.held(), greedy_stay + others_stay);
    assert!(slow.iter().all(|lane| lane.is_crowded_out()) && !lane.is_crowded_out());
    assert!(parked.now_or_never().is_none(), "it has a budget of its own");
    assert!(new.now_or_never().is_some());
    drop((crowd, few));
    drop(permits);
    assert_eq!((shared.lingering.held(), shared.attempts.held()), (0, 0));
}

#[tokio::test]
async fn after_time_outs_one_at_a_time_until_it_is_answered() {
    let lane = free_lane(8);
    let mut permits = all(&lane);
    let entered = others(&lane, 1);
    answered(&lane, 1);
    permits.extend(entered.into_iter().filter_map(|got| got.now_or_never()?.unwrap()));
    (0..answers::TRIP).for_each(|_| lane.attempted(OutcomeKind::TimedOut, QUICK));
    drop(permits);
    let probe = at_once(&lane).unwrap();
    assert!(enter(&lane, false).await.unwrap().is_none() && lane.is_stuck());
    drop(probe);
    let probe = enter(&lane, true).await.unwrap();
    assert!(probe.is_some());
    answered(&lane, 1);
    let entered = others(&lane, 2);
    assert_eq!(answered(&lane, 2), 3);
    drop((entered, probe));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_gets_too_much_gets_one_at_a_time_and_its_pause() {
    let lane = free_lane(8);
    let permits = all(&lane);
    let (start, pause) = (Instant::now(), Duration::from_secs(9));
    permits[0].slow_down(true, Some(pause));
    permits[0].attempted(OutcomeKind::Rejected, QUICK);
    // More than a lane that hangs may keep.
    let mut entered = others(&lane, 60);
    drop(permits);
    let seen = || {
        let state = lane.state();
        (state.under_way, state.waiting.len())
    };
    let mut ticks = interval(SWEEP);
    while start.elapsed() < pause {
        lane.shared.sweep(Instant::now(), Allowance::default());
        assert_eq!((seen(), lane.is_stuck()), ((0, 60), false), "{:?}", start.elapsed());
        ticks.tick().await;
    }
    lane.shared.sweep(Instant::now(), Allowance::default());
    assert_eq!(seen(), (1, 59), "none has waited too long");
    let permit = entered.remove(0).await.unwrap().unwrap();
    permit.attempted(OutcomeKind::Delivered, QUICK);
    assert_eq!(lane.state().open, 2);
}

#[tokio::test]
async fn once_closed_nothing_starts_and_what_waits_leaves() {
    let lane = free_lane(8);
    let permits = all(&lane);
    let entered = others(&lane, 3);
    lane.shared.close();
    drop(permits);
    assert!(enter(&lane, false).await.unwrap().is_none());
    assert_eq!(waiting(&lane), 3);
    lane.shared.sweep(Instant::now(), Allowance::default());
    for got in entered {
        assert!(got.await.unwrap().is_none());
    }
}

/// When the first of `waiting` deliveries leaves, if the endpoint has answered in this time and nothing ends any more, or
/// `pace` attempts end each second.
async fn first_leaves(allowance: Allowance, took: Duration, waiting: usize, pace: usize) -> Duration {
    let lane = free_lane(3);
    let permits = all(&lane);
    lane.attempted(OutcomeKind::Delivered, took);
    let start = Instant::now();
    let mut entered = others(&lane, waiting);
    let (mut ticks, mut ended) = (interval(SWEEP), 0);
    while entered.iter_mut().all(|got| got.try_recv().is_err()) {
        let now = ticks.tick().await;
        while ended < pace * usize::try_from(start.elapsed().as_millis()).unwrap() / 1000 {
            ended += 1;
            lane.state().answers.attempted(OutcomeKind::Delivered, took);
        }
        lane.shared.sweep(now, allowance);
    }
    drop(permits);
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn what_waits_because_the_dispatcher_is_slow_is_not_parked() {
    let second = Duration::from_secs(1);
    let (none, slow) = (Allowance::default(), Allowance::of(second));
    let long = Duration::from_secs(3);
    for (what, allowance, took, waiting, pace, wanted) in [
        ("few, nobody is slow", none, QUICK, 3, 10, START_WITHIN),
        ("many, the pace is known", none, QUICK, MOST_WAITING * 2, 1, LINGER + PACE),
        ("few", slow, QUICK, 3, 10, START_WITHIN_WHEN_SLOW),
        ("many", slow, QUICK, MOST_WAITING * 2, 1, START_WITHIN_WHEN_SLOW),
        ("an endpoint that takes a while by itself", slow, second / 3, MOST_WAITING * 2, 1, START_WITHIN_WHEN_SLOW),
        ("an endpoint that is slow by itself", slow, long, 3, 10, START_WITHIN),
    ] {
        let took = first_leaves(allowance, took, waiting, pace).await;
        assert!(took >= wanted && took <= wanted + SWEEP * 3, "{what}: {took:?}, not {wanted:?}");
    }
    // One that was quick and hangs now is found out after two looks, and then has the usual time.
    let took = first_leaves(slow, QUICK, 3, 0).await;
    let known = LINGER + PACE + (PACE + second) * 2;
    assert!(took >= known + LINGER && took <= known + START_WITHIN + SWEEP * 3, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn time_outs_are_no_fault_of_a_slow_dispatcher_and_its_slowness_counts_until_it_ends() {
    let second = Duration::from_secs(1);
    let lane = free_lane(3);
    let permits = all(&lane);
    lane.attempted(OutcomeKind::Delivered, QUICK);
    let mut entered = others(&lane, 3);
    let mut ticks = interval(SWEEP);
    let start = Instant::now();
    // Slow for ten seconds, then no more: nothing leaves at once.
    while entered[0].try_recv().is_err() {
        let now = ticks.tick().await;
        lane.state().answers.attempted(OutcomeKind::Delivered, QUICK);
        let slow = start.elapsed() < second * 10;
        lane.shared.sweep(now, if slow { Allowance::of(second) } else { Allowance::default() });
    }
    let took = start.elapsed();
    assert!(took >= second * 10 + START_WITHIN - SWEEP && took <= second * 10 + START_WITHIN + SWEEP * 3, "{took:?}");
    forget_waiting(&lane);
    lane.attempted(OutcomeKind::TimedOut, second / 2);
    assert!(!lane.state().answers.are_delayed_by_us(Allowance::of(second)));
    drop(permits);
}

#[tokio::test(start_paused = true)]
async fn a_lane_opens_as_wide_as_those_that_leave_the_subscription_to_it() {
    let lane = free_lane(100);
    let (_permits, _others) = (all(&lane), others(&lane, 50));
    assert_eq!(answered(&lane, 3 * MOST), MOST);
    lane.widen(3);
    assert_eq!(answered(&lane, 3 * MOST), 3 * MOST);
    lane.widen(0);
    assert_eq!(answered(&lane, MOST), 3 * MOST, "it gives back what it does not use");
}
