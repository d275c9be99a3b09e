//! The namespaces whose Subscriptions may refer to a Producer.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns;
use crate::schema::plain_enum;

/// The namespaces whose Subscriptions may refer to a Producer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "(self.from == 'Selector') == has(self.selector)",
    "selector is required with from: Selector, and refused otherwise"
))]
pub struct AllowedNamespaces {
    /// Where Subscriptions may be: Same (the Producer's own namespace), All (every namespace) or Selector (the
    /// namespaces whose labels match selector). The Producer's own namespace is always allowed.
    pub from: FromNamespaces,
    /// The labels of allowed namespaces. A namespace has to fulfil every requirement that is given here, and at least
    /// one has to be given. Required with from Selector, refused otherwise. A user who may label a namespace can let it
    /// in, unless the requirement is on the label `kubernetes.io/metadata.name`: the API server sets it to the
    /// namespace's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
    /// How far back a Subscription of another namespace may start: SinceGrant (at the first event that was published
    /// after its namespace was let in) or All (at any event that the stream has). A namespace that was shut out, or
    /// created again, is let in anew. Default: SinceGrant. An edit has an effect on Subscriptions that are created later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// How far back a Subscription of another namespace may start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum History {
    /// At the first event after the grant.
    #[default]
    SinceGrant,
    /// At any event that the stream has.
    All,
}

/// Which namespaces are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum FromNamespaces {
    /// Only the Producer's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// The namespaces whose labels match the selector.
    Selector,
}

/// Requirements on a namespace's labels, all of which have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "(has(self.matchLabels) && self.matchLabels.size() > 0) || \
     (has(self.matchExpressions) && self.matchExpressions.size() > 0)",
    "selector needs matchLabels or matchExpressions; use from: All for every namespace"
))]
pub struct NamespaceSelector {
    /// Labels that a namespace must have, each with this value: at most 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    pub match_labels: Option<BTreeMap<String, LabelValue>>,
    /// Requirements on single labels: at most 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub match_expressions: Option<Vec<LabelRequirement>>,
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[x_kube(validation = (
    "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
    "operators In and NotIn require values, Exists and DoesNotExist exclude them"
))]
pub struct LabelRequirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// What has to hold: In (the label is there with one of values), NotIn (the label is absent or has another value),
    /// Exists (the label is there) or DoesNotExist (the label is absent).
    pub operator: LabelOperator,
    /// Values of the label: at most 32. Required with operators In and NotIn, refused otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub values: Option<Vec<LabelValue>>,
}

/// What has to hold for a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum LabelOperator {
    /// The label has one of the values.
    In,
    /// The label has none of the values, or is absent.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// The value of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct LabelValue(#[schemars(length(max = 63), regex(pattern = patterns::LABEL_VALUE))] pub String);

impl AllowedNamespaces {
    /// Whether Subscriptions of another namespace with these labels may refer to the Producer.
    pub fn admits(&self, labels: &BTreeMap<String, String>) -> bool {
        match (self.from, &self.selector) {
            (FromNamespaces::All, _) => true,
            (FromNamespaces::Selector, Some(selector)) => selector.matches(labels),
            (FromNamespaces::Selector, None) | (FromNamespaces::Same, _) => false,
        }
    }
}

impl NamespaceSelector {
    /// Whether these labels fulfil every requirement; false if there is none.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let exact = self.match_labels.iter().flatten();
        let expressions = self.match_expressions.iter().flatten();
        if exact.clone().next().is_none() && expressions.clone().next().is_none() {
            return false;
        }
        exact.into_iter().all(|(key, value)| labels.get(key) == Some(&value.0))
            && expressions.into_iter().all(|requirement| requirement.holds(labels))
    }
}

impl LabelRequirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let listed = || value.is_some_and(|value| self.values.iter().flatten().any(|wanted| wanted.0 == *value));
        match self.operator {
            LabelOperator::In => listed(),
            LabelOperator::NotIn => !listed(),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn who_is_let_in() {
        let labels: BTreeMap<String, String> = [("team".to_owned(), "red".to_owned())].into();
        let selector = |selector: Value| json!({ "from": "Selector", "selector": selector });
        let expression = |value: Value| selector(json!({ "matchExpressions": [value] }));
        for (allowed, want) in [
            (json!({ "from": "Same" }), false),
            (json!({ "from": "All" }), true),
            (selector(json!({ "matchLabels": { "team": "red" } })), true),
            (selector(json!({ "matchLabels": { "team": "blue" } })), false),
            (selector(json!({ "matchLabels": { "team": "red", "tier": "1" } })), false),
            (expression(json!({ "key": "team", "operator": "In", "values": ["blue", "red"] })), true),
            (expression(json!({ "key": "tier", "operator": "In", "values": ["1"] })), false),
            (expression(json!({ "key": "team", "operator": "NotIn", "values": ["red"] })), false),
            (expression(json!({ "key": "tier", "operator": "NotIn", "values": ["1"] })), true),
            (expression(json!({ "key": "team", "operator": "Exists" })), true),
            (expression(json!({ "key": "team", "operator": "DoesNotExist" })), false),
            (expression(json!({ "key": "tier", "operator": "DoesNotExist" })), true),
            // The API server admits none of these.
            (selector(json!({})), false),
            (json!({ "from": "Selector" }), false),
        ] {
            let read: AllowedNamespaces = serde_json::from_value(allowed.clone()).unwrap();
            assert_eq!(read.admits(&labels), want, "{allowed}");
        }
    }
}
