//! The payload of a Subscription's webhooks, and what its Producer withholds from it.

use std::collections::{BTreeMap, BTreeSet};

use hookwright_core::payload::{self, Mode, Payload, Program, Transform, overlap};
use hookwright_crds::{EffectivePayload, PayloadMode, PayloadPolicy, Reason};

use crate::payload_policies::{self, pointers};
use crate::refusal::Refusal;

/// Checks `spec.payload`.
pub(super) fn payload(spec: Option<&hookwright_crds::Payload>) -> Result<Payload, Refusal> {
    let Some(spec) = spec else { return Ok(Payload::default()) };
    let read = |field: &str, texts: Option<&Vec<String>>| pointers(&format!("payload.{field}"), texts);
    let (include, exclude) = (read("include", spec.include.as_ref())?, read("exclude", spec.exclude.as_ref())?);
    if let Some((i, j)) = overlap(&include, &exclude) {
        let message = format!(
            "payload.include[{i}] {:?} and payload.exclude[{j}] {:?} overlap.",
            include[i].as_str(),
            exclude[j].as_str()
        );
        return Err(Refusal::new(Reason::Invalid, message));
    }
    let mode = spec.mode.map(|mode| match mode {
        PayloadMode::Binary => Mode::Binary,
        PayloadMode::Structured => Mode::Structured,
        PayloadMode::Envelope => Mode::Envelope,
    });
    let transform = spec.transform.as_ref().map(transform).transpose()?;
    Ok(Payload { mode, include, exclude, transform })
}

/// Checks `spec.payload.transform` by compiling it, as dispatchers will.
fn transform(spec: &hookwright_crds::Transform) -> Result<Transform, Refusal> {
    let refuse = |message: &str| Refusal::new(Reason::Invalid, message);
    let program = match (&spec.template, &spec.jmespath, &spec.cel) {
        (Some(text), None, None) => Program::Template(text.clone()),
        (None, Some(text), None) => Program::Jmespath(text.clone()),
        (None, None, Some(text)) => Program::Cel(text.clone()),
        _ => return Err(refuse("payload.transform must have exactly one of template, jmespath and cel.")),
    };
    let transform = Transform { program, content_type: spec.content_type.clone() };
    transform.check().map_err(|invalid| refuse(&invalid.to_string()))?;
    Ok(transform)
}

/// Returns what the Producer withholds from the Subscriptions of a namespace: everything that any of the policies that
/// hold for it excludes, and all that their filters don't let through.
///
/// # Errors
/// If one of these policies can't be read. Nothing may be sent then, as nobody knows what it withholds. What is wrong is
/// for the Producer's owner to know.
pub(super) fn policy(
    policies: &[PayloadPolicy],
    is_own: bool,
    labels: Option<&BTreeMap<String, String>>,
) -> Result<payload::PayloadPolicy, Refusal> {
    let (mut exclude, mut filters) = (BTreeSet::new(), Vec::new());
    for (i, policy) in policies.iter().enumerate().filter(|(_, policy)| policy.holds(is_own, labels)) {
        let Ok((fields, more)) = payload_policies::policy(i, policy) else {
            let message = "The Producer's payload policies can't be applied; its status says why.";
            return Err(Refusal::new(Reason::ProducerNotReady, message));
        };
        exclude.extend(fields);
        more.into_iter().for_each(|filter| {
            if !filters.contains(&filter) {
                filters.push(filter)
            }
        });
    }
    Ok(payload::PayloadPolicy { exclude: exclude.into_iter().collect(), filters })
}

/// Returns what status shows. It doesn't tell which fields the Producer withholds.
pub(super) fn shown(
    spec: Option<&hookwright_crds::Payload>,
    policy: &Result<payload::PayloadPolicy, Refusal>,
) -> EffectivePayload {
    let mode = spec.and_then(|payload| payload.mode).unwrap_or_default();
    EffectivePayload { mode, producer_policy: policy.as_ref().map_or(true, |policy| !policy.is_empty()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn payloads_that_are_refused() {
        let read = |spec: Value| payload(Some(&serde_json::from_value(spec).unwrap()));
        for (spec, says) in [
            (json!({ "mode": "Envelope", "include": ["/a"], "exclude": ["/b"] }), None),
            (json!({ "include": ["/a", "b"] }), Some("payload.include[1]: \"b\" is not a JSON pointer")),
            (json!({ "exclude": ["/a~2"] }), Some("payload.exclude[0]: ")),
            (json!({ "transform": { "template": "{{ data.id }}" } }), None),
            (json!({ "transform": {} }), Some("exactly one of template, jmespath and cel")),
            (json!({ "transform": { "template": "a", "cel": "a" } }), Some("exactly one of")),
            (json!({ "transform": { "jmespath": "{a: data.id}" } }), None),
            (json!({ "transform": { "jmespath": "{a: data.}" } }), Some("payload.transform.jmespath: ")),
            (json!({ "transform": { "cel": "{'a': data." } }), Some(", at line 1, column ")),
            (json!({ "transform": { "template": "\n{{ data." } }), Some("payload.transform.template, line 2: ")),
            (
                json!({ "transform": { "template": "{% filter upper %}{% endfilter %}" } }),
                Some("filter is not supported"),
            ),
            (json!({ "transform": { "template": "", "contentType": "no" } }), Some("payload.transform.contentType: ")),
            (
                json!({ "include": ["/x", "/a/b"], "exclude": ["/a"] }),
                Some("payload.include[1] \"/a/b\" and payload.exclude[0]"),
            ),
        ] {
            let refused = read(spec.clone()).err();
            assert_eq!(refused.is_some(), says.is_some(), "{spec}");
            assert!(refused.is_none_or(|refusal| refusal.message.contains(says.unwrap())), "{spec}");
        }
    }

    #[test]
    fn exclusions_unite_and_what_cannot_be_read_lets_nothing_through() {
        let labels: BTreeMap<String, String> = [("team".to_owned(), "red".to_owned())].into();
        let of = |policies: Value, is_own| {
            policy(&serde_json::from_value::<Vec<_>>(policies).unwrap(), is_own, Some(&labels))
        };
        let red =
            json!({ "from": "Selector", "selector": { "matchLabels": { "team": "red" } }, "exclude": ["/b", "/a"] });
        let all = json!({ "from": "All", "exclude": ["/c", "/a"] });
        let eu = json!({ "exact": { "region": "eu" } });
        let own = json!({ "from": "Same", "exclude": ["/d"], "filters": [eu] });
        let more = json!({ "from": "All", "filters": [{ "sql": "TRUE" }, eu] });
        let broken = json!({ "from": "Same", "exclude": ["d"] });
        let exclude = |policies, is_own| {
            let policy = of(policies, is_own)?;
            Ok::<_, Refusal>(policy.exclude.iter().map(|pointer| pointer.as_str().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(exclude(json!([red, all, own]), false).unwrap(), ["/a", "/b", "/c"]);
        assert_eq!(exclude(json!([own]), false).unwrap(), [""; 0]);
        assert_eq!(exclude(json!([own]), true).unwrap(), ["/d"]);
        assert_eq!(exclude(json!([broken.clone()]), false).unwrap(), [""; 0]);
        assert_eq!(of(json!([own, more, own]), true).unwrap().filters.len(), 2, "each filter once");
        assert_eq!(of(json!([own]), false).unwrap().filters, []);
        let refused = exclude(json!([broken]), true).unwrap_err().message;
        assert!(!refused.contains("exclude") && !refused.contains("\"d\""), "{refused}");
    }
}
