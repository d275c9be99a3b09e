//! Step 5: writes the result into status.

use hookwright_crds::{
    ConditionType, Delivery, EffectivePayload, LastTest, ROTATE_SIGNING_KEY, Reason, SigningStatus, StartedFrom,
    Subscription, SubscriptionStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use url::Url;

use super::build::Unresolved;
use crate::cache::leases::Rollout;
use crate::context::Context;
use crate::reconcile::error::ReconcileError;
use crate::refusal::Refusal;
use crate::status::budget::StatusBudget;
use crate::status::conditions::{self, Judgement, OF_HEALTH, find, holds_for, summarize};
use crate::status::write::{ReconciledObject, StatusError, sorted};

/// The result of a reconcile.
#[derive(Debug)]
pub(crate) enum SubscriptionOutcome {
    /// The record is in place. The rollout is none while the Producer's stream and consumer are not.
    Applied { rollout: Option<Rollout>, fresh: bool, revision: u64 },
    /// The record is to be written once the dispatchers have loaded the position to start with; or once the Producer's
    /// stream is in place, if there is no rollout.
    Prepared { rollout: Option<Rollout> },
    /// The spec can't be used.
    Refused(Refusal),
    /// Something that the spec refers to can't be used.
    Unresolved(Unresolved),
    /// NATS is away.
    Unavailable,
    /// The reconcile failed for another reason.
    Failed(Refusal),
}

impl SubscriptionOutcome {
    pub(crate) fn failed(error: &ReconcileError) -> Self {
        if error.is_unavailable() { Self::Unavailable } else { Self::Failed(error.shown()) }
    }
}

/// What the reconciler writes beside the conditions and what follows from the spec.
pub(crate) struct Part {
    pub(crate) effective_delivery: Option<Delivery>,
    pub(crate) effective_payload: Option<EffectivePayload>,
    pub(crate) last_test: Option<LastTest>,
    pub(crate) started_from: Option<StartedFrom>,
    pub(crate) signing: SigningStatus,
}

/// Returns where delivery started by the last written status.
pub(crate) fn started(subscription: &Subscription) -> Option<StartedFrom> {
    subscription.status.as_ref().and_then(|status| status.started_from.clone())
}

fn conditions_of(subscription: &Subscription) -> &[Condition] {
    subscription.status.as_ref().map(Subscription::conditions).unwrap_or_default()
}

/// Returns whether `Programmed` is True for this generation already.
pub(crate) fn is_programmed(subscription: &Subscription) -> bool {
    let generation = subscription.meta().generation.unwrap_or_default();
    holds_for(conditions_of(subscription), ConditionType::Programmed, generation)
}

/// Returns the conditions that follow from the outcome.
pub(crate) fn judge(
    subscription: &Subscription,
    outcome: &SubscriptionOutcome,
    started: Option<&StartedFrom>,
) -> Vec<(ConditionType, Judgement)> {
    let generation = subscription.meta().generation.unwrap_or_default();
    let mut judgements = judge_after(conditions_of(subscription), generation, outcome, started);
    if subscription.spec.signing.is_some() && subscription.annotations().contains_key(ROTATE_SIGNING_KEY) {
        let accepted = judgements.iter_mut().filter(|(kind, _)| *kind == ConditionType::Accepted);
        accepted.for_each(|(_, judgement)| judgement.message += NOT_ROTATED);
    }
    judgements
}

/// What `Accepted` says beside, if the annotation asks in vain for a new signing key.
const NOT_ROTATED: &str =
    " The annotation hookwright.dev/rotate-signing-key has no effect: spec.signing names the keys, so edit that.";

/// Returns `Accepted` for a spec that is valid.
fn accepted(started: Option<&StartedFrom>) -> Judgement {
    let Some(started) = started.filter(|started| started.incomplete == Some(true)) else {
        return Judgement::accepted(Ok(()));
    };
    let message = format!(
        "The spec is valid. startFrom names earlier events that the stream no longer had, or that came before the grant: \
         delivery started with sequence {}.",
        started.sequence
    );
    Judgement::holds(Reason::Accepted, message)
}

fn judge_after(
    before: &[Condition],
    generation: i64,
    outcome: &SubscriptionOutcome,
    started: Option<&StartedFrom>,
) -> Vec<(ConditionType, Judgement)> {
    let accepted = match outcome {
        SubscriptionOutcome::Refused(refusal) => Judgement::accepted(Err(refusal)),
        _ => accepted(started),
    };
    let resolved = match outcome {
        SubscriptionOutcome::Refused(_) => {
            Judgement::unknown(Reason::Pending, "Waiting for a spec that can be accepted.")
        }
        SubscriptionOutcome::Unresolved(Unresolved::Broken(refusal) | Unresolved::NotPermitted(refusal)) => {
            Judgement::fails(refusal)
        }
        SubscriptionOutcome::Unresolved(Unresolved::Waiting(message)) => {
            Judgement::unknown(Reason::Pending, message.clone())
        }
        _ => Judgement::holds(Reason::ResolvedRefs, "Producer and Secrets were found and may be used."),
    };
    let programmed = match outcome {
        SubscriptionOutcome::Applied { rollout: Some(rollout), .. } => Judgement::programmed(*rollout),
        SubscriptionOutcome::Prepared { rollout: Some(rollout) } => Judgement::prepared(*rollout),
        SubscriptionOutcome::Applied { rollout: None, .. } | SubscriptionOutcome::Prepared { rollout: None } => {
            Judgement::unknown(Reason::Pending, "Waiting for the Producer's stream and consumer.")
        }
        SubscriptionOutcome::Refused(_) | SubscriptionOutcome::Unresolved(_) => {
            Judgement::unknown(Reason::Pending, "Waiting for a spec that can be accepted and resolved.")
        }
        SubscriptionOutcome::Unavailable => Judgement::unavailable(),
        SubscriptionOutcome::Failed(failure) => Judgement::fails(failure),
    };
    let unlatched = matches!(
        outcome,
        SubscriptionOutcome::Applied { fresh: true, .. }
            | SubscriptionOutcome::Prepared { .. }
            | SubscriptionOutcome::Unresolved(Unresolved::NotPermitted(_))
    );
    let latch = !unlatched;
    let programmed_before = find(before, ConditionType::Programmed).filter(|_| latch);
    let programmed = programmed.latched(programmed_before, generation);
    summarize(vec![
        (ConditionType::Accepted, accepted),
        (ConditionType::ResolvedRefs, resolved),
        (ConditionType::Programmed, programmed),
    ])
}

/// Returns the judgement of `Ready`, which [`judge`] always gives.
pub(crate) fn ready(judgements: &[(ConditionType, Judgement)]) -> Judgement {
    let ready = judgements.iter().find(|(kind, _)| *kind == ConditionType::Ready);
    ready.map_or_else(|| Judgement::unknown(Reason::Pending, ""), |(_, judgement)| judgement.clone())
}

/// Writes the reconciler's part of the status, if it differs from what is there.
pub(crate) async fn write(
    ctx: &Context,
    subscription: &Subscription,
    judgements: Vec<(ConditionType, Judgement)>,
    part: Part,
) -> Result<(), StatusError> {
    let generation = subscription.meta().generation.unwrap_or_default();
    let conditions = conditions::dated(judgements, conditions_of(subscription), generation, conditions::now());
    let (endpoint, namespace) = (&subscription.spec.endpoint, subscription.namespace().unwrap_or_default());
    let host = endpoint.service_ref.as_ref().map(|reference| reference.host(&namespace));
    let host_of = |url: &String| Url::parse(url).ok()?.host_str().map(str::to_owned);
    let host = host.or_else(|| endpoint.url.as_ref().and_then(host_of));
    let new = SubscriptionStatus {
        observed_generation: Some(generation),
        conditions: Some(conditions),
        endpoint_host: host,
        signing: Some(part.signing),
        effective_delivery: part.effective_delivery,
        effective_payload: part.effective_payload,
        last_test: part.last_test,
        started_from: part.started_from,
        ..SubscriptionStatus::default()
    };
    ctx.status.write_if_changed(&ctx.subscriptions, subscription, &new, StatusBudget::always).await.map(drop)
}

impl ReconciledObject for Subscription {
    fn reconciled(status: &SubscriptionStatus) -> impl PartialEq {
        let mut conditions = sorted(status.conditions.as_deref());
        conditions.retain(|condition| !OF_HEALTH.iter().any(|kind| kind.as_str() == condition.type_));
        let (host, signing) = (status.endpoint_host.clone(), status.signing.clone());
        let effective = (status.effective_delivery.clone(), status.effective_payload.clone());
        let part = (effective, status.last_test.clone(), status.started_from.clone());
        (status.observed_generation, conditions, host, signing, part)
    }

    fn conditions(status: &SubscriptionStatus) -> &[Condition] {
        status.conditions.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn text(outcome: &SubscriptionOutcome, before: &[Condition]) -> String {
        let text = |(kind, judgement): &(ConditionType, Judgement)| {
            format!("{}={} {}", kind.as_str(), judgement.status.as_str(), judgement.reason.as_str())
        };
        judge_after(before, 1, outcome, None).iter().map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn conditions_by_outcome() {
        let broken = SubscriptionOutcome::Unresolved(Unresolved::Broken(Refusal::new(Reason::SecretNotFound, "x")));
        let cases = [
            (
                SubscriptionOutcome::Applied { rollout: Some(Rollout::Loaded), fresh: false, revision: 1 },
                "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs, Programmed=True Programmed, Ready=True Ready",
            ),
            (
                SubscriptionOutcome::Applied { rollout: Some(Rollout::NoDispatchers), fresh: false, revision: 1 },
                "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs, Programmed=Unknown NoDispatchers, \
                 Ready=Unknown NoDispatchers, Reconciling=True NoDispatchers",
            ),
            (
                SubscriptionOutcome::Prepared { rollout: Some(Rollout::Waiting { behind: 1, live: 2 }) },
                "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs, Programmed=Unknown Pending, \
                 Ready=Unknown Pending, Reconciling=True Pending",
            ),
            (
                SubscriptionOutcome::Refused(Refusal::new(Reason::Invalid, "x")),
                "Accepted=False Invalid, ResolvedRefs=Unknown Pending, Programmed=Unknown Pending, \
                 Ready=False Invalid, Stalled=True Invalid",
            ),
            (
                broken,
                "Accepted=True Accepted, ResolvedRefs=False SecretNotFound, Programmed=Unknown Pending, \
                 Ready=False SecretNotFound",
            ),
            (
                SubscriptionOutcome::Unavailable,
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
        let loaded = SubscriptionOutcome::Applied { rollout: Some(Rollout::Loaded), fresh: false, revision: 1 };
        let before = conditions::dated(judge_after(&[], 1, &loaded, None), &[], 1, jiff::Timestamp::UNIX_EPOCH);
        assert!(
            text(&SubscriptionOutcome::Unavailable, &before).ends_with("Programmed=True Programmed, Ready=True Ready")
        );
        let fresh = SubscriptionOutcome::Applied { rollout: Some(Rollout::Unheard), fresh: true, revision: 1 };
        assert!(text(&fresh, &before).contains("Programmed=Unknown Pending"), "a record that was lost is loaded again");
        let broken = SubscriptionOutcome::Unresolved(Unresolved::Broken(Refusal::new(Reason::SecretNotFound, "x")));
        assert!(text(&broken, &before).ends_with("Programmed=True Programmed, Ready=False SecretNotFound"));
        let shut_out =
            SubscriptionOutcome::Unresolved(Unresolved::NotPermitted(Refusal::new(Reason::RefNotPermitted, "x")));
        assert!(text(&shut_out, &before).ends_with("Programmed=Unknown Pending, Ready=False RefNotPermitted"));
    }

    #[test]
    fn a_start_that_lacks_events_is_told_with_accepted() {
        let loaded = SubscriptionOutcome::Applied { rollout: Some(Rollout::Loaded), fresh: false, revision: 1 };
        let started = |incomplete| StartedFrom { sequence: 40, time: Time(jiff::Timestamp::UNIX_EPOCH), incomplete };
        let message = |started: Option<&StartedFrom>| judge_after(&[], 1, &loaded, started)[0].1.message.clone();
        assert!(message(Some(&started(Some(true)))).ends_with("delivery started with sequence 40."));
        assert_eq!(message(Some(&started(None))), message(None));
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
        let part = Subscription::reconciled;
        assert!(part(&both) == part(&reconciler));
        let edited = SubscriptionStatus { observed_generation: Some(2), ..both.clone() };
        assert!(part(&both) != part(&edited));
    }
}
