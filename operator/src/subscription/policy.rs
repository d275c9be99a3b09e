//! The effective delivery policy: what is given, and for the rest the defaults that the fields' documentation names.

use std::time::Duration;

use hookwright_core::policy::{
    self, Backoff, DEFAULT_MAX_ATTEMPTS, DeadLetterPolicy, DeliveryPolicy, Millis, RetryPolicy,
};
use hookwright_crds as crds;

/// A field of `delivery` that can't be read; the API server admits none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("delivery.{field}: {text:?} can't be used as a duration")]
    Duration { field: &'static str, text: String },
    #[error("delivery.{field}: {number} is out of range")]
    Number { field: &'static str, number: i32 },
    #[error("delivery.retry.backoff.{field} is required with type {kind}")]
    Missing { field: &'static str, kind: &'static str },
}

pub(crate) fn effective(delivery: Option<&crds::Delivery>) -> Result<DeliveryPolicy, PolicyError> {
    let default = DeliveryPolicy::default();
    let Some(delivery) = delivery else { return Ok(default) };
    Ok(DeliveryPolicy {
        timeout: given("timeout", delivery.timeout.as_ref())?.unwrap_or(default.timeout),
        retry: delivery.retry.as_ref().map(retry).transpose()?.unwrap_or(default.retry),
        dead_letter: match delivery.dead_letter.as_ref().map(|dead_letter| dead_letter.policy) {
            None => default.dead_letter,
            Some(crds::DeadLetterPolicy::Keep) => DeadLetterPolicy::Keep,
            Some(crds::DeadLetterPolicy::Discard) => DeadLetterPolicy::Discard,
        },
    })
}

fn retry(retry: &crds::Retry) -> Result<RetryPolicy, PolicyError> {
    let backoff = match &retry.backoff {
        Some(given) => backoff(given)?,
        None => RetryPolicy::default().backoff,
    };
    let max_duration = given("retry.maxDuration", retry.max_duration.as_ref())?;
    let max_attempts = match (retry.max_attempts, max_duration) {
        (Some(attempts), _) => Some(positive("retry.maxAttempts", attempts)?),
        (None, Some(_)) => None,
        (None, None) => Some(match &backoff {
            Backoff::Schedule { delays } => u32::try_from(delays.len()).unwrap_or(u32::MAX).saturating_add(1),
            Backoff::Fixed { .. } | Backoff::Exponential { .. } => DEFAULT_MAX_ATTEMPTS,
        }),
    };
    let jitter = retry.jitter_percent.unwrap_or(i32::from(policy::DEFAULT_JITTER_PERCENT));
    let out_of_range = PolicyError::Number { field: "retry.jitterPercent", number: jitter };
    let jitter_percent = u8::try_from(jitter).ok().filter(|percent| *percent <= 100).ok_or(out_of_range)?;
    Ok(RetryPolicy { max_attempts, max_duration, backoff, jitter_percent })
}

fn backoff(backoff: &crds::Backoff) -> Result<Backoff, PolicyError> {
    let delay = |kind| {
        given("retry.backoff.delay", backoff.delay.as_ref())?.ok_or(PolicyError::Missing { field: "delay", kind })
    };
    Ok(match backoff.type_ {
        crds::BackoffType::Fixed => Backoff::Fixed { delay: delay("Fixed")? },
        crds::BackoffType::Exponential => {
            let delay = delay("Exponential")?;
            let factor = backoff.factor.map(|factor| positive("retry.backoff.factor", factor)).transpose()?;
            let max_delay = given("retry.backoff.maxDelay", backoff.max_delay.as_ref())?;
            Backoff::Exponential {
                delay,
                factor: factor.unwrap_or(policy::DEFAULT_FACTOR),
                max_delay: max_delay.unwrap_or_else(|| policy::DEFAULT_MAX_DELAY.max(delay)),
            }
        }
        crds::BackoffType::Schedule => {
            let entries = backoff.schedule.as_deref().unwrap_or_default();
            if entries.is_empty() {
                return Err(PolicyError::Missing { field: "schedule", kind: "Schedule" });
            }
            let delays = entries.iter().map(|entry| duration("retry.backoff.schedule", entry));
            Backoff::Schedule { delays: delays.collect::<Result<_, _>>()? }
        }
    })
}

fn positive(field: &'static str, number: i32) -> Result<u32, PolicyError> {
    u32::try_from(number).ok().filter(|n| *n > 0).ok_or(PolicyError::Number { field, number })
}

fn given(field: &'static str, value: Option<&crds::Duration>) -> Result<Option<Millis>, PolicyError> {
    value.map(|value| duration(field, value)).transpose()
}

fn duration(field: &'static str, value: &crds::Duration) -> Result<Millis, PolicyError> {
    let read = value.to_std().filter(|duration| *duration > Duration::ZERO).map(Millis::from);
    read.ok_or_else(|| PolicyError::Duration { field, text: value.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(delivery: Value) -> DeliveryPolicy {
        effective(Some(&serde_json::from_value(delivery).unwrap())).unwrap()
    }

    #[test]
    fn what_is_not_given_is_the_documented_default() {
        assert_eq!(effective(None).unwrap(), DeliveryPolicy::default());
        assert_eq!(read(json!({})), DeliveryPolicy::default());
        assert_eq!(read(json!({ "retry": {} })), DeliveryPolicy::default());
        assert_eq!(read(json!({ "deadLetter": { "policy": "Discard" } })).dead_letter, DeadLetterPolicy::Discard);
        assert_eq!(read(json!({ "timeout": "1500ms" })).timeout, Millis(1500));
    }

    #[test]
    fn limits_follow_from_what_is_given() {
        let fixed = json!({ "type": "Fixed", "delay": "1s" });
        let schedule = json!({ "type": "Schedule", "schedule": ["1s", "2s"] });
        for (retry, attempts, seconds) in [
            (json!({ "backoff": fixed }), Some(10), None),
            (json!({ "backoff": schedule }), Some(3), None),
            (json!({ "backoff": schedule, "maxAttempts": 7 }), Some(7), None),
            (json!({ "backoff": schedule, "maxDuration": "1m" }), None, Some(60)),
            (json!({ "backoff": fixed, "maxAttempts": 2, "maxDuration": "1m" }), Some(2), Some(60)),
            (json!({ "maxDuration": "1h" }), None, Some(3600)),
        ] {
            let got = read(json!({ "retry": retry })).retry;
            assert_eq!((got.max_attempts, got.max_duration), (attempts, seconds.map(Millis::seconds)), "{retry}");
        }
    }

    #[test]
    fn exponential_defaults() {
        let backoff = |spec: Value| read(json!({ "retry": { "backoff": spec } })).retry.backoff;
        let day = Millis::seconds(24 * 3600);
        let delay = Millis::seconds(2);
        let want = Backoff::Exponential { delay, factor: 2, max_delay: day };
        assert_eq!(backoff(json!({ "type": "Exponential", "delay": "2s" })), want);
        let delay = Millis::seconds(48 * 3600);
        let want = Backoff::Exponential { delay, factor: 3, max_delay: delay };
        assert_eq!(backoff(json!({ "type": "Exponential", "delay": "48h", "factor": 3 })), want);
    }

    #[test]
    fn what_the_api_server_would_not_admit() {
        for retry in [
            json!({ "jitterPercent": 101 }),
            json!({ "jitterPercent": -1 }),
            json!({ "maxAttempts": 0 }),
            json!({ "maxDuration": "0s" }),
            json!({ "backoff": { "type": "Fixed" } }),
            json!({ "backoff": { "type": "Schedule", "schedule": [] } }),
            json!({ "backoff": { "type": "Exponential", "delay": "1s", "factor": -2 } }),
        ] {
            let delivery = serde_json::from_value(json!({ "retry": retry })).unwrap();
            assert!(effective(Some(&delivery)).is_err(), "{retry}");
        }
    }
}
