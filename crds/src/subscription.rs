//! The kind Subscription: which events are delivered, where and how.

use hookwright_core::position::resume_mark;
use kube::{CustomResource, KubeSchema, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::{
    Delivery, Endpoint, EventTypeSelector, Filter, Payload, RESUME, Signing, StartFrom, SubscriptionStatus, patterns,
};

/// The events of a Producer that are delivered, and where and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "hookwright.dev",
    version = "v1alpha1",
    kind = "Subscription",
    namespaced,
    status = "SubscriptionStatus",
    derive = "PartialEq",
    shortname = "hsub",
    category = "hookwright",
    selectable = ".spec.producerRef.name",
    doc = "A Subscription delivers the events of a Producer to an HTTP endpoint as signed webhooks, retries what fails \
           and keeps what cannot be delivered. Every event published after condition Ready is True is delivered.",
    validation = (
        "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
        "a Subscription's name has at most 63 characters and no dot: it becomes part of other names"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether every event published now is delivered"
    ),
    printcolumn(
        name = "Health",
        type_ = "string",
        json_path = ".status.health",
        description = "How the endpoint answers: Healthy, Unhealthy or Inactive"
    ),
    printcolumn(
        name = "Delivered",
        type_ = "integer",
        json_path = ".status.delivery.delivered",
        description = "Events delivered"
    ),
    printcolumn(
        name = "Retrying",
        type_ = "integer",
        json_path = ".status.delivery.retrying",
        description = "Events whose delivery failed and is tried again"
    ),
    printcolumn(
        name = "Dead",
        type_ = "integer",
        json_path = ".status.delivery.deadLettered",
        description = "Events whose delivery was given up"
    ),
    printcolumn(
        name = "Behind",
        type_ = "integer",
        json_path = ".status.delivery.behind.events",
        description = "Events that wait in the stream, at most; empty while events are delivered as they come"
    ),
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.delivery.nextAttemptTime",
        description = "When the next retry is due"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Age"),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".status.endpointHost",
        description = "The endpoint's host",
        priority = "1"
    ),
    printcolumn(
        name = "Waiting",
        type_ = "integer",
        json_path = ".status.delivery.waiting",
        description = "Events that were put aside and wait for their first attempt",
        priority = "1"
    ),
    printcolumn(
        name = "Outcome",
        type_ = "string",
        json_path = ".status.delivery.lastAttempt.outcome",
        description = "How the last attempt ended",
        priority = "1"
    ),
    printcolumn(
        name = "Test",
        type_ = "string",
        json_path = ".status.lastTest.outcome",
        description = "How the last test delivery ended",
        priority = "1"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready or not",
        priority = "1"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "has(self.startFrom) == has(oldSelf.startFrom) && \
     (!has(self.startFrom) || self.startFrom == oldSelf.startFrom)"
).message("startFrom is immutable, and can't be added or removed").field_path(".startFrom"))]
pub struct SubscriptionSpec {
    /// The Producer whose events are delivered. Immutable.
    #[x_kube(validation = (
        "self.name == oldSelf.name && has(self.__namespace__) == has(oldSelf.__namespace__) && \
         (!has(self.__namespace__) || self.__namespace__ == oldSelf.__namespace__)",
        "producerRef is immutable"
    ))]
    pub producer_ref: ProducerRef,
    /// Which of the Producer's events are delivered: 1 to 64 patterns over the event's type. An event that matches
    /// several is delivered once. An edit takes effect within 5 seconds for events not yet read; events that are being
    /// retried are still delivered. Default: all types.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub event_types: Option<Vec<EventTypeSelector>>,
    /// Which events of these types are delivered: those that pass all these filters, at most 10. Each filter has exactly
    /// one dialect: `exact`, `prefix`, `suffix`, `all`, `any`, `not`, `sql`, `jmespath` or `cel`. An expression that
    /// doesn't compile is Accepted=False; the message shows where. An evaluation that fails is no match, and shown in
    /// condition FiltersHealthy. An edit takes effect within 5 seconds for events not yet read; events that are being
    /// retried are still delivered. Default: every event of these types.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    pub filters: Option<Vec<Filter>>,
    /// The endpoint that the webhooks are sent to.
    pub endpoint: Endpoint,
    /// The keys that sign the webhooks. Default: the operator generates one in the Secret `<name>-signing`, key
    /// `secret`, which is deleted with the Subscription, and replaces it at each new value of the annotation
    /// `hookwright.dev/rotate-signing-key`. `status.signing` shows which keys are in use. An edit takes
    /// effect within 5 seconds, also for events that are being retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
    /// What a webhook carries of an event, and in which form. Default: the event as it was published. An edit takes
    /// effect within 5 seconds, also for events that are being retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    /// The time limit of an attempt, the retries, and what becomes of events that can't be delivered. A field that is
    /// not given here comes from the Producer's `spec.delivery`, else it has the default that its description names.
    /// `status.effectiveDelivery` shows the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Which event of the Producer's stream is the first that is delivered. If it is an earlier one, the events from
    /// there on are delivered first, in the order of the stream; `status.startedFrom` says where delivery started. A
    /// Subscription of another namespace than its Producer's starts at the grant at the earliest, unless the Producer's
    /// `allowedNamespaces.history` is All. Default: position New. Immutable: to start somewhere else, create another
    /// Subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_from: Option<StartFrom>,
    /// Whether delivery rests. While this is true, events wait in the Producer's stream, as long as the stream keeps
    /// them, and retries wait, too; `status.delivery.behind` says how many wait. An edit to true takes effect within 5
    /// seconds, and requests under way are finished. After an edit back to false, `delivery.onResume` says what becomes
    /// of the events that wait. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

impl Subscription {
    /// The mark of the last request to resume, which the annotation `hookwright.dev/resume` makes.
    pub fn resume(&self) -> Option<u64> {
        self.annotations().get(RESUME).map(|value| resume_mark(value))
    }
}

/// A Producer, in the same namespace or in another one that it allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProducerRef {
    /// Name of the Producer. The Producer may be created later; until then condition ResolvedRefs is False.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::PRODUCER_NAME))]
    pub name: String,
    /// Namespace of the Producer. The Producer has to allow the Subscription's namespace in `spec.allowedNamespaces`.
    /// Until it does, condition ResolvedRefs is False with reason RefNotPermitted, and nothing is delivered. Default:
    /// the Subscription's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::NAMESPACE))]
    pub namespace: Option<String>,
}
