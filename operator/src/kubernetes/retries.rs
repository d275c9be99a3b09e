//! How often a request is sent again that the API server had no time for. Few times, and soon: what is still refused then
//! is shown, and is tried again with the rest of the work.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use kube::client::Body;
use kube::client::retry::{InvalidBackoff, RetryPolicy};
use tokio::time::Sleep;
use tower::BoxError;
use tower::buffer::BufferLayer;
use tower::layer::util::Stack;
use tower::retry::{Policy, RetryLayer};

use crate::kubernetes::limit::LimitLayer;

/// How many times a request is sent again.
const MOST: u32 = 2;
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(1);
/// How many requests may be on their way to the limit, which holds none up.
const BUFFERED: usize = 1024;

/// A limit, and retries around it, so that each of them takes a turn.
type Retried = Stack<LimitLayer, Stack<BufferLayer<Request<Body>>, RetryLayer<Retries>>>;

/// Returns what sends requests again, and each of them through the limit.
pub(super) fn around(limit: LimitLayer) -> Result<Retried, InvalidBackoff> {
    let retries = Retries(RetryPolicy::new(SHORTEST, LONGEST, MOST, false)?);
    // A service that is called again has to be cloned, and the client's own can't be.
    Ok(Stack::new(limit, Stack::new(BufferLayer::new(BUFFERED), RetryLayer::new(retries))))
}

/// Sends a request again if the API server has too much to do (429), or is about to start or end (503).
#[derive(Clone)]
pub(super) struct Retries(RetryPolicy);

impl<B> Policy<Request<Body>, Response<B>, BoxError> for Retries {
    type Future = Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut Result<Response<B>, BoxError>,
    ) -> Option<Self::Future> {
        // The API server has had its minute for the request.
        let took_long = result.as_ref().is_ok_and(|answer| answer.status() == StatusCode::GATEWAY_TIMEOUT);
        if took_long { None } else { self.0.retry(request, result) }
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Policy::<Request<Body>, Response<B>, BoxError>::clone_request(&mut self.0, request)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};
    use std::task::{Context, Poll};

    use tokio::time::Instant;
    use tower::{Layer, Service, ServiceExt};

    use super::*;
    use crate::kubernetes::limit::{RequestLimits, Requests};

    /// Gives this answer to everything.
    struct Always(StatusCode);

    impl Service<Request<Body>> for Always {
        type Response = Response<()>;
        type Error = BoxError;
        type Future = Ready<Result<Response<()>, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let mut answer = Response::new(());
            *answer.status_mut() = self.0;
            answer.headers_mut().insert("retry-after", http::HeaderValue::from_static("60"));
            ready(Ok(answer))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_server_is_asked_again_twice_and_each_time_in_turn() {
        for (code, want) in [(200, 1), (404, 1), (422, 1), (429, 3), (500, 1), (503, 3), (504, 1)] {
            let code = StatusCode::from_u16(code).unwrap();
            let requests = Requests::default();
            let layers = around(LimitLayer::new(RequestLimits::default(), requests.clone())).unwrap();
            let start = Instant::now();
            let request = Request::get("/api/v1/namespaces").body(Body::empty()).unwrap();
            let answer = layers.layer(Always(code)).oneshot(request).await.unwrap();
            assert_eq!((answer.status(), requests.sent.get()), (code, want), "{code}");
            assert!(start.elapsed() <= LONGEST * MOST, "{code}: whatever the server says");
        }
    }
}
