//! The kind EventSchema: the JSON Schemas of an event type's data, by version.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::JsonText;
use crate::patterns;

/// The JSON Schemas of an event type's data, by version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "hookwright.dev",
    version = "v1alpha1",
    kind = "EventSchema",
    namespaced,
    status = "EventSchemaStatus",
    derive = "PartialEq",
    shortname = "hschema",
    category = "hookwright",
    selectable = ".spec.producerRef.name",
    doc = "An EventSchema says what the data of one event type of a Producer looks like, by version. The Producer's \
           validation decides what becomes of events that look otherwise. A version that was accepted is published and \
           can't be edited; a new minor version accepts everything that the older ones of its major version accept.",
    validation = (
        "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
        "an EventSchema's name has at most 63 characters and no dot"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether all dispatchers validate by it"
    ),
    printcolumn(
        name = "Producer",
        type_ = "string",
        json_path = ".spec.producerRef.name",
        description = "The Producer of the events"
    ),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type", description = "The type of the events"),
    printcolumn(
        name = "Latest",
        type_ = "string",
        json_path = ".status.latest",
        description = "The highest published version"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Age"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready or not",
        priority = "1"
    )
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EventSchemaSpec {
    /// The Producer whose events these are. Immutable.
    #[x_kube(validation = ("self == oldSelf", "producerRef is immutable"))]
    pub producer_ref: LocalProducerRef,
    /// The type of the events, without wildcards, such as `order.created`. Immutable. If a Producer has two
    /// EventSchemas for the same type, the older one is in force, and the other is not accepted.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 255), regex(pattern = patterns::CONCRETE_EVENT_TYPE))]
    #[x_kube(validation = ("self == oldSelf", "type is immutable"))]
    pub type_: String,
    /// The versions, 1 to 20, whose schemas together have at most 256 KiB of JSON. An event is validated by the version
    /// that its `ce-schemaversion` names, else by the one whose `uri` is its `ce-dataschema`, else by the highest.
    /// Versions are compared as numbers: 1.2 and 1.2.0 are the same. An edit takes effect within 5 seconds for events
    /// not yet read. Events can't name a version that was removed, and it can come back only as it was.
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["version".into()]))]
    pub versions: Vec<EventSchemaVersion>,
}

/// A Producer in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalProducerRef {
    /// Name of a Producer in the same namespace. The Producer may be created later; until then condition ResolvedRefs
    /// is False.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::PRODUCER_NAME))]
    pub name: String,
}

/// One version of an event type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EventSchemaVersion {
    /// The version: one to three numbers with dots between them, such as `1`, `1.2` or `1.2.0`. The first number is the
    /// major version. Each version has to accept everything that older ones of its major version accept.
    #[schemars(length(min = 1, max = 29), regex(pattern = patterns::SCHEMA_VERSION))]
    pub version: String,
    /// The URI by which events name this version in `ce-dataschema`. Nothing is read from it. It can't be edited once
    /// the version is published. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::VISIBLE))]
    pub uri: Option<String>,
    /// The JSON Schema of the data, 2020-12 or, where `$schema` says so, draft-07. References stay within the document
    /// and don't lead back to themselves; patterns have neither back-references nor look-around; `format` only
    /// annotates. It can't be edited once the version is published.
    pub json_schema: JsonText,
    /// Whether publishers should move on from this version. Events of a deprecated version are still accepted, and
    /// counted in the dispatchers' metric `hookwright_dispatcher_deprecated_events_total`. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<bool>,
}

/// What the operator last saw of an EventSchema.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventSchemaStatus {
    /// The `metadata.generation` that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The state in conditions: Accepted (every schema compiles, no published version was edited, minor versions are
    /// compatible; the message has the JSON pointer of a problem), ResolvedRefs (the Producer exists), Programmed (all
    /// dispatchers have loaded the EventSchema), Ready (the summary), Reconciling (readiness is pending) and Stalled
    /// (it can't be reached without an edit).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Option<Vec<Condition>>,
    /// The highest published version that is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<String>,
    /// The published versions. They stay in force while an edit is not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 220))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["version".into()]))]
    pub versions: Option<Vec<PublishedVersion>>,
}

/// A version that was accepted and so is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishedVersion {
    /// The version.
    pub version: String,
    /// A digest of the version's schema and uri, by which the operator notices an edit.
    pub digest: String,
    /// True if the version was removed: events can't name it, and it can come back only as it was. The 200 highest
    /// removed versions are remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<bool>,
}
