//! R1: a bare loop that signs and sends, without a queue.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use hookwright_core::nats::delivery_id::{DeliveryId, DeliveryKey};
use hookwright_core::sign::hmac::{SigningKey, secret_text, signature_header};
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::event;

/// Signs and sends events that are prepared in advance.
#[derive(Debug, clap::Args)]
pub(crate) struct BareArguments {
    #[arg(long)]
    pub(crate) url: String,
    /// The number of the first event.
    #[arg(long)]
    pub(crate) first: u64,
    #[arg(long)]
    pub(crate) events: u64,
    /// The bytes of each event.
    #[arg(long)]
    pub(crate) size: usize,
    #[arg(long)]
    pub(crate) in_flight: usize,
}

/// A webhook without its signature.
struct Prepared {
    body: Bytes,
    id: DeliveryId,
    ce_id: HeaderValue,
    ce_time: HeaderValue,
}

struct Work {
    webhooks: Mutex<VecDeque<Prepared>>,
    client: Client,
    key: SigningKey,
    uri: Uri,
}

/// Sends all webhooks, then waits to be killed.
pub(crate) async fn bare(arguments: BareArguments) -> Result<()> {
    let numbers = arguments.first..arguments.first + arguments.events;
    let work = Arc::new(Work {
        webhooks: Mutex::new(numbers.map(|number| prepare(number, arguments.size)).collect::<Result<_>>()?),
        client: Client::new()?,
        key: SigningKey::parse(&secret_text(&[7; 32]))?,
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

fn prepare(number: u64, size: usize) -> Result<Prepared> {
    let subscription = "00000000-0000-0000-0000-000000000000".to_owned().try_into()?;
    let key = DeliveryKey {
        subscription: &subscription,
        stream: "bench_orders",
        stream_created: jiff::Timestamp::UNIX_EPOCH,
        sequence: number,
        stored: jiff::Timestamp::UNIX_EPOCH,
    };
    Ok(Prepared {
        body: event::write(number, size),
        id: key.id(),
        ce_id: HeaderValue::try_from(format!("bench_orders:{number}"))?,
        ce_time: HeaderValue::try_from(jiff::Timestamp::now().to_string())?,
    })
}

const CE_SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");
const CE_ID: HeaderName = HeaderName::from_static("ce-id");
const CE_TYPE: HeaderName = HeaderName::from_static("ce-type");
const CE_SOURCE: HeaderName = HeaderName::from_static("ce-source");
const CE_TIME: HeaderName = HeaderName::from_static("ce-time");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

impl Work {
    async fn send_all(self: Arc<Self>) -> Result<()> {
        let next = || self.webhooks.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some(webhook) = next() {
            self.send(webhook).await?;
        }
        Ok(())
    }

    /// Sends the same webhook as a dispatcher, header for header.
    async fn send(&self, webhook: Prepared) -> Result<()> {
        let Prepared { body, id, ce_id, ce_time } = webhook;
        let now = jiff::Timestamp::now().as_second();
        let signature = signature_header(std::slice::from_ref(&self.key), id.as_str(), now, &body);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(&self.uri);
        let headers = request.headers_mut();
        headers.reserve(16);
        headers.insert(header::USER_AGENT, HeaderValue::from_static("hookwright-bench"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CE_SPECVERSION, HeaderValue::from_static("1.0"));
        headers.insert(CE_ID, ce_id);
        headers.insert(CE_TYPE, HeaderValue::from_static("drain"));
        headers.insert(CE_SOURCE, HeaderValue::from_static("/namespaces/bench/producers/orders"));
        headers.insert(CE_TIME, ce_time);
        headers.insert(WEBHOOK_ID, HeaderValue::try_from(id.as_str())?);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(now));
        headers.insert(WEBHOOK_SIGNATURE, HeaderValue::try_from(signature)?);
        self.client.exchange(request).await.map(drop)
    }
}
