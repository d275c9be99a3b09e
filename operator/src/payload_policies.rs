//! Reads `spec.payloadPolicies` of a Producer: for the Producer itself, which has to be told what is wrong, and for its
//! Subscriptions, which must not be told what is withheld.

use hookwright_core::payload::Pointer;
use hookwright_core::select::filter::{Filter, Filters};
use hookwright_crds::{PayloadPolicy, Reason};

use crate::refusal::Refusal;

/// Reads the pointers in a field.
pub(crate) fn pointers(field: &str, texts: Option<&Vec<String>>) -> Result<Vec<Pointer>, Refusal> {
    let read = |(i, text): (usize, &String)| {
        let invalid = |error| Refusal::new(Reason::Invalid, format!("{field}[{i}]: {error}."));
        Pointer::parse(text).map_err(invalid)
    };
    texts.into_iter().flatten().enumerate().map(read).collect()
}

/// Reads the filters in `prefix` + `filters`, and compiles them as dispatchers do, so that they can compile what is accepted
/// here.
pub(crate) fn filters(prefix: &str, filters: Option<&Vec<hookwright_crds::Filter>>) -> Result<Vec<Filter>, Refusal> {
    let mut read = Vec::new();
    for (i, filter) in filters.into_iter().flatten().enumerate() {
        let message = || format!("{prefix}filters[{i}] must have exactly one dialect, and so must each filter in it.");
        read.push(filter.read().ok_or_else(|| Refusal::new(Reason::Invalid, message()))?);
    }
    match Filters::compile(&read) {
        Ok(_) => Ok(read),
        Err(error) => Err(Refusal::new(Reason::InvalidFilter, format!("{prefix}{error}"))),
    }
}

/// Reads a policy, the one with this number.
pub(crate) fn policy(i: usize, policy: &PayloadPolicy) -> Result<(Vec<Pointer>, Vec<Filter>), Refusal> {
    let place = format!("payloadPolicies[{i}]");
    let exclude = pointers(&format!("{place}.exclude"), policy.exclude.as_ref())?;
    Ok((exclude, filters(&format!("{place}."), policy.filters.as_ref())?))
}

/// Checks all policies of a Producer.
pub(crate) fn check(policies: Option<&Vec<PayloadPolicy>>) -> Result<(), Refusal> {
    policies.into_iter().flatten().enumerate().try_for_each(|(i, each)| policy(i, each).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_policy_that_cannot_be_used_says_where() {
        let checked = |policies: Value| check(Some(&serde_json::from_value(policies).unwrap()));
        let good = json!({ "from": "All", "exclude": ["/a"], "filters": [{ "exact": { "region": "eu" } }] });
        for (second, says) in [
            (good.clone(), None),
            (json!({ "from": "All", "exclude": ["/a", "b"] }), Some("payloadPolicies[1].exclude[1]: \"b\" is not")),
            (
                json!({ "from": "Same", "filters": [{ "sql": "id =" }] }),
                Some("payloadPolicies[1].filters[0].sql: expected a value, at line 1, column 5:\nid =\n    ^"),
            ),
            (json!({ "from": "Same", "filters": [{}] }), Some("payloadPolicies[1].filters[0] must have exactly one")),
        ] {
            let refused = checked(json!([good, second])).err().map(|refusal| refusal.message);
            assert_eq!(refused.is_some(), says.is_some(), "{refused:?}");
            assert!(refused.as_ref().is_none_or(|message| message.starts_with(says.unwrap())), "{refused:?}");
        }
    }
}
