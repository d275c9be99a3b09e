//! A name server whose names resolve as the egress guard has to fear.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

/// A name server.
pub(super) struct NameServer {
    pub(super) address: SocketAddr,
    task: AbortHandle,
}

/// The address that names may have, and one that they may not.
const ALLOWED: Ipv4Addr = Ipv4Addr::LOCALHOST;
const FORBIDDEN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The addresses of a name; `query` counts the queries. None: there is no such name.
fn addresses(name: &str, query: usize) -> Option<Vec<Ipv4Addr>> {
    match name {
        "right.test" => Some(vec![ALLOWED]),
        "forbidden.test" => Some(vec![FORBIDDEN]),
        "mixed.test" => Some(vec![ALLOWED, FORBIDDEN]),
        "rebinds.test" => Some(vec![if query.is_multiple_of(2) { ALLOWED } else { FORBIDDEN }]),
        _ => None,
    }
}

impl NameServer {
    pub(super) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut query, queries) = ([0; 512], AtomicUsize::new(0));
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let answer = answer(&query[..length], &queries);
                let _ = socket.send_to(&answer, from).await;
            }
        });
        Self { address, task: task.abort_handle() }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer to a query. It is not to be kept.
fn answer(query: &[u8], queries: &AtomicUsize) -> Vec<u8> {
    // The question follows the header of 12 bytes: labels, their end, the type and the class.
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] > 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + length]).to_lowercase());
        at += 1 + length;
    }
    let is_v4 = query[end - 3] == 1;
    let found = addresses(&labels.join("."), if is_v4 { queries.fetch_add(1, Ordering::SeqCst) } else { 0 });
    let code = if found.is_some() { 0x80 } else { 0x83 };
    let found = found.filter(|_| is_v4).unwrap_or_default();
    let mut answer = [&query[..2], &[0x81, code, 0, 1, 0, found.len() as u8, 0, 0, 0, 0]].concat();
    answer.extend_from_slice(&query[12..end]);
    for address in found {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    answer
}
