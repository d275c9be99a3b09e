//! Makes one attempt over HTTP. The result is always an `Outcome` and never an `Err`, because each failure here is held
//! against the endpoint.

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use hookwright_core::delivery::outcome::{Outcome, OutcomeKind, parse_retry_after};
use hookwright_core::destination::egress::{EgressPolicy, Refusal};
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error as SendError, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use crate::clock::Clock;
use crate::http::dial::Dial;
use crate::http::guard::Guard;
use crate::limits::attempts::YOUNG;
use crate::settings::DnsSettings;

/// How much of a response's body is read so that its connection can be used again. A longer body closes the connection.
const MAX_BODY: usize = 64 << 10;
/// The number of idle connections that are kept for each host, and for how long.
const IDLE: (usize, Duration) = (64, Duration::from_secs(30));

/// The one client of this dispatcher. All Subscriptions share its connections. It follows no redirect and uses no
/// proxy.
#[derive(Clone)]
pub(crate) struct Sender {
    client: Client<Dial, Full<Bytes>>,
}

impl Sender {
    pub(crate) fn new(dns: &DnsSettings, egress: EgressPolicy) -> anyhow::Result<Self> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE.0)
            .pool_idle_timeout(IDLE.1)
            .build(Dial::new(Guard::new(dns, egress)?)?);
        Ok(Self { client })
    }

    /// Sends the request and reads as much of the response as needed, all within `timeout`. The status decides: a 2xx
    /// counts as received even if its body then breaks off, takes too long or is too large; only the connection is
    /// closed. `ages` is called once the attempt is no longer young.
    pub(crate) fn send(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
        clock: &Clock,
        ages: impl FnOnce(),
    ) -> impl Future<Output = Outcome> {
        // Called outside the future below, which would otherwise keep room for the request until its end.
        let response = self.client.request(request);
        async move {
            let mut outcome = Outcome::without_response(OutcomeKind::TimedOut);
            let start = Instant::now();
            {
                // Only one timer runs at a time, because there are many attempts.
                let mut exchange = pin!(exchange(response, clock, &mut outcome));
                if timeout_at(start + timeout.min(YOUNG), &mut exchange).await.is_err() {
                    ages();
                    let _ = timeout_at(start + timeout, exchange).await;
                }
            }
            outcome
        }
    }
}

async fn exchange(response: ResponseFuture, clock: &Clock, outcome: &mut Outcome) {
    match response.await {
        Ok(response) => {
            let retry_after = response.headers().get(header::RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| parse_retry_after(value.to_str().ok()?, clock.now()));
            *outcome = Outcome::response(response.status().as_u16(), retry_after);
            drain(response.into_body()).await;
        }
        Err(error) => *outcome = Outcome::without_response(classify(&error)),
    }
}

async fn drain(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_BODY {
            return;
        }
    }
}

fn classify(error: &SendError) -> OutcomeKind {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<Refusal>() {
            return OutcomeKind::Blocked;
        }
        if is_tls(error) {
            return OutcomeKind::TlsFailed;
        }
        if is_timeout(error) {
            return OutcomeKind::TimedOut;
        }
        cause = error.source();
    }
    OutcomeKind::Unreachable
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    error.is::<Elapsed>() || io.is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut)
}

/// Whether the error comes from TLS. An I/O error hides the error that it wraps from `source`, and the TLS connector
/// wraps it twice.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|inner| is_tls(inner))
}

#[cfg(test)]
mod tests;
