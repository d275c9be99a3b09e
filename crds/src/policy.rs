//! The effective delivery policy: the fields that are given, and the documented defaults for the others.

use hookwright_core::delivery::backoff::Backoff;
use hookwright_core::delivery::policy::{DEFAULT_JITTER_PERCENT, DeadLetterPolicy, DeliveryPolicy, RetryPolicy};

use crate::amounts::{PolicyError, given, or_zero, positive, text, text_or_zero};
use crate::{DeadLetter, Delivery, OnResume, Retry};

/// The policy that applies to a Subscription. Each field comes from the Subscription's `own` delivery, else from the
/// `inherited` one of its Producer, else from the default.
///
/// # Errors
/// If a field can't be read. The API server admits no such object.
pub fn effective(own: Option<&Delivery>, inherited: Option<&Delivery>) -> Result<DeliveryPolicy, PolicyError> {
    let default = DeliveryPolicy::default();
    let both = || own.into_iter().chain(inherited);
    Ok(DeliveryPolicy {
        timeout: given("timeout", both().find_map(|delivery| delivery.timeout.as_ref()))?.unwrap_or(default.timeout),
        retry: both().find_map(|d| d.retry.as_ref()).map(retry_policy).transpose()?.unwrap_or(default.retry),
        dead_letter: match both().find_map(|delivery| delivery.dead_letter.as_ref()).map(|d| d.policy) {
            None => default.dead_letter,
            Some(crate::DeadLetterPolicy::Keep) => DeadLetterPolicy::Keep,
            Some(crate::DeadLetterPolicy::Discard) => DeadLetterPolicy::Discard,
        },
        disable_after: match both().find_map(|delivery| delivery.disable_after.as_ref()) {
            None => default.disable_after,
            Some(given) => or_zero("disableAfter", given)?,
        },
    })
}

/// What becomes of the events that came while nothing was delivered: the Subscription's `own` choice, else the
/// `inherited` one of its Producer, else the default.
pub fn on_resume(own: Option<&Delivery>, inherited: Option<&Delivery>) -> OnResume {
    own.into_iter().chain(inherited).find_map(|delivery| delivery.on_resume).unwrap_or_default()
}

fn retry_policy(retry: &Retry) -> Result<RetryPolicy, PolicyError> {
    let backoff = match &retry.backoff {
        Some(given) => given.to_core()?,
        None => Backoff::default(),
    };
    let max_duration = given("retry.maxDuration", retry.max_duration.as_ref())?;
    let max_attempts = match (retry.max_attempts, max_duration) {
        (Some(attempts), _) => Some(positive("retry.maxAttempts", attempts)?),
        (None, Some(_)) => None,
        (None, None) => Some(backoff.max_attempts()),
    };
    let jitter = retry.jitter_percent.unwrap_or(i32::from(DEFAULT_JITTER_PERCENT));
    let out_of_range = PolicyError::Number { field: "retry.jitterPercent", number: jitter };
    let jitter_percent = u8::try_from(jitter).ok().filter(|percent| *percent <= 100).ok_or(out_of_range)?;
    Ok(RetryPolicy { max_attempts, max_duration, backoff, jitter_percent })
}

/// Converts a policy to the form of `spec.delivery`, with every field that applies.
pub fn shown(policy: &DeliveryPolicy, on_resume: OnResume) -> Delivery {
    let retry = &policy.retry;
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    Delivery {
        timeout: Some(text(policy.timeout)),
        retry: Some(Retry {
            max_attempts: retry.max_attempts.map(number),
            max_duration: retry.max_duration.map(text),
            backoff: Some(crate::Backoff::from(&retry.backoff)),
            jitter_percent: Some(i32::from(retry.jitter_percent)),
        }),
        dead_letter: Some(DeadLetter {
            policy: match policy.dead_letter {
                DeadLetterPolicy::Keep => crate::DeadLetterPolicy::Keep,
                DeadLetterPolicy::Discard => crate::DeadLetterPolicy::Discard,
            },
        }),
        disable_after: Some(text_or_zero(policy.disable_after)),
        on_resume: Some(on_resume),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookwright_core::delivery::millis::Millis;
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
        let delivery = |value: Value| serde_json::from_value::<Delivery>(value).unwrap();
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
    fn what_waits_is_delivered_unless_the_subscription_or_its_producer_says_otherwise() {
        let delivery = |on_resume| Delivery { on_resume, ..Delivery::default() };
        let (skip, catch_up) = (delivery(Some(OnResume::SkipToNow)), delivery(Some(OnResume::CatchUp)));
        assert_eq!(on_resume(None, Some(&delivery(None))), OnResume::CatchUp);
        assert_eq!(on_resume(Some(&delivery(None)), Some(&skip)), OnResume::SkipToNow);
        assert_eq!(on_resume(Some(&catch_up), Some(&skip)), OnResume::CatchUp);
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
            assert_eq!(effective(Some(&shown(&policy, OnResume::CatchUp)), None).unwrap(), policy, "{delivery}");
        }
        let shown = serde_json::to_value(shown(&DeliveryPolicy::default(), OnResume::SkipToNow)).unwrap();
        assert_eq!(shown["timeout"], "15s");
        assert_eq!(
            (&shown["retry"]["backoff"]["schedule"][2], &shown["onResume"]),
            (&json!("30m"), &json!("SkipToNow"))
        );
        assert_eq!((&shown["retry"]["maxAttempts"], &shown["deadLetter"]["policy"]), (&json!(10), &json!("Keep")));
    }

    #[test]
    fn a_wait_that_is_too_short_is_read_and_shown_as_the_one_that_applies() {
        for (given, applies) in [
            (json!({ "type": "Fixed", "delay": "1ms" }), json!({ "type": "Fixed", "delay": "1s" })),
            (
                json!({ "type": "Linear", "delay": "1ms", "maxDelay": "10ms" }),
                json!({ "type": "Linear", "delay": "1s", "maxDelay": "1s" }),
            ),
            (
                json!({ "type": "Schedule", "schedule": ["1ms", "1500ms"] }),
                json!({ "type": "Schedule", "schedule": ["1s", "1s500ms"] }),
            ),
        ] {
            let policy = read(json!({ "retry": { "backoff": given } }));
            let shown = serde_json::to_value(shown(&policy, OnResume::CatchUp)).unwrap();
            assert_eq!(shown["retry"]["backoff"], applies, "{given}");
        }
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
