//! R1: a bare loop that signs and sends, without a queue.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use hookwright_core::delivery_id::DeliveryKey;
use hookwright_core::ids::SubscriptionUid;
use hookwright_core::signature::{SigningKey, secret_text, signature_header};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::event;

/// Signs and sends events that are made up beforehand.
#[derive(Debug, clap::Args)]
pub(crate) struct BareArguments {
    #[arg(long)]
    pub(crate) url: String,
    /// The number of the first event.
    #[arg(long)]
    pub(crate) first: u64,
    #[arg(long)]
    pub(crate) events: u64,
    /// Bytes of each.
    #[arg(long)]
    pub(crate) size: usize,
    #[arg(long)]
    pub(crate) in_flight: usize,
}

struct Work {
    events: Mutex<VecDeque<(u64, Bytes)>>,
    client: Client,
    key: SigningKey,
    subscription: SubscriptionUid,
    uri: Uri,
}

/// Sends all, then waits to be ended.
pub(crate) async fn bare(arguments: BareArguments) -> Result<()> {
    let numbers = arguments.first..arguments.first + arguments.events;
    let work = Arc::new(Work {
        events: Mutex::new(numbers.map(|number| (number, event::write(number, arguments.size))).collect()),
        client: Client::new()?,
        key: SigningKey::parse(&secret_text(&[7; 32]))?,
        subscription: "00000000-0000-0000-0000-000000000000".to_owned().try_into()?,
        uri: arguments.url.parse()?,
    });
    let mut senders = JoinSet::new();
    for _ in 0..arguments.in_flight {
        senders.spawn(Arc::clone(&work).send_all());
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    std::future::pending().await
}

impl Work {
    async fn send_all(self: Arc<Self>) -> Result<()> {
        let next = || self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some((number, body)) = next() {
            self.send(number, body).await?;
        }
        Ok(())
    }

    /// The webhook that a dispatcher sends, header for header.
    async fn send(&self, number: u64, body: Bytes) -> Result<()> {
        let now = jiff::Timestamp::now();
        let key = DeliveryKey {
            subscription: &self.subscription,
            stream: "bench_orders",
            stream_created: jiff::Timestamp::UNIX_EPOCH,
            sequence: number,
        };
        let id = key.id();
        let signature = signature_header(std::slice::from_ref(&self.key), id.as_str(), now.as_second(), &body);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(&self.uri);
        let headers = request.headers_mut();
        headers.reserve(16);
        headers.insert("user-agent", HeaderValue::from_static("hookwright-bench"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
        headers.insert("ce-id", HeaderValue::try_from(format!("bench_orders:{number}"))?);
        headers.insert("ce-type", HeaderValue::from_static("drain"));
        headers.insert("ce-source", HeaderValue::from_static("/namespaces/bench/producers/orders"));
        headers.insert("ce-time", HeaderValue::try_from(now.to_string())?);
        headers.insert("webhook-id", HeaderValue::try_from(id.as_str())?);
        headers.insert("webhook-timestamp", HeaderValue::from(now.as_second()));
        headers.insert("webhook-signature", HeaderValue::try_from(signature)?);
        self.client.exchange(request).await.map(drop)
    }
}
