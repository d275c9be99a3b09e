//! The Kubernetes API of Hookwright, `hookwright.dev/v1alpha1`: the kinds, their validation rules, their conditions.
//!
//! - [`Producer`]: a source of events: NATS subjects, and the stream that keeps what is published to them.
//! - [`EventSchema`]: the JSON Schemas of an event type's data, by version.
//! - [`Subscription`]: which events are delivered, where and how.
//!
//! `kubectl explain` prints the Rust documentation of a field. So it is written for the person who edits YAML: what the
//! field does, its unit, its default, and the effect of an edit. The operator applies defaults when it reads an object
//! and never writes them into `spec`, so that a GitOps tool sees no drift.
//!
//! The API server refuses every mistake that shows in the object alone (patterns, ranges, CEL rules). The operator
//! reports mistakes that depend on anything else (another object, NATS, the operator's settings) in
//! `status.conditions`.
//!
//! `crds/yaml` is generated from these types: `cargo run -p hookwright-crds --bin hookwright-crds-yaml`.

#![deny(missing_docs)]
#![allow(unreachable_pub, reason = "kube's KubeSchema repeats each `pub struct` inside a function")]

mod allowed_namespaces;
mod amounts;
mod backoff;
pub mod compat;
mod conditions;
mod delivery;
mod duration;
mod endpoint;
mod event_schema;
mod event_type;
mod filter;
mod json_text;
mod names;
mod patterns;
mod payload;
pub mod policy;
mod producer;
mod quantity;
mod retry;
mod schema;
mod secret_ref;
mod service_ref;
mod signing;
mod start_from;
mod stream;
mod subscription;
mod subscription_status;
pub mod yaml;

pub use allowed_namespaces::{
    AllowedNamespaces, FromNamespaces, History, LabelOperator, LabelRequirement, LabelValue, NamespaceSelector,
};
pub use amounts::PolicyError;
pub use backoff::{Backoff, BackoffType};
pub use conditions::{ConditionStatus, ConditionType, Reason, condition, set_condition};
pub use delivery::{DeadLetter, DeadLetterPolicy, Delivery, OnResume};
pub use duration::{Duration, DurationOrZero};
pub use endpoint::{AttributeRef, Endpoint, Header, HeaderSource};
pub use event_schema::{
    EventSchema, EventSchemaSpec, EventSchemaStatus, EventSchemaVersion, LocalProducerRef, PublishedVersion,
};
pub use event_type::{EventType, EventTypeFrom, EventTypeSelector};
pub use filter::{AttributeValue, Filter, InnermostFilter, NestedFilter};
pub use json_text::JsonText;
pub use names::{
    ALLOWED_NAMESPACES, CATEGORY, DEFAULT_SIGNING_KEY, FINALIZER, GROUP, RESUME, ROTATE_SIGNING_KEY, SEND_TEST,
    USE_ENDPOINT, USE_LABEL, USE_SIGNING, VERSION, signing_secret_name,
};
pub use payload::{EffectivePayload, Payload, PayloadMode, PayloadPolicy, Transform};
pub use producer::{Producer, ProducerSpec, ProducerStatus, StreamStatus, Validation};
pub use quantity::Quantity;
pub use retry::Retry;
pub use secret_ref::SecretKeyRef;
pub use service_ref::{Scheme, ServiceRef};
pub use signing::{Signing, SigningKey, SigningScheme};
pub use start_from::{DateTime, StartFrom, StartPosition};
pub use stream::{DeletionPolicy, Discard, Storage, Stream, StreamPolicy};
pub use subscription::{ProducerRef, Subscription, SubscriptionSpec};
pub use subscription_status::{
    Activity, ActivityKind, Behind, BehindReason, DeliveryStatus, FiltersStatus, Health, LastAttempt, LastTest, Missed,
    RotationStatus, SigningKeyStatus, SigningStatus, StartedFrom, SubscriptionStatus,
};
