//! Publishes as an application does that waits for the server's acknowledgements, but not for one before the next
//! publish.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use tokio::time::{MissedTickBehavior, interval};

use super::{Lab, Topic};
use crate::event;

/// The most publishes without an acknowledgement at the same time.
const AT_ONCE: usize = 256;
/// The most bytes of these publishes: from 128 MiB on the server refuses more.
const BYTES_AT_ONCE: usize = 64 << 20;

impl Lab {
    /// Publishes events as fast as the server takes them. `kind` says the type of each. Returns the numbers of the
    /// events.
    pub(crate) async fn publish(
        &self,
        topic: &Topic,
        events: u64,
        size: usize,
        kind: impl Fn(u64) -> String,
    ) -> Result<Vec<u64>> {
        let publish = |number| self.publish_one(topic, kind(number), number, size);
        let at_once = (BYTES_AT_ONCE / size.max(1)).clamp(1, AT_ONCE);
        futures::stream::iter(self.numbers(events)).map(publish).buffer_unordered(at_once).try_collect().await
    }

    /// Publishes at a steady rate for a while. Returns the numbers of the events.
    pub(crate) async fn publish_steadily(
        &self,
        topic: &Topic,
        rate: u32,
        lasting: Duration,
        kind: impl Fn(u64) -> String,
    ) -> Result<Vec<u64>> {
        let mut ticks = interval(Duration::from_secs(1) / rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let events = u64::from(rate) * lasting.as_secs();
        let mut answers = FuturesUnordered::new();
        let mut published = Vec::new();
        let mut numbers = self.numbers(events);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let Some(number) = numbers.next() else { break };
                    answers.push(self.publish_one(topic, kind(number), number, event::SIZE));
                }
                Some(answer) = answers.next() => published.push(answer?),
            }
        }
        published.extend(answers.try_collect::<Vec<_>>().await?);
        Ok(published)
    }

    async fn publish_one(&self, topic: &Topic, kind: String, number: u64, size: usize) -> Result<u64> {
        let (subject, body) = (topic.subject(&kind), event::write(number, size));
        let answer = if topic.headers.is_empty() {
            self.publisher.publish(subject, body).await
        } else {
            self.publisher.publish_with_headers(subject, topic.headers.clone(), body).await
        };
        let answer = answer.context("publish")?;
        answer.await.context("the answer to a publish")?;
        Ok(number)
    }
}
