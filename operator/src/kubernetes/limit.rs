//! How many requests the operator sends to the API server. The API server has limits too (priority and fairness), but
//! what one client sends at once keeps others waiting there first.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Uri};
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use tower::{Layer, Service};

use crate::cache::pace::Pace;

/// How many requests the API server gets from the operator.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RequestLimits {
    /// How many in a second.
    pub qps: NonZeroU32,
    /// How many at once, after a pause.
    pub burst: NonZeroU32,
}

impl Default for RequestLimits {
    fn default() -> Self {
        const QPS: NonZeroU32 = NonZeroU32::new(1000).expect("it is above 0");
        const BURST: NonZeroU32 = NonZeroU32::new(1000).expect("it is above 0");
        Self { qps: QPS, burst: BURST }
    }
}

/// What was sent to the API server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests {
    pub(crate) sent: Counter,
    /// How many of them have waited for their turn.
    pub(crate) delayed: Counter,
}

/// Lets requests wait for their turn, first come, first served. A watch, which begins seldom and on which all else
/// depends, waits for none.
pub(crate) struct LimitLayer {
    pace: Arc<Pace>,
    requests: Requests,
}

impl LimitLayer {
    pub(crate) fn new(limits: RequestLimits, requests: Requests) -> Self {
        Self { pace: Arc::new(Pace::with_burst(limits.qps.get(), limits.burst.get())), requests }
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, pace: Arc::clone(&self.pace), requests: self.requests.clone() }
    }
}

/// What [`LimitLayer`] makes of a service. Its answers do nothing before they are polled.
pub(crate) struct Limited<S> {
    inner: S,
    pace: Arc<Pace>,
    requests: Requests,
}

impl<S, B> Service<Request<B>> for Limited<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let waits = !is_watch(request.uri());
        let (pace, requests) = (Arc::clone(&self.pace), self.requests.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            if waits && pace.turn().await {
                requests.delayed.inc();
            }
            requests.sent.inc();
            answer.await
        })
    }
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    /// Answers when it was asked.
    struct Clock;

    impl Service<Request<()>> for Clock {
        type Response = Instant;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Instant, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            Box::pin(async { Ok(Instant::now()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_their_turn_and_watches_for_none() {
        let number = |number| NonZeroU32::new(number).unwrap();
        let (limits, requests) = (RequestLimits { qps: number(10), burst: number(5) }, Requests::default());
        let mut service = LimitLayer::new(limits, requests.clone()).layer(Clock);
        let start = Instant::now();
        let mut ask = |uri: &'static str| service.call(Request::get(uri).body(()).unwrap());
        let flood: Vec<_> = (0..25).map(|_| ask("/api/v1/namespaces/a/secrets/b")).collect();
        let watch = ask("/api/v1/namespaces?&watch=true&resourceVersion=7");
        let flood = tokio::spawn(futures::future::join_all(flood));
        tokio::task::yield_now().await;
        assert_eq!(watch.await.unwrap(), start, "it comes last, and waits for none");
        let asked: Vec<Duration> = flood.await.unwrap().into_iter().map(|at| at.unwrap() - start).collect();
        assert!(asked[..5].iter().all(Duration::is_zero), "{asked:?}");
        let apart = |pair: &[Duration]| (pair[1] - pair[0]).as_millis().abs_diff(100) <= 1;
        assert!(asked[4..].windows(2).all(apart), "{asked:?}");
        assert_eq!((requests.sent.get(), requests.delayed.get()), (26, 20));
    }

    #[test]
    fn a_watch_is_known_by_its_query() {
        for (uri, want) in [
            ("/api/v1/namespaces?watch=true", true),
            ("/api/v1/namespaces?&watch=true&timeoutSeconds=290", true),
            ("/api/v1/namespaces?limit=500", false),
            ("/api/v1/namespaces/watch=true", false),
            ("/api/v1/namespaces?labelSelector=watch%3Dtrue", false),
        ] {
            assert_eq!(is_watch(&uri.parse().unwrap()), want, "{uri}");
        }
    }
}
