//! An HTTP endpoint that records requests and answers as a test says.

mod answer;
mod server;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use answer::{Answer, Gate};

/// A request that arrived.
#[derive(Debug)]
pub struct Received {
    /// When the body was complete, by the monotonic clock.
    pub at: Instant,
    /// When the body was complete, by the wall clock.
    pub time: SystemTime,
    /// The request's position among the requests to its path, from 0.
    pub nth: usize,
    /// The method.
    pub method: Method,
    /// The path, without a query.
    pub path: String,
    /// The query, if any.
    pub query: Option<String>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The status of the answer; `None` if the request was left hanging or its connection was closed.
    pub answered: Option<u16>,
}

impl Received {
    /// A header's value; empty if the header is absent or is not text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The value of the header `webhook-id`.
    pub fn webhook_id(&self) -> &str {
        self.header("webhook-id")
    }

    /// Whether the answer was a success.
    pub fn succeeded(&self) -> bool {
        self.answered.is_some_and(|status| (200..300).contains(&status))
    }
}

/// Decides an answer from the request and its position among those to its path.
type Script = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

#[derive(Default)]
struct Paths {
    scripts: HashMap<String, Script>,
    received: HashMap<String, Vec<Arc<Received>>>,
}

struct State {
    paths: Mutex<Paths>,
    /// The numbers of connections accepted and requests recorded so far.
    counts: watch::Sender<(usize, usize)>,
}

impl State {
    fn paths(&self) -> MutexGuard<'_, Paths> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An HTTP/1.1 server on a free port of 127.0.0.1. Each path has its own record and its own way to answer, which is 200
/// by default.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts a receiver on a free port.
    pub async fn start() -> Result<Self> {
        Self::listen("127.0.0.1:0").await
    }

    /// Starts a receiver on a given address.
    pub async fn listen(address: &str) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { paths: Mutex::default(), counts: watch::Sender::new((0, 0)) });
        let task = tokio::spawn(server::serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, task })
    }

    /// The address on which the receiver listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path, which starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers requests to `path` with `answer` from now on.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.script(path, move |_| answer.clone());
    }

    /// Answers the first `n` requests to `path` with `answer`, then with 200.
    pub fn fail_first(&self, path: &str, n: usize, answer: Answer) {
        self.script(path, move |request| if request.nth < n { answer.clone() } else { Answer::status(200) });
    }

    /// Answers each request to `path` with `answer` at this probability (0 to 1), otherwise with 200.
    pub fn fail_sometimes(&self, path: &str, probability: f64, answer: Answer) {
        self.script(
            path,
            move |_| if rand::random::<f64>() < probability { answer.clone() } else { Answer::status(200) },
        );
    }

    /// Answers requests to `path` as `script` decides.
    pub fn script(&self, path: &str, script: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        self.state.paths().scripts.insert(path.to_owned(), Arc::new(script));
    }

    /// The requests to a path so far, in order of arrival.
    pub fn requests(&self, path: &str) -> Vec<Arc<Received>> {
        self.state.paths().received.get(path).cloned().unwrap_or_default()
    }

    /// The number of requests to a path so far.
    pub fn count(&self, path: &str) -> usize {
        self.state.paths().received.get(path).map_or(0, Vec::len)
    }

    /// The number of connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.counts.borrow().0
    }

    /// Waits until a path has had at least `n` requests, and returns them.
    pub async fn wait_count(&self, path: &str, n: usize, deadline: Duration) -> Result<Vec<Arc<Received>>> {
        let mut counts = self.state.counts.subscribe();
        let reached = counts.wait_for(|_| self.count(path) >= n);
        if tokio::time::timeout(deadline, reached).await.is_err() {
            let seen = self.count(path);
            return Err(anyhow!("waited {deadline:?} for {n} requests to {path}; last seen: {seen}"));
        }
        Ok(self.requests(path))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}
