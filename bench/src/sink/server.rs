//! The server of the sink.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{Behaviour, Receipt};
use crate::event;

#[derive(Default)]
struct Received {
    receipts: Vec<Receipt>,
    /// The endpoint and the event of each webhook that was accepted.
    accepted: HashSet<(u32, u64)>,
}

#[derive(Default)]
struct State {
    received: Mutex<Received>,
    /// The number of different webhooks that were accepted.
    accepted: AtomicUsize,
    gate_open: AtomicBool,
}

/// Serves for as long as the process runs, on a port of its own, which it prints.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    let state = Arc::new(State::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &state));
            // An error here only means that the client ended the connection.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, state: &State) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if let Some((endpoint, behaviour)) = endpoint(path) {
        // A request counts when it has arrived in full; a request that breaks off never arrived.
        let Ok(body) = body.collect().await else { return Ok(status(StatusCode::BAD_REQUEST)) };
        return Ok(status(receive(state, endpoint, behaviour, &body.to_bytes()).await));
    }
    Ok(match (head.method, path) {
        (Method::GET, "/accepted") => Response::new(state.accepted.load(Ordering::Acquire).to_string().into()),
        (Method::POST, "/receipts") => Response::new(take(state).into()),
        (Method::POST, "/gate/open") => gate(state, true),
        (Method::POST, "/gate/closed") => gate(state, false),
        _ => status(StatusCode::NOT_FOUND),
    })
}

fn endpoint(path: &str) -> Option<(u32, Behaviour)> {
    let (number, behaviour) = path.strip_prefix('/')?.split_once('/')?;
    Some((number.parse().ok()?, behaviour.parse().ok()?))
}

async fn receive(state: &State, endpoint: u32, behaviour: Behaviour, body: &[u8]) -> StatusCode {
    let at = event::now();
    let said = event::read(body);
    let accepted = match behaviour {
        Behaviour::Ok | Behaviour::Slow(_) => true,
        Behaviour::Hang | Behaviour::Refusing(_) => false,
        Behaviour::Failing(percent) => rand::random_range(0..100) >= percent,
        Behaviour::Gate => state.gate_open.load(Ordering::Acquire),
    };
    let (number, published) = said.map_or((0, 0), |said| (said.number, said.at));
    let receipt = Receipt { endpoint, number, published, at, accepted, whole: said.is_some() };
    note(state, receipt);
    match behaviour {
        Behaviour::Slow(millis) | Behaviour::Refusing(millis) => {
            tokio::time::sleep(Duration::from_millis(millis)).await
        }
        Behaviour::Hang => std::future::pending().await,
        _ => {}
    }
    if accepted { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn lock(state: &State) -> MutexGuard<'_, Received> {
    state.received.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(state: &State, receipt: Receipt) {
    let mut received = lock(state);
    received.receipts.push(receipt);
    if receipt.accepted && received.accepted.insert((receipt.endpoint, receipt.number)) {
        state.accepted.fetch_add(1, Ordering::AcqRel);
    }
}

/// Returns the receipts and starts anew.
fn take(state: &State) -> Vec<u8> {
    let mut received = lock(state);
    let Received { receipts, .. } = std::mem::take(&mut *received);
    state.accepted.store(0, Ordering::Release);
    drop(received);
    let mut bytes = Vec::with_capacity(receipts.len() * Receipt::SIZE);
    receipts.iter().for_each(|receipt| receipt.write(&mut bytes));
    bytes
}

fn gate(state: &State, open: bool) -> Response<Full<Bytes>> {
    state.gate_open.store(open, Ordering::Release);
    status(StatusCode::OK)
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
