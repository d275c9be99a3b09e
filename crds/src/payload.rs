//! What a webhook carries of an event.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::allowed_namespaces::{FromNamespaces, NamespaceSelector};
use crate::filter::Filter;
use crate::patterns;
use crate::schema::plain_enum;

/// What a webhook carries of an event, and in which form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.include) || !has(self.exclude) || self.include.all(i, self.exclude.all(e, \
     i != e && !i.startsWith(e + '/') && !e.startsWith(i + '/')))",
    "include and exclude overlap: a field is in both, or within a field of the other"
))]
pub struct Payload {
    /// The form of the webhook. Binary: the body is the event's data, and its attributes are in `ce-*` headers.
    /// Structured: the body is the whole event as `application/cloudevents+json`. Envelope: the body is
    /// `{"type", "timestamp", "data"}` as JSON, as Standard Webhooks has it; text becomes a JSON string, and bytes
    /// become `data_base64`. Default: Binary; without this field, an event that was published in structured mode keeps
    /// its form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<PayloadMode>,
    /// The only fields of the event's JSON data that are sent: JSON pointers (RFC 6901) such as `/customer/id`, at most
    /// 32. A field that an event lacks is left out. An event whose data isn't JSON becomes a dead letter
    /// TransformFailed. Default: all fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256), regex(pattern = patterns::JSON_POINTER)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub include: Option<Vec<String>>,
    /// Fields of the event's JSON data that are not sent: JSON pointers such as `/customer/email`, at most 32. None may
    /// be one of include, contain one or be within one. An event whose data isn't JSON becomes a dead letter
    /// TransformFailed. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256), regex(pattern = patterns::JSON_POINTER)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exclude: Option<Vec<String>>,
    /// What makes a new body of the event, such as a message for a chat. It takes the place of the event's data; without
    /// `mode` it is the whole body. It gets what include and exclude leave. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
}

/// What makes a new body of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.template), has(self.jmespath), has(self.cel)].filter(x, x).size() == 1",
    "transform has exactly one of template, jmespath and cel"
))]
pub struct Transform {
    /// A template in the language of Jinja, at most 16 KiB: `{"text": "Order {{ data.id }} of {{ tenantid }}"}`. It knows
    /// the event's attributes by their names, and `data`. In a JSON body values are escaped by their place: as a part of
    /// the text between quotes, as JSON elsewhere. A variable that an event lacks, a result that isn't JSON, too much
    /// work or more than 1 MiB make the delivery a dead letter TransformFailed; nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub template: Option<String>,
    /// A JMESPath expression whose value is the new body, at most 4096 bytes: `{text: join(' ', ['Order', data.id])}`. It
    /// knows the event's attributes by their names, and `data`; what isn't there is null. A value of null, an evaluation
    /// that fails, too much work or more than 1 MiB make the delivery a dead letter TransformFailed; nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub jmespath: Option<String>,
    /// A CEL expression whose value is the new body, at most 4096 bytes: `{'text': 'Order ' + data.id}`. It knows the
    /// event's attributes by their names, and `data`. A field or an extension that an event lacks, a value of null, an
    /// evaluation that fails, too much work or more than 1 MiB make the delivery a dead letter TransformFailed; nothing is
    /// sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub cel: Option<String>,
    /// The content type of the new body. If it isn't JSON, values in a template are not escaped, and an expression whose
    /// value is a text makes the body of that text. Default: `application/json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 128), regex(pattern = patterns::CONTENT_TYPE))]
    pub content_type: Option<String>,
}

/// The form of a webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum PayloadMode {
    /// The data is the body, and the attributes are in headers.
    #[default]
    Binary,
    /// The body is the whole event as JSON.
    Structured,
    /// The body is `{type, timestamp, data}`.
    Envelope,
}

/// What the Subscriptions of some namespaces don't get to see of the Producer's events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "(self.from == 'Selector') == has(self.selector)",
    "selector is required with from: Selector, and refused otherwise"
))]
#[x_kube(validation = ("has(self.exclude) || has(self.filters)", "a policy needs exclude, filters or both"))]
pub struct PayloadPolicy {
    /// For the Subscriptions of which namespaces this holds: Same (the Producer's own namespace), All (every namespace,
    /// the Producer's own included) or Selector (the namespaces whose labels match selector).
    pub from: FromNamespaces,
    /// The labels of these namespaces. A namespace has to fulfil every requirement that is given here, and at least one
    /// has to be given. Required with from Selector, refused otherwise. A user who may label a namespace can take it
    /// out, unless the requirement is on the label `kubernetes.io/metadata.name`: the API server sets it to the
    /// namespace's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
    /// Fields of the event's JSON data that these Subscriptions don't get, nor anything of theirs that looks at the
    /// data: JSON pointers (RFC 6901) such as `/customer/email`, 1 to 32. Data that isn't JSON is withheld whole.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 256), regex(pattern = patterns::JSON_POINTER)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exclude: Option<Vec<String>>,
    /// Which events these Subscriptions may get at all: those that pass each of these filters, 1 to 10, such as
    /// `[{exact: {region: eu}}]`. They look at whole events, and are evaluated at each attempt. What doesn't pass, and what
    /// can't be evaluated or costs too much to, is dropped and counted in `status.delivery.forbidden`. Default: all events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10))]
    pub filters: Option<Vec<Filter>>,
}

impl PayloadPolicy {
    /// Whether this holds for the Subscriptions of a namespace with these labels. If they aren't known, it does.
    pub fn holds(&self, is_own: bool, labels: Option<&BTreeMap<String, String>>) -> bool {
        match (self.from, &self.selector) {
            (FromNamespaces::Same, _) => is_own,
            (FromNamespaces::Selector, Some(selector)) => labels.is_none_or(|labels| selector.matches(labels)),
            (FromNamespaces::All, _) | (FromNamespaces::Selector, None) => true,
        }
    }
}

/// What applies to the payload of a Subscription's webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectivePayload {
    /// The form of the webhooks: Binary, Structured or Envelope.
    pub mode: PayloadMode,
    /// Whether `spec.payloadPolicies` of the Producer withhold events or something of their data.
    pub producer_policy: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn for_which_namespaces_a_policy_holds() {
        let labels: BTreeMap<String, String> = [("team".to_owned(), "red".to_owned())].into();
        let selector = |team: &str| json!({ "from": "Selector", "selector": { "matchLabels": { "team": team } } });
        for (policy, own, labels, want) in [
            (json!({ "from": "Same" }), true, Some(&labels), true),
            (json!({ "from": "Same" }), false, Some(&labels), false),
            (json!({ "from": "All" }), true, Some(&labels), true),
            (json!({ "from": "All" }), false, None, true),
            (selector("red"), false, Some(&labels), true),
            (selector("red"), true, Some(&labels), true),
            (selector("blue"), false, Some(&labels), false),
            (selector("blue"), false, None, true),
            (json!({ "from": "Selector" }), false, Some(&labels), true),
        ] {
            let mut object: Value = policy.clone();
            object["exclude"] = json!(["/a"]);
            let policy: PayloadPolicy = serde_json::from_value(object).unwrap();
            assert_eq!(policy.holds(own, labels), want, "{policy:?}");
        }
    }
}
