//! The effective delivery policy: the fields that are given, and for the others the documented defaults.

use std::time::Duration;

use hookwright_core::delivery::policy::{
    self, Backoff, DEFAULT_MAX_ATTEMPTS, DeadLetterPolicy, DeliveryPolicy, Millis, RetryPolicy,
};
use hookwright_crds as crds;

/// A field of `delivery` can't be used. The API server admits no such field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("delivery.{field}: {text:?} can't be used as a duration")]
    Duration { field: &'static str, text: String },
    #[error("delivery.{field}: {number} is out of range")]
    Number { field: &'static str, number: i32 },
    #[error("delivery.retry.backoff.{field} is required with type {kind}")]
    Missing { field: &'static str, kind: &'static str },
}

/// Returns the effective policy. Each field of the Subscription's `delivery` counts before that of its Producer.
pub(crate) fn effective(
    own: Option<&crds::Delivery>,
    inherited: Option<&crds::Delivery>,
) -> Result<DeliveryPolicy, PolicyError> {
    let default = DeliveryPolicy::default();
    let both = || own.into_iter().chain(inherited);
    Ok(DeliveryPolicy {
        timeout: given("timeout", both().find_map(|delivery| delivery.timeout.as_ref()))?.unwrap_or(default.timeout),
        retry: both().find_map(|d| d.retry.as_ref()).map(retry).transpose()?.unwrap_or(default.retry),
        dead_letter: match both().find_map(|delivery| delivery.dead_letter.as_ref()).map(|d| d.policy) {
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
            _ => DEFAULT_MAX_ATTEMPTS,
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
    let max_delay = |delay: Millis| {
        let given = given("retry.backoff.maxDelay", backoff.max_delay.as_ref())?;
        Ok(given.unwrap_or_else(|| policy::DEFAULT_MAX_DELAY.max(delay)))
    };
    Ok(match backoff.type_ {
        crds::BackoffType::Fixed => Backoff::Fixed { delay: delay("Fixed")? },
        crds::BackoffType::Exponential => {
            let delay = delay("Exponential")?;
            let factor = backoff.factor.map(|factor| positive("retry.backoff.factor", factor)).transpose()?;
            let factor = factor.unwrap_or(policy::DEFAULT_FACTOR);
            Backoff::Exponential { delay, factor, max_delay: max_delay(delay)? }
        }
        crds::BackoffType::Linear => {
            let delay = delay("Linear")?;
            Backoff::Linear { delay, max_delay: max_delay(delay)? }
        }
        crds::BackoffType::Logarithmic => {
            let delay = delay("Logarithmic")?;
            Backoff::Logarithmic { delay, max_delay: max_delay(delay)? }
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

/// Returns a policy in the form of `spec.delivery`, with every field that applies.
pub(crate) fn shown(policy: &DeliveryPolicy) -> crds::Delivery {
    let retry = &policy.retry;
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    crds::Delivery {
        timeout: Some(text(policy.timeout)),
        retry: Some(crds::Retry {
            max_attempts: retry.max_attempts.map(number),
            max_duration: retry.max_duration.map(text),
            backoff: Some(shown_backoff(&retry.backoff)),
            jitter_percent: Some(i32::from(retry.jitter_percent)),
        }),
        dead_letter: Some(crds::DeadLetter {
            policy: match policy.dead_letter {
                DeadLetterPolicy::Keep => crds::DeadLetterPolicy::Keep,
                DeadLetterPolicy::Discard => crds::DeadLetterPolicy::Discard,
            },
        }),
    }
}

fn shown_backoff(backoff: &Backoff) -> crds::Backoff {
    let of = |type_| crds::Backoff { type_, delay: None, factor: None, max_delay: None, schedule: None };
    let growing = |type_, delay: &Millis, max_delay: &Millis| crds::Backoff {
        delay: Some(text(*delay)),
        max_delay: Some(text(*max_delay)),
        ..of(type_)
    };
    match backoff {
        Backoff::Fixed { delay } => crds::Backoff { delay: Some(text(*delay)), ..of(crds::BackoffType::Fixed) },
        Backoff::Exponential { delay, factor, max_delay } => crds::Backoff {
            factor: Some(i32::try_from(*factor).unwrap_or(i32::MAX)),
            ..growing(crds::BackoffType::Exponential, delay, max_delay)
        },
        Backoff::Linear { delay, max_delay } => growing(crds::BackoffType::Linear, delay, max_delay),
        Backoff::Logarithmic { delay, max_delay } => growing(crds::BackoffType::Logarithmic, delay, max_delay),
        Backoff::Schedule { delays } => {
            let schedule = delays.iter().copied().map(text).collect();
            crds::Backoff { schedule: Some(schedule), ..of(crds::BackoffType::Schedule) }
        }
    }
}

/// Returns the time in the usual form, such as `1h30m`.
fn text(Millis(millis): Millis) -> crds::Duration {
    let parts =
        [(millis / 3_600_000, "h"), (millis / 60_000 % 60, "m"), (millis / 1000 % 60, "s"), (millis % 1000, "ms")];
    let parts = parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}"));
    crds::Duration::new(parts.collect::<String>())
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
        effective(Some(&serde_json::from_value(delivery).unwrap()), None).unwrap()
    }

    #[test]
    fn what_is_not_given_is_the_documented_default() {
        assert_eq!(effective(None, None).unwrap(), DeliveryPolicy::default());
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
    fn linear_and_logarithmic_defaults() {
        let backoff = |spec: Value| read(json!({ "retry": { "backoff": spec } })).retry;
        let (delay, day) = (Millis::seconds(2), Millis::seconds(24 * 3600));
        let linear = backoff(json!({ "type": "Linear", "delay": "2s" }));
        assert_eq!((linear.backoff, linear.max_attempts), (Backoff::Linear { delay, max_delay: day }, Some(10)));
        let logarithmic = backoff(json!({ "type": "Logarithmic", "delay": "2s", "maxDelay": "9s" })).backoff;
        assert_eq!(logarithmic, Backoff::Logarithmic { delay, max_delay: Millis::seconds(9) });
    }

    #[test]
    fn each_field_is_the_subscriptions_or_else_the_producers() {
        let delivery = |value: Value| serde_json::from_value::<crds::Delivery>(value).unwrap();
        let fixed = |delay: &str| json!({ "backoff": { "type": "Fixed", "delay": delay } });
        let inherited = delivery(json!({
            "timeout": "3s", "retry": { "maxAttempts": 4, "jitterPercent": 1, "backoff": fixed("9s")["backoff"] },
            "deadLetter": { "policy": "Discard" },
        }));
        let read = |own: Value| effective(Some(&delivery(own)), Some(&inherited)).unwrap();
        let all = effective(None, Some(&inherited)).unwrap();
        assert_eq!(all, read(json!({})));
        assert_eq!((all.timeout, all.dead_letter), (Millis::seconds(3), DeadLetterPolicy::Discard));
        assert_eq!((all.retry.max_attempts, all.retry.jitter_percent), (Some(4), 1));
        let own = read(json!({ "timeout": "5s", "deadLetter": { "policy": "Keep" } }));
        assert_eq!((own.timeout, own.dead_letter), (Millis::seconds(5), DeadLetterPolicy::Keep));
        assert_eq!(own.retry, all.retry);
        let retry = read(json!({ "retry": fixed("1s") })).retry;
        assert_eq!((retry.max_attempts, retry.jitter_percent), (Some(10), 20), "retry counts as a whole");
    }

    #[test]
    fn what_is_shown_reads_as_the_same_policy() {
        for delivery in [
            json!({}),
            json!({ "timeout": "1500ms", "deadLetter": { "policy": "Discard" } }),
            json!({ "retry": { "maxDuration": "720h", "backoff": { "type": "Fixed", "delay": "1h1m1s1ms" } } }),
            json!({ "retry": { "maxAttempts": 2, "backoff": { "type": "Exponential", "delay": "90s", "factor": 3 } } }),
            json!({ "retry": { "jitterPercent": 0, "backoff": { "type": "Linear", "delay": "48h" } } }),
            json!({ "retry": { "backoff": { "type": "Logarithmic", "delay": "2s", "maxDelay": "1m" } } }),
        ] {
            let policy = read(delivery.clone());
            assert_eq!(effective(Some(&shown(&policy)), None).unwrap(), policy, "{delivery}");
        }
        let shown = serde_json::to_value(shown(&DeliveryPolicy::default())).unwrap();
        assert_eq!(shown["timeout"], "15s");
        assert_eq!(shown["retry"]["backoff"]["schedule"][2], "30m");
        assert_eq!((&shown["retry"]["maxAttempts"], &shown["deadLetter"]["policy"]), (&json!(10), &json!("Keep")));
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
            assert!(effective(Some(&delivery), None).is_err(), "{retry}");
        }
    }
}
