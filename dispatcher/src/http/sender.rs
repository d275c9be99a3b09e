//! Makes one attempt over HTTP. It always ends with an `Outcome`, because each failure here is held against the
//! endpoint, unless this process had no means to make the attempt.
//!
//! The response counts by its status, as far as it was read. A connection is used again for the next request to its
//! origin. If one that was used before ends without a byte of a response, or with 408, the endpoint has most likely closed
//! it before it saw the request; if something else than a response comes over it, that is the rest of the one before. The
//! request is then sent again, once, over a new connection. Its `webhook-id` makes that safe.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hookwright_core::delivery::outcome::{Outcome, OutcomeKind, parse_retry_after};
use hookwright_runtime::egress::InForce;
use hookwright_runtime::logging::{Seldom, chain};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tracing::error;

use crate::clock::Clock;
use crate::http::connection::Connection;
use crate::http::dial::Dialer;
use crate::http::endpoint::Origin;
use crate::http::failure::Failure;
use crate::http::guard::Guard;
use crate::http::pool::{IDLE, Pool};
use crate::http::request::Request;
use crate::http::response::Reader;
use crate::limits::attempts::YOUNG;
use crate::metrics::Metrics;
use crate::settings::{ConnectionSettings, DnsSettings};

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// By which share of it a connection's largest age is shortened at random, so that connections that were opened together
/// are not opened anew together.
const SPREAD: f64 = 0.2;
/// How long an attempt lasts at least whose name was not found or not allowed.
const NAME_FAILS_AFTER: Duration = Duration::from_secs(1);

/// The one client of this dispatcher. All Subscriptions share its connections. It follows no redirect, and uses no
/// proxy but that of the egress file.
#[derive(Clone)]
pub(crate) struct Sender(Arc<Client>);

struct Client {
    dialer: Dialer,
    pool: Pool,
    /// The largest age of a connection that is used again, so that a name that has moved is noticed and vetted.
    max_age: Duration,
    /// The egress rules in force.
    egress: InForce,
    metrics: Arc<Metrics>,
    shortages: Seldom,
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) outcome: Outcome,
    /// Why there was no answer, in full, for the log. It says more than a tenant may know.
    pub(crate) cause: Option<Box<Failure>>,
}

impl Sent {
    /// An attempt that ended because of this failure.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self { outcome: Outcome::without_response(failure.kind()), cause: Some(Box::new(failure)) }
    }

    /// Whether this process had no means to make the attempt, so that the outcome says nothing.
    pub(crate) fn lacked_means(&self) -> bool {
        self.cause.as_ref().is_some_and(|cause| cause.is_exhaustion())
    }
}

impl From<Outcome> for Sent {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, cause: None }
    }
}

impl Sender {
    /// A sender that keeps at most about `most_idle` connections for further requests.
    pub(crate) fn new(
        dns: &DnsSettings,
        connections: &ConnectionSettings,
        egress: InForce,
        most_idle: usize,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let (dialer, max_age) = (Dialer::new(Guard::new(dns)?, egress.clone())?, connections.max_age);
        let (pool, shortages) = (Pool::new(most_idle), Seldom::default());
        Ok(Self(Arc::new(Client { dialer, pool, max_age, egress, metrics, shortages })))
    }

    /// Sends the request and reads the response, all within `timeout`. `ages` is called once the attempt is no longer
    /// young.
    pub(crate) async fn send(
        &self,
        origin: &Arc<Origin>,
        request: Request,
        timeout: Duration,
        clock: &Clock,
        ages: impl FnOnce(),
    ) -> Sent {
        let (mut reader, start) = (Reader::default(), Instant::now());
        let ended = {
            // Only one timer runs at a time, because there are many attempts.
            let mut attempt = pin!(self.0.attempt(origin, &request, &mut reader));
            match timeout_at(start + timeout.min(YOUNG), &mut attempt).await {
                Ok(ended) => {
                    if ended.as_ref().is_err_and(Failure::is_of_name) {
                        ages();
                    }
                    Some(ended)
                }
                Err(_) => {
                    ages();
                    timeout_at(start + timeout, attempt).await.ok()
                }
            }
        };
        let failure = match (reader.answer(), ended) {
            (Some(answer), _) => {
                let retry_after = answer.retry_after.and_then(|value| parse_retry_after(&value, clock.now()));
                return Outcome::response(answer.status, retry_after).into();
            }
            (None, None) => return Outcome::without_response(OutcomeKind::TimedOut).into(),
            // What came may have become an answer.
            (None, Some(Err(failure))) if !reader.is_foreign() => failure,
            (None, Some(_)) => Failure::Unreadable,
        };
        // In a box of its own, because most attempts need no room for it.
        Box::pin(self.failed(failure, start)).await
    }

    /// How an attempt ended that began at `start` and failed before any answer. One whose name was not found, or not
    /// allowed, lasts for a while, so that its duration doesn't tell which of both.
    async fn failed(&self, failure: Failure, start: Instant) -> Sent {
        match failure {
            _ if failure.is_exhaustion() => {
                if self.0.shortages.now() {
                    error!(error = chain(&failure), "this process lacks what a connection takes; attempts wait");
                }
                0
            }
            Failure::Blocked(_) => self.0.metrics.blocked_attempts.inc(),
            Failure::Proxy(_) => self.0.metrics.proxy_failures.inc(),
            _ => 0,
        };
        if failure.is_of_name() {
            sleep_until(start + NAME_FAILS_AFTER).await;
        }
        Sent::failed(failure)
    }

    /// Runs for as long as the process, and closes idle connections that are not used again.
    pub(crate) async fn keep(self) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            self.0.pool.sweep(now, &self.0.egress.borrow().egress);
        }
    }
}

impl Client {
    async fn attempt(&self, origin: &Arc<Origin>, request: &Request, reader: &mut Reader) -> Result<(), Failure> {
        let (mut connection, used_before) = match self.pool.take(origin) {
            Some(connection) => (connection, true),
            None => (self.dial(origin).await?, false),
        };
        let mut exchanged = connection.exchange(request, reader).await;
        let closed = exchanged.is_err() && reader.is_untouched();
        if used_before && (closed || reader.has_waited_in_vain() || reader.is_foreign()) {
            *reader = Reader::default();
            connection = self.dial(origin).await?;
            exchanged = connection.exchange(request, reader).await;
        }
        let written = exchanged.map_err(Failure::Closed)?;
        if let Some(time) = reader.keeps_alive(IDLE).filter(|_| written) {
            self.pool.put(origin, connection, time);
        }
        Ok(())
    }

    async fn dial(&self, origin: &Origin) -> Result<Connection, Failure> {
        // In a box of its own, because most attempts need no room for it.
        let stream = Box::pin(self.dialer.dial(origin)).await?;
        let age = self.max_age.mul_f64(1.0 - SPREAD * rand::random::<f64>());
        Ok(Connection::new(stream, Instant::now() + age))
    }
}

#[cfg(test)]
mod tests;
