//! Step 5: what came of it, in status.

use hookwright_crds::{
    ConditionStatus, ConditionType, Delivery, LastTest, Reason, SigningKeyStatus, SigningStatus, Subscription,
    SubscriptionStatus,
};
use hookwright_runtime::logging;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Resource, ResourceExt};
use url::Url;

use super::apply::ApplyError;
use super::build::Unresolved;
use super::{SubscriptionError, validate};
use crate::cache::leases::Rollout;
use crate::context::Context;
use crate::metrics::Kind;
use crate::nats::jetstream::JsError;
use crate::refusal::Refusal;
use crate::status::conditions::{self, Judgement, find, summarize};
use crate::status::events;
use crate::status::write::{RECONCILER, StatusError, write_status};

/// What came of a reconcile.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The record is in place; no rollout while the Producer's part isn't.
    Applied { rollout: Option<Rollout>, fresh: bool, revision: u64 },
    /// The spec can't be used.
    Refused(Refusal),
    /// What it refers to can't be used.
    Unresolved(Unresolved),
    /// NATS is away.
    Unavailable,
    /// It would not be done; the reason is said.
    Failed(String),
}

impl Outcome {
    pub(crate) fn failed(error: &SubscriptionError) -> Self {
        let nats = match error {
            SubscriptionError::Leases(nats) | SubscriptionError::Cleanup(nats) => Some(nats),
            SubscriptionError::Apply(ApplyError::Nats(nats)) => Some(nats),
            _ => None,
        };
        if nats.is_some_and(JsError::is_unavailable) { Self::Unavailable } else { Self::Failed(logging::chain(error)) }
    }
}

/// Whether `Programmed` is true for this generation already.
pub(crate) fn is_latched(subscription: &Subscription) -> bool {
    let conditions = subscription.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    find(conditions, ConditionType::Programmed).is_some_and(|programmed| {
        programmed.status == "True" && programmed.observed_generation == subscription.meta().generation
    })
}

fn judge(outcome: &Outcome, before: &[Condition], generation: i64) -> Vec<(ConditionType, Judgement)> {
    let accepted = match outcome {
        Outcome::Refused(refusal) => Judgement::accepted(Err(refusal)),
        _ => Judgement::accepted(Ok(())),
    };
    let resolved = match outcome {
        Outcome::Refused(_) => Judgement::unknown(Reason::Pending, "Waiting for a spec that can be accepted."),
        Outcome::Unresolved(Unresolved::Broken(refusal) | Unresolved::NotPermitted(refusal)) => {
            Judgement::fails(refusal)
        }
        Outcome::Unresolved(Unresolved::Waiting(message)) => Judgement::unknown(Reason::Pending, message.clone()),
        _ => Judgement::holds(Reason::ResolvedRefs, "Producer and Secrets were found and may be used."),
    };
    let programmed = match outcome {
        Outcome::Applied { rollout: Some(rollout), .. } => Judgement::programmed(*rollout),
        Outcome::Applied { rollout: None, .. } => {
            Judgement::unknown(Reason::Pending, "Waiting for the Producer's stream and consumer.")
        }
        Outcome::Refused(_) | Outcome::Unresolved(_) => {
            Judgement::unknown(Reason::Pending, "Waiting for a spec that can be accepted and resolved.")
        }
        Outcome::Unavailable => Judgement::unknown(Reason::NatsUnavailable, "NATS doesn't answer the operator."),
        Outcome::Failed(message) => {
            Judgement { status: ConditionStatus::False, reason: Reason::Pending, message: message.clone() }
        }
    };
    let unlatched =
        matches!(outcome, Outcome::Applied { fresh: true, .. } | Outcome::Unresolved(Unresolved::NotPermitted(_)));
    let latch = !unlatched;
    let programmed_before = find(before, ConditionType::Programmed).filter(|_| latch);
    let programmed = programmed.latched(programmed_before, generation);
    summarize(vec![
        (ConditionType::Accepted, accepted),
        (ConditionType::ResolvedRefs, resolved),
        (ConditionType::Programmed, programmed),
    ])
}

/// What `Ready` comes to.
pub(crate) fn ready(subscription: &Subscription, outcome: &Outcome) -> Judgement {
    let before = subscription.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let all = judge(outcome, before, subscription.meta().generation.unwrap_or_default());
    let ready = all.into_iter().find(|(kind, _)| *kind == ConditionType::Ready);
    ready.map_or_else(|| Judgement::unknown(Reason::Pending, ""), |(_, judgement)| judgement)
}

