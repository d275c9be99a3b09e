//! Which failures are told by an Event: those that no condition shows. A write of the status may be what is refused, and
//! an object that is being deleted is asked for no condition.

use hookwright_crds::Reason;
use kube::runtime::events::Recorder;
use kube::runtime::finalizer;
use kube::{Resource, ResourceExt};

use crate::cache::failures::{Failures, Work};
use crate::kubernetes::answer::{Meaning, meaning, words};
use crate::reconcile::error::ReconcileError;
use crate::refusal::Refusal;
use crate::status::events::{self, Action};

/// From which failure in a row on one is told that may pass by itself, such as a restart of NATS.
const LASTS: u32 = 3;

/// What a reconcile or a cleanup ended with, beside success.
pub(crate) type Failed = finalizer::Error<ReconcileError>;

/// Returns what the failure means for the object, if the API server is behind it.
pub(crate) fn means(failed: &Failed) -> Option<Meaning> {
    match failed {
        finalizer::Error::AddFinalizer(error) | finalizer::Error::RemoveFinalizer(error) => Some(meaning(error)),
        finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error) if error.is_outdated() => {
            Some(Meaning::Changed)
        }
        finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error) => {
            error.is_refused_by_api().then_some(Meaning::Refused)
        }
        _ => None,
    }
}

/// Tells of a failure by an Event, unless a condition shows it, it may pass soon, or it was told lately.
pub(crate) async fn tell<K: Resource<DynamicType = ()>>(
    object: &K,
    work: &Work,
    failed: &Failed,
    failures: &Failures,
    recorder: &Recorder,
) {
    let lasts = failures.in_a_row(work).saturating_add(1) >= LASTS;
    if let Some((action, failure)) = event(failed, lasts)
        && failures.is_news(work, &object.uid().unwrap_or_default(), action.as_str(), &failure)
    {
        events::warning(recorder, object, failure.reason, action, &failure.message).await;
    }
}

/// Returns the Event for a failure, if there is to be one. `lasts`: it is not the first one.
fn event(failed: &Failed, lasts: bool) -> Option<(Action, Refusal)> {
    let is_told = lasts || means(failed) == Some(Meaning::Refused);
    match failed {
        finalizer::Error::AddFinalizer(error) => is_told.then(|| {
            let what = "nothing is done for the object, as its finalizer can't be added";
            (Action::AddFinalizer, Refusal::new(Reason::ApiRefused, again(what, &words(error))))
        }),
        finalizer::Error::RemoveFinalizer(error) => is_told.then(|| {
            let what = "the deleted object can't go, as its finalizer can't be removed";
            (Action::LetGo, Refusal::new(Reason::ApiRefused, again(what, &words(error))))
        }),
        finalizer::Error::CleanupFailed(error) => is_told.then(|| {
            let what = "the deleted object can't go, as what it has left in NATS can't be removed";
            let Refusal { reason, message } = error.shown();
            (Action::CleanUp, Refusal::new(reason, again(what, &message)))
        }),
        finalizer::Error::ApplyFailed(error) => (is_told && !error.has_condition()).then(|| {
            let action =
                if matches!(error, ReconcileError::Status(_)) { Action::WriteStatus } else { Action::Reconcile };
            let Refusal { reason, message } = error.shown();
            (action, Refusal::new(reason, again("the status doesn't show this", &message)))
        }),
        _ => None,
    }
}

fn again(what: &str, why: &str) -> String {
    format!("The operator tries again; until then {what}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::answer::tests::error;
    use crate::nats::jetstream::JsError;
    use crate::secrets::SecretError;

    #[test]
    fn what_no_condition_shows_is_told() {
        let policy = || error(422, "Invalid", "denied by policy");
        let webhook = || error(500, "InternalError", "failed calling webhook");
        let conflict = || error(409, "Conflict", "later");
        let delete = || ReconcileError::Secrets(SecretError::Delete { name: "k".into(), source: policy().into() });
        let create = || ReconcileError::Secrets(SecretError::Create { name: "k".into(), source: policy().into() });
        let away = || ReconcileError::Nats(JsError::Disconnected);
        // What fails; whether it is told at once, and whether if it lasts; and how.
        let cases: [(Failed, bool, bool, &str); 10] = [
            (finalizer::Error::AddFinalizer(policy()), true, true, "AddFinalizer ApiRefused denied by policy"),
            (finalizer::Error::RemoveFinalizer(webhook()), true, true, "LetGo ApiRefused failed calling webhook"),
            (finalizer::Error::RemoveFinalizer(conflict()), false, true, "LetGo ApiRefused later"),
            (finalizer::Error::CleanupFailed(away()), false, true, "CleanUp NatsUnavailable NATS is not connected"),
            (
                finalizer::Error::CleanupFailed(ReconcileError::Random),
                false,
                true,
                "CleanUp InternalError random bytes",
            ),
            (finalizer::Error::ApplyFailed(delete()), true, true, "Reconcile ApiRefused denied by policy"),
            (finalizer::Error::ApplyFailed(ReconcileError::Outdated), false, true, "Reconcile Outdated meanwhile"),
            (finalizer::Error::ApplyFailed(create()), false, false, ""),
            (finalizer::Error::ApplyFailed(away()), false, false, ""),
            (finalizer::Error::UnnamedObject, false, false, ""),
        ];
        for (failed, at_once, lasting, want) in cases {
            assert_eq!(
                (event(&failed, false).is_some(), event(&failed, true).is_some()),
                (at_once, lasting),
                "{failed}"
            );
            let Some((action, told)) = event(&failed, true) else { continue };
            let got = format!("{action:?} {} {}", told.reason.as_str(), told.message);
            let (head, end) = want.rsplit_once(told.reason.as_str()).unwrap();
            assert!(got.starts_with(head.trim_end()) && got.ends_with(end.trim_start()), "{got}");
        }
    }
}
