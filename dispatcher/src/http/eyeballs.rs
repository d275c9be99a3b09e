//! Dials a name that may have addresses of both families, by Happy Eyeballs (RFC 8305): neither a name server that is
//! slow to answer for one family nor an address that doesn't answer keeps the others waiting.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use futures::future::FusedFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use crate::http::failure::Failure;

/// How long the first answer of the name server waits for the one for the other family.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// After which time the next address is tried as well.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How long an answer for the other family is waited for once all known addresses have failed. Without a bound, the end of
/// the attempt's time would hide what is known.
const LATE: Duration = Duration::from_secs(1);
/// The most addresses of each family that are tried.
const MOST: usize = 8;

/// Dials the addresses in turn, the families alternating, and returns the first connection. `v6` and `v4` resolve to the
/// addresses of a family; a late answer joins in.
///
/// # Errors
/// If neither family has an address that can be connected to.
pub(crate) async fn connect<T, D: Future<Output = Result<T, Failure>>>(
    v6: impl Future<Output = Result<Vec<IpAddr>, Failure>>,
    v4: impl Future<Output = Result<Vec<IpAddr>, Failure>>,
    dial: impl Fn(IpAddr) -> D,
) -> Result<T, Failure> {
    let (mut v6, mut v4) = (pin!(v6.fuse()), pin!(v4.fuse()));
    let mut dialling = FuturesUnordered::new();
    let (mut queue, mut failure) = (Queue::default(), Failure::NoAddress);
    // Nothing is dialled before.
    let mut not_before = Instant::now();
    let mut give_up = None;
    loop {
        let resolved = v6.is_terminated() && v4.is_terminated();
        if queue.has_next() && Instant::now() >= not_before {
            dialling.extend(queue.next().map(&dial));
            not_before = Instant::now() + ATTEMPT_DELAY;
        }
        let idle = dialling.is_empty() && !queue.has_next();
        if idle && (resolved || give_up.is_some_and(|at| Instant::now() >= at)) {
            return Err(failure);
        }
        let (family, answer) = tokio::select! {
            biased;
            Some(dialled) = dialling.next() => match dialled {
                Ok(connection) => return Ok(connection),
                Err(failed) => {
                    failure = heavier(failure, failed);
                    not_before = Instant::now();
                    give_up = Some(not_before + LATE);
                    continue;
                }
            },
            answer = &mut v6 => (0, answer),
            answer = &mut v4 => (1, answer),
            () = sleep_until(not_before), if queue.has_next() => continue,
            () = sleep_until(give_up.unwrap_or(not_before)), if idle && give_up.is_some() => continue,
        };
        match answer {
            Ok(addresses) => queue.families[family].extend(addresses.into_iter().take(MOST)),
            Err(failed) => failure = heavier(failure, failed),
        }
        if dialling.is_empty() {
            let other = v6.is_terminated() && v4.is_terminated();
            not_before = Instant::now() + if other { Duration::ZERO } else { RESOLUTION_DELAY };
        }
    }
}

fn heavier(one: Failure, other: Failure) -> Failure {
    if other.weight() > one.weight() { other } else { one }
}

/// The addresses that were not dialled yet.
#[derive(Default)]
struct Queue {
    /// IPv6, then IPv4.
    families: [VecDeque<IpAddr>; 2],
    turn: usize,
}

impl Queue {
    fn has_next(&self) -> bool {
        self.families.iter().any(|family| !family.is_empty())
    }

