//! The HTTP side of a receiver.

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::answer::{Answer, Kind};
use super::{Received, State};

/// Accepts connections until the future is dropped, which ends the connections, too.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // An error means that a connection ended before it was accepted.
                if let Ok((stream, _)) = accepted {
                    state.counts.send_modify(|(connections, _)| *connections += 1);
                    connections.spawn(connection(stream, Arc::clone(&state)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(|request| handle(request, &state));
    // An error here only means that the connection has ended.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Answers a request. An error closes the connection without an answer.
async fn handle(request: Request<Incoming>, state: &State) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let answer = record(head, body, state);
    tokio::time::sleep(answer.delay).await;
    if let Some(mut gate) = answer.gate {
        // An error means that the gate was dropped.
        let _ = gate.wait_for(|open| *open).await;
    }
    match answer.kind {
        Kind::Hang => std::future::pending().await,
        Kind::Close => Err(io::Error::other("the script says so")),
        Kind::Reply { status, headers, body } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Full::from(body)).map_err(io::Error::other)
        }
    }
}

fn record(head: http::request::Parts, body: Bytes, state: &State) -> Answer {
    let answer = {
        let mut paths = state.paths();
        let path = head.uri.path().to_owned();
        let mut received = Received {
            at: Instant::now(),
            time: SystemTime::now(),
            nth: paths.received.get(&path).map_or(0, Vec::len),
            method: head.method,
            query: head.uri.query().map(ToOwned::to_owned),
            headers: head.headers,
            body,
            answered: None,
            path: path.clone(),
        };
        let answer = paths.scripts.get(&path).map_or_else(|| Answer::status(200), |script| script(&received));
        if let Kind::Reply { status, .. } = answer.kind {
            received.answered = Some(status);
        }
        paths.received.entry(path).or_default().push(Arc::new(received));
        answer
    };
    state.counts.send_modify(|(_, requests)| *requests += 1);
    answer
}
