//! Kubernetes Events, which are emitted on transitions only.

use hookwright_crds::{ConditionType, Reason};
use hookwright_runtime::logging;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};
use tracing::warn;

use crate::cache::references::full_name;
use crate::kubernetes::answer::ApiError;
use crate::lenient::Lenient;
use crate::named::{Named, about};
use crate::status::conditions::{INCIDENTS, find};

/// Conditions that emit an Event when they turn False, and when they turn True again.
const TOLD: [ConditionType; 4] =
    [ConditionType::Accepted, ConditionType::ResolvedRefs, ConditionType::Ready, ConditionType::EndpointHealthy];

/// The longest note in bytes that the API server allows.
const LONGEST: usize = 1024;

/// Emits the Events for the transitions between two lists of conditions.
pub(crate) async fn transitions<K: Resource<DynamicType = ()>>(
    recorder: &Recorder,
    object: &K,
    before: &[Condition],
    after: &[Condition],
) {
    for condition in turned(before, after) {
        let good = condition.status == "True" && !INCIDENTS.iter().any(|kind| kind.as_str() == condition.type_);
        let type_ = if good { EventType::Normal } else { EventType::Warning };
        let event = event(type_, &condition.reason, Action::Reconcile, &condition.message);
        publish(recorder, &object.object_ref(&()), event).await;
    }
}

/// What the operator was about to do. Events of an object with the same reason and action are taken for one that repeats,
/// and keep the note of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// To do what the object says.
    Reconcile,
    /// To remove what a deleted object has left in NATS.
    CleanUp,
    /// To let a deleted object go.
    LetGo,
    /// To mark an object as one that has to be cleaned up.
    AddFinalizer,
    /// To write the status.
    WriteStatus,
}

impl Action {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Reconcile => "Reconcile",
            Self::CleanUp => "CleanUp",
            Self::LetGo => "LetGo",
            Self::AddFinalizer => "AddFinalizer",
            Self::WriteStatus => "WriteStatus",
        }
    }
}

/// Emits an Event for a problem that shows in no condition.
pub(crate) async fn warning<K: Resource<DynamicType = ()>>(
    recorder: &Recorder,
    object: &K,
    reason: Reason,
    action: Action,
    note: &str,
) {
    publish(recorder, &object.object_ref(&()), event(EventType::Warning, reason.as_str(), action, note)).await;
}

/// Returns what reports an object that the operator can't read: with an Event, and a log line without its content.
pub(crate) fn unreadable<K: Resource<DynamicType = ()>>(recorder: Recorder) -> impl Fn(&Lenient<K>) {
    const NOTE: &str = "The operator can't read this object, and leaves it as it was: it was written for a newer \
         release. Upgrade the operator, or edit the object.";
    move |object| {
        let named = Named::of::<K>(object.meta.namespace.as_deref(), object.meta.name.as_deref());
        about!(warn, named, "an object can't be read; it stays as it was");
        let (recorder, reference) = (recorder.clone(), object.object_ref(&()));
        tokio::spawn(async move {
            let event = event(EventType::Warning, Reason::Unreadable.as_str(), Action::Reconcile, NOTE);
            publish(&recorder, &reference, event).await;
        });
    }
}

fn event(type_: EventType, reason: &str, action: Action, note: &str) -> Event {
    let (reason, action) = (reason.to_owned(), action.as_str().to_owned());
    Event { type_, reason, note: Some(note[..note.floor_char_boundary(LONGEST)].to_owned()), action, secondary: None }
}

async fn publish(recorder: &Recorder, object: &ObjectReference, event: Event) {
    if let Err(error) = recorder.publish(&event, object).await {
        let (reason, error) = (event.reason, logging::chain(&ApiError::from(error)));
        let object = full_name(object.namespace.as_deref(), object.name.as_deref());
        warn!(object, reason, error, "can't write an Event");
    }
}

/// Returns the conditions that are worth an Event: those that turned False, are False for another reason, or are True
/// again after False; and each new incident, once. A reason that is emitted for Accepted or ResolvedRefs isn't emitted
/// again for Ready. A first success shows in status alone: if ten thousand Subscriptions are applied at once, its
/// Events would be a third of all writes.
fn turned<'a>(before: &[Condition], after: &'a [Condition]) -> Vec<&'a Condition> {
    let mut told: Vec<&Condition> = Vec::new();
    for kind in TOLD {
        let (old, Some(new)) = (find(before, kind), find(after, kind)) else { continue };
        let was = old.map(|old| old.status.as_str());
        let worth = match new.status.as_str() {
            "False" => was != Some("False") || old.is_some_and(|old| old.reason != new.reason),
            "True" => was == Some("False"),
            _ => false,
        };
        if worth && !told.iter().any(|told| told.reason == new.reason) {
            told.push(new);
        }
    }
    let began = |kind| find(after, kind).filter(|_| find(before, kind).is_none());
    told.extend(INCIDENTS.into_iter().filter_map(began));
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookwright_crds::{ConditionStatus, condition};

    #[test]
    fn only_transitions_are_told_and_each_once() {
        use ConditionStatus::{False, True, Unknown};
        use ConditionType::{EndpointHealthy, EventsLost, Ready, ResolvedRefs};
        let list = |conditions: &[(ConditionType, ConditionStatus, Reason)]| -> Vec<Condition> {
            let make = |(kind, status, reason)| condition(kind, status, reason, "", None, jiff::Timestamp::UNIX_EPOCH);
            conditions.iter().copied().map(make).collect()
        };
        let ready = list(&[(ResolvedRefs, True, Reason::ResolvedRefs), (Ready, True, Reason::Ready)]);
        let missing = list(&[(ResolvedRefs, False, Reason::SecretNotFound), (Ready, False, Reason::SecretNotFound)]);
        let invalid = list(&[(ResolvedRefs, False, Reason::SecretInvalid), (Ready, False, Reason::SecretInvalid)]);
        let pending = list(&[(ResolvedRefs, True, Reason::ResolvedRefs), (Ready, Unknown, Reason::Pending)]);
        let failing = list(&[(EndpointHealthy, False, Reason::EndpointFailing)]);
        let healthy = list(&[(EndpointHealthy, True, Reason::EndpointHealthy)]);
        let lost = list(&[(Ready, True, Reason::Ready), (EventsLost, True, Reason::EventsLost)]);
        let cases: [(&[Condition], &[Condition], &[&str]); 12] = [
            (&ready, &lost, &["EventsLost"]),
            (&lost, &lost, &[]),
            (&lost, &ready, &[]),
            (&[], &pending, &[]),
            (&pending, &ready, &[]),
            (&ready, &ready, &[]),
            (&ready, &missing, &["SecretNotFound"]),
            (&missing, &invalid, &["SecretInvalid"]),
            (&missing, &ready, &["ResolvedRefs", "Ready"]),
            (&[], &healthy, &[]),
            (&healthy, &failing, &["EndpointFailing"]),
            (&failing, &healthy, &["EndpointHealthy"]),
        ];
        for (before, after, want) in cases {
            let got: Vec<&str> = turned(before, after).into_iter().map(|told| told.reason.as_str()).collect();
            assert_eq!(got, want);
        }
    }
}