    /// The next address, of the other family than the last one if there is one.
    fn next(&mut self) -> Option<IpAddr> {
        let turn = if self.families[self.turn].is_empty() { 1 - self.turn } else { self.turn };
        self.turn = 1 - turn;
        self.families[turn].pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const NEVER: u64 = u64::MAX;

    /// After how many milliseconds a name server answers, with how many addresses, or why not.
    type Answer = (u64, Result<u8, fn() -> Failure>);

    async fn after(millis: u64) {
        match millis {
            NEVER => std::future::pending().await,
            0 => {}
            _ => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }

    async fn resolve((millis, answer): Answer, address: impl Fn(u8) -> IpAddr) -> Result<Vec<IpAddr>, Failure> {
        after(millis).await;
        Ok((1..=answer.map_err(|failure| failure())?).map(address).collect())
    }

    fn v6(n: u8) -> IpAddr {
        Ipv6Addr::from(u128::from(n)).into()
    }

    fn v4(n: u8) -> IpAddr {
        Ipv4Addr::new(0, 0, 0, n).into()
    }

    fn refused() -> Failure {
        Failure::Connect((v4(1), 80).into(), io::ErrorKind::ConnectionRefused.into())
    }

    /// The addresses that were dialled, at which millisecond, and the end: the address that answered or the failure.
    #[tokio::test(start_paused = true)]
    async fn dialled_table() {
        let blocked: fn() -> Failure = || Failure::Blocked(refusal());
        let none: fn() -> Failure = || Failure::NoAddress;
        let quick: fn(IpAddr) -> u64 = |_| 10;
        type Dial = fn(IpAddr) -> u64;
        for (six, four, takes, dialled, end) in [
            // The name server never answers for one family.
            ((NEVER, Ok(1)), (5, Ok(1)), quick, &[(55, v4(1))][..], Ok(v4(1))),
            ((5, Ok(1)), (NEVER, Ok(1)), quick, &[(55, v6(1))], Ok(v6(1))),
            ((5, Ok(1)), (20, Ok(1)), quick, &[(20, v6(1))], Ok(v6(1))),
            ((20, Ok(1)), (5, Ok(1)), quick, &[(20, v6(1))], Ok(v6(1))),
            ((5, Err(none)), (20, Ok(1)), quick, &[(20, v4(1))], Ok(v4(1))),
            // The first addresses are black holes.
            (
                (0, Ok(2)),
                (0, Ok(2)),
                (|address| if address == v4(2) { 10 } else { NEVER }) as Dial,
                &[(0, v6(1)), (250, v4(1)), (500, v6(2)), (750, v4(2))],
                Ok(v4(2)),
            ),
            // A late answer joins in.
            (
                (300, Ok(1)),
                (0, Ok(1)),
                |address| if address == v6(1) { 10 } else { NEVER },
                &[(50, v4(1)), (300, v6(1))],
                Ok(v6(1)),
            ),
            // Each family is vetted for itself, and a refused one is not dialled.
            ((0, Err(blocked)), (9, Ok(1)), quick, &[(9, v4(1))], Ok(v4(1))),
            ((0, Err(blocked)), (9, Err(none)), quick, &[], Err("the egress rules forbid an address of the name")),
            ((0, Err(none)), (9, Err(none)), quick, &[], Err("the name has no address")),
            // All that is known was refused. 0 ms stands for that.
            ((NEVER, Ok(1)), (0, Ok(2)), |_| 0, &[(50, v4(1)), (50, v4(2))], Err("can't connect to 0.0.0.1:80")),
            (
                (900, Ok(1)),
                (0, Ok(1)),
                |address| if address == v6(1) { 10 } else { 0 },
                &[(50, v4(1)), (900, v6(1))],
                Ok(v6(1)),
            ),
            // What became of an address says more than what became of a name.
            ((0, Err(blocked)), (0, Ok(2)), |_| 0, &[(0, v4(1)), (0, v4(2))], Err("can't connect to 0.0.0.1:80")),
        ] {
            let (start, seen) = (Instant::now(), RefCell::new(Vec::new()));
            let dial = |address| {
                seen.borrow_mut().push((start.elapsed().as_millis(), address));
                async move {
                    let millis = takes(address);
                    after(millis).await;
                    if millis == 0 { Err(refused()) } else { Ok(address) }
                }
            };
            let got = connect(resolve(six, v6), resolve(four, v4), dial).await.map_err(|failure| failure.to_string());
            assert_eq!((&seen.borrow()[..], got), (dialled, end.map_err(str::to_owned)));
        }
    }

    fn refusal() -> hookwright_core::destination::egress::Refusal {
        hookwright_core::destination::egress::EgressPolicy::default().check_address(v4(1)).unwrap_err()
    }
}
