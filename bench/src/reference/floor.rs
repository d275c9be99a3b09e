//! R2, the floor of any design on JetStream: it pulls, sends and acks, and does nothing else. It has no signature, no
//! retry and no isolation.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_nats::jetstream::{self, consumer::PullConsumer};
use futures::StreamExt;
use http::{Request, Uri};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::Client;

/// Pulls from consumers, sends to their endpoints, acks.
#[derive(Debug, clap::Args)]
pub(crate) struct FloorArguments {
    #[arg(long)]
    pub(crate) nats: String,
    #[arg(long)]
    pub(crate) user: String,
    #[arg(long)]
    pub(crate) password_file: PathBuf,
    #[arg(long)]
    pub(crate) inbox_prefix: String,
    #[arg(long)]
    pub(crate) stream: String,
    /// The name of a consumer; one for each URL.
    #[arg(long)]
    pub(crate) consumer: Vec<String>,
    #[arg(long)]
    pub(crate) url: Vec<String>,
    /// The most requests of each consumer under way at the same time.
    #[arg(long)]
    pub(crate) in_flight: usize,
    /// How many events each consumer asks for at a time.
    #[arg(long)]
    pub(crate) batch: usize,
}

/// Runs until it is killed.
pub(crate) async fn floor(arguments: FloorArguments) -> Result<()> {
    let password = std::fs::read_to_string(&arguments.password_file).context("the password file")?;
    let connection = async_nats::ConnectOptions::with_user_and_password(arguments.user, password)
        .custom_inbox_prefix(arguments.inbox_prefix)
        .connect(arguments.nats)
        .await?;
    let context = jetstream::new(connection);
    let client = Client::new()?;
    let mut readers = JoinSet::new();
    for (name, url) in arguments.consumer.iter().zip(arguments.url) {
        let consumer: PullConsumer = context.get_consumer_from_stream(name, &arguments.stream).await?;
        readers.spawn(read(consumer, client.clone(), url, arguments.in_flight, arguments.batch));
    }
    while let Some(ended) = readers.join_next().await {
        ended??;
    }
    anyhow::bail!("nothing to read")
}

async fn read(consumer: PullConsumer, client: Client, url: String, in_flight: usize, batch: usize) -> Result<()> {
    let permits = Arc::new(Semaphore::new(in_flight));
    let uri: Uri = url.parse()?;
    let mut messages = consumer.stream().max_messages_per_batch(batch).messages().await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let (client, uri) = (client.clone(), uri.clone());
        tokio::spawn(async move {
            // An event that fails isn't acked. It comes again, and the run reports that it was not exact.
            if send(&client, uri, message.payload.clone()).await.is_ok() {
                let _ = message.ack().await;
            }
            drop(permit);
        });
    }
    Ok(())
}

async fn send(client: &Client, uri: Uri, body: bytes::Bytes) -> Result<()> {
    let request = Request::post(uri).header("content-type", "application/json").body(body.into())?;
    client.exchange(request).await.map(drop)
}