/// Writes the part of the status that is the reconciler's, if it differs from what is there.
pub(crate) async fn write(
    ctx: &Context,
    subscription: &Subscription,
    outcome: &Outcome,
    effective_delivery: Option<Delivery>,
    last_test: Option<LastTest>,
) -> Result<(), StatusError> {
    let old = subscription.status.clone().unwrap_or_default();
    let before: Vec<Condition> = old.conditions.clone().unwrap_or_default();
    let generation = subscription.meta().generation.unwrap_or_default();
    let conditions = conditions::dated(judge(outcome, &before, generation), &before, generation, conditions::now());
    let keys = validate::signing_keys(subscription).into_iter();
    let keys = keys.map(|secret_ref| SigningKeyStatus { secret_ref }).collect();
    let host = Url::parse(&subscription.spec.endpoint.url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let new = SubscriptionStatus {
        observed_generation: Some(generation),
        conditions: Some(conditions),
        endpoint_host: host,
        signing: Some(SigningStatus { keys }),
        effective_delivery,
        last_test,
        ..SubscriptionStatus::default()
    };
    if same(&old, &new) {
        return Ok(());
    }
    let api = Api::namespaced(ctx.client.clone(), &subscription.namespace().unwrap_or_default());
    ctx.status_budget.spend();
    let answer = match write_status(&api, subscription, RECONCILER, &new).await {
        Ok(answer) => answer,
        Err(error) if error.is_gone() => return Ok(()),
        Err(error) => return Err(error),
    };
    ctx.subscriptions.own_writes.remember(answer);
    ctx.metrics.status_writes.get_or_create(&Kind { kind: "Subscription" }).inc();
    events::transitions(&ctx.recorder, subscription, &before, new.conditions.as_deref().unwrap_or_default()).await;
    Ok(())
}

/// Whether the reconciler's part of two statuses is the same.
fn same(old: &SubscriptionStatus, new: &SubscriptionStatus) -> bool {
    let part = |status: &SubscriptionStatus| {
        let mut conditions = status.conditions.clone().unwrap_or_default();
        conditions.retain(|condition| condition.type_ != ConditionType::EndpointHealthy.as_str());
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        let SubscriptionStatus { observed_generation, endpoint_host, signing, effective_delivery, last_test, .. } =
            status.clone();
        (observed_generation, conditions, endpoint_host, signing, effective_delivery, last_test)
    };
    part(old) == part(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outcome: &Outcome, before: &[Condition]) -> String {
        let text = |(kind, judgement): &(ConditionType, Judgement)| {
            format!("{}={} {}", kind.as_str(), judgement.status.as_str(), judgement.reason.as_str())
        };
        judge(outcome, before, 1).iter().map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn conditions_by_outcome() {
        let broken = Outcome::Unresolved(Unresolved::Broken(Refusal::new(Reason::SecretNotFound, "x")));
        let cases = [
            (
                Outcome::Applied { rollout: Some(Rollout::Loaded), fresh: false, revision: 1 },
                "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs, Programmed=True Programmed, Ready=True Ready",
            ),
            (
                Outcome::Applied { rollout: Some(Rollout::NoDispatchers), fresh: false, revision: 1 },
                "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs, Programmed=Unknown NoDispatchers, \
                 Ready=Unknown NoDispatchers, Reconciling=True NoDispatchers",
            ),
            (
                Outcome::Refused(Refusal::new(Reason::Invalid, "x")),
                "Accepted=False Invalid, ResolvedRefs=Unknown Pending, Programmed=Unknown Pending, \
                 Ready=False Invalid, Stalled=True Invalid",
            ),
            (
                broken,
                "Accepted=True Accepted, ResolvedRefs=False SecretNotFound, Programmed=Unknown Pending, \
                 Ready=False SecretNotFound",
            ),
            (
                Outcome::Unavailable,
                "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs, Programmed=Unknown NatsUnavailable, \
                 Ready=Unknown NatsUnavailable, Reconciling=True NatsUnavailable",
            ),
        ];
        for (outcome, want) in cases {
            assert_eq!(text(&outcome, &[]), want, "{outcome:?}");
        }
    }

    #[test]
    fn what_was_programmed_stays_so_while_nats_is_away_or_a_secret_is() {
        let loaded = Outcome::Applied { rollout: Some(Rollout::Loaded), fresh: false, revision: 1 };
        let before = conditions::dated(judge(&loaded, &[], 1), &[], 1, jiff::Timestamp::UNIX_EPOCH);
        assert!(text(&Outcome::Unavailable, &before).ends_with("Programmed=True Programmed, Ready=True Ready"));
        let fresh = Outcome::Applied { rollout: Some(Rollout::Unheard), fresh: true, revision: 1 };
        assert!(text(&fresh, &before).contains("Programmed=Unknown Pending"), "a record that was lost is loaded again");
        let broken = Outcome::Unresolved(Unresolved::Broken(Refusal::new(Reason::SecretNotFound, "x")));
        assert!(text(&broken, &before).ends_with("Programmed=True Programmed, Ready=False SecretNotFound"));
        let shut_out = Outcome::Unresolved(Unresolved::NotPermitted(Refusal::new(Reason::RefNotPermitted, "x")));
        assert!(text(&shut_out, &before).ends_with("Programmed=Unknown Pending, Ready=False RefNotPermitted"));
    }

    #[test]
    fn the_health_writers_part_is_not_compared() {
        let reconciler = SubscriptionStatus { observed_generation: Some(1), ..Default::default() };
        let healthy = Judgement::holds(Reason::EndpointHealthy, "");
        let epoch = jiff::Timestamp::UNIX_EPOCH;
        let conditions = conditions::dated(vec![(ConditionType::EndpointHealthy, healthy)], &[], 1, epoch);
        let both = SubscriptionStatus {
            conditions: Some(conditions),
            delivery: Some(hookwright_crds::DeliveryStatus::default()),
            ..reconciler.clone()
        };
        assert!(same(&both, &reconciler));
        assert!(!same(&both, &SubscriptionStatus { observed_generation: Some(2), ..both.clone() }));
    }
}
