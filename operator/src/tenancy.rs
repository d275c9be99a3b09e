//! Which streams and subjects a namespace may use.
//!
//! The operator acts with its own NATS rights for objects that tenants write, so a setting says what they may name. A
//! namespace that isn't listed may use the subjects under `<namespace>.` and the streams that begin with
//! `<namespace>_`. The name of a namespace has neither a dot nor an underscore, so no two namespaces share a subject or
//! a stream. Names that belong to NATS or to Hookwright are refused, whatever the settings say.

use std::collections::HashMap;

use hookwright_core::nats::names::{STREAM_PREFIX, SUBJECT_PREFIX};
use hookwright_core::nats::subject::is_within;
use hookwright_crds::Reason;
use serde::Deserialize;

use crate::refusal::Refusal;

/// Prefixes of streams that belong to Hookwright, or to buckets.
const RESERVED_STREAMS: [&str; 4] = [STREAM_PREFIX, "KV_", "OBJ_", "$"];
/// Prefixes of subjects that belong to Hookwright or to the server, or that are inboxes.
const RESERVED_SUBJECTS: [&str; 3] = [SUBJECT_PREFIX, "$", "_INBOX"];

/// The grants of the listed namespaces, by name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Tenancy(HashMap<String, Grant>);

/// What a namespace may use. If a list isn't given, the namespace may use what one that isn't listed may.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    subjects: Option<Vec<SubjectGrant>>,
    streams: Option<Vec<StreamGrant>>,
}

/// A subject that is granted, with the wildcards of NATS.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct SubjectGrant(String);

/// The name of a stream that is granted, or the beginning of such names before a `*`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct StreamGrant(String);

impl TryFrom<String> for SubjectGrant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !is_subject(&text) {
            return Err(format!("tenancy: {text:?} is not a NATS subject"));
        }
        // `>` means every subject that isn't reserved.
        if text != ">" && is_reserved_subject(&text) {
            return Err(format!(
                "tenancy: subject {text:?} can't be granted, as it belongs to Hookwright or to the server"
            ));
        }
        Ok(Self(text))
    }
}

impl TryFrom<String> for StreamGrant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = text.strip_suffix('*').unwrap_or(&text);
        let open = name.len() < text.len();
        if !(is_stream_name(name) || open && name.is_empty()) {
            return Err(format!("tenancy: {text:?} is neither a stream's name nor the beginning of one before a '*'"));
        }
        if is_reserved_stream(name) {
            return Err(format!(
                "tenancy: stream {text:?} can't be granted, as it belongs to Hookwright or to a bucket"
            ));
        }
        Ok(Self(text))
    }
}

impl StreamGrant {
    fn covers(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => self.0 == name,
        }
    }
}

impl Tenancy {
    /// Checks whether a Producer of this namespace may name this stream.
    pub(crate) fn allows_stream(&self, namespace: &str, name: &str) -> Result<(), Refusal> {
        let refuse = |why: String| {
            Err(Refusal::new(Reason::StreamNameNotAllowed, format!("stream.name {name:?} is not allowed{why}")))
        };
        if is_reserved_stream(name) {
            return refuse(": it belongs to Hookwright or to a bucket.".to_owned());
        }
        match self.0.get(namespace).and_then(|grant| grant.streams.as_ref()) {
            Some(granted) if granted.iter().any(|grant| grant.covers(name)) => Ok(()),
            Some(granted) => {
                let granted: Vec<&str> = granted.iter().map(|grant| grant.0.as_str()).collect();
                refuse(format!(" in this namespace, which may use: {}.", listed(&granted)))
            }
            None => {
                let prefix = format!("{namespace}_");
                let allowed = name.starts_with(&prefix);
                if allowed { Ok(()) } else { refuse(format!(" in this namespace: it must begin with {prefix:?}.")) }
            }
        }
    }

    /// Checks whether a Producer of this namespace may name this subject, which must be a valid one.
    pub(crate) fn allows_subject(&self, namespace: &str, subject: &str) -> Result<(), Refusal> {
        let refuse = |why: String| {
            Err(Refusal::new(Reason::SubjectNotAllowed, format!("subject {subject:?} is not allowed{why}")))
        };
        if is_reserved_subject(subject) {
            return refuse(": it can match subjects that belong to Hookwright or to the server.".to_owned());
        }
        match self.0.get(namespace).and_then(|grant| grant.subjects.as_ref()) {
            Some(granted) if granted.iter().any(|grant| is_within(subject, &grant.0)) => Ok(()),
            Some(granted) => {
                let granted: Vec<&str> = granted.iter().map(|grant| grant.0.as_str()).collect();
                refuse(format!(" in this namespace, which may use: {}.", listed(&granted)))
            }
            None if is_within(subject, &format!("{namespace}.>")) => Ok(()),
            None => {
                let prefix = format!("{namespace}.");
                refuse(format!(" in this namespace: it must begin with {prefix:?}."))
            }
        }
    }
}

fn listed(granted: &[&str]) -> String {
    if granted.is_empty() { "none".to_owned() } else { granted.join(", ") }
}

/// Returns whether the name is valid for a stream, for its files and for a token of a subject.
pub(crate) fn is_stream_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Returns whether the text is a valid subject, with or without wildcards.
pub(crate) fn is_subject(subject: &str) -> bool {
    let count = subject.split('.').count();
    let token_ok = |(i, token): (usize, &str)| match token {
        "" => false,
        "*" => true,
        ">" => i + 1 == count,
        other => other.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>'),
    };
    subject.len() <= 255 && subject.split('.').enumerate().all(token_ok)
}

fn is_reserved_stream(name: &str) -> bool {
    RESERVED_STREAMS.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns whether a subject can match a reserved one. A subject that begins with a wildcard can.
fn is_reserved_subject(subject: &str) -> bool {
    RESERVED_SUBJECTS.iter().any(|prefix| subject.starts_with(prefix)) || subject.starts_with(['*', '>'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn tenancy(settings: Value) -> Tenancy {
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn a_namespace_that_is_not_listed_keeps_to_its_name() {
        let tenancy = tenancy(json!({ "other": { "subjects": ["shop.>"], "streams": ["shop_*"] } }));
        for (subject, want) in [
            ("shop.>", true),
            ("shop.a.*", true),
            ("shop", false),
            ("shopping.>", false),
            ("other.>", false),
            ("*.a", false),
            (">", false),
        ] {
            assert_eq!(tenancy.allows_subject("shop", subject).is_ok(), want, "{subject}");
        }
        for (stream, want) in [("shop_a", true), ("shop", false), ("shopping_a", false), ("KV_shop_a", false)] {
            assert_eq!(tenancy.allows_stream("shop", stream).is_ok(), want, "{stream}");
        }
    }

    #[test]
    fn a_listed_namespace_has_what_is_listed_and_no_more() {
        let tenancy = tenancy(json!({
            "shop": { "subjects": ["legacy.orders.>", "plain"], "streams": ["LEGACY", "shop-*"] },
            "half": { "streams": ["LEGACY"] },
            "none": { "subjects": [], "streams": [] },
        }));
        for (namespace, subject, want) in [
            ("shop", "legacy.orders.eu", true),
            ("shop", "plain", true),
            ("shop", "legacy.>", false),
            ("shop", "legacy.*.eu", false),
            ("shop", "shop.a", false),
            ("half", "half.a", true),
            ("half", "legacy.orders.eu", false),
            ("none", "none.a", false),
        ] {
            assert_eq!(tenancy.allows_subject(namespace, subject).is_ok(), want, "{namespace} {subject}");
        }
        for (namespace, stream, want) in [
            ("shop", "LEGACY", true),
            ("shop", "shop-1", true),
            ("shop", "LEGACY2", false),
            ("shop", "shop_1", false),
            ("half", "half_1", false),
            ("none", "none_1", false),
        ] {
            assert_eq!(tenancy.allows_stream(namespace, stream).is_ok(), want, "{namespace} {stream}");
        }
    }

    #[test]
    fn what_is_reserved_is_refused_whatever_is_granted() {
        let tenancy = tenancy(json!({ "shop": { "subjects": [">"], "streams": ["*"] } }));
        assert!(tenancy.allows_subject("shop", "anything.>").is_ok());
        assert!(tenancy.allows_stream("shop", "ANYTHING").is_ok());
        let subjects = ["hookwright.parked.>", "hookwright.>", "$JS.API.>", "$KV.HOOKWRIGHT_CONFIG.>", "_INBOX.x"];
        for subject in subjects.into_iter().chain(["_INBOX_operator.>", ">", "*.parked.>", "*"]) {
            assert_eq!(
                tenancy.allows_subject("shop", subject).unwrap_err().reason,
                Reason::SubjectNotAllowed,
                "{subject}"
            );
        }
        for stream in ["HOOKWRIGHT_PARKED", "HOOKWRIGHT_DEAD_LETTERS", "KV_HOOKWRIGHT_CONFIG", "KV_x", "OBJ_x", "$x"] {
            assert_eq!(
                tenancy.allows_stream("shop", stream).unwrap_err().reason,
                Reason::StreamNameNotAllowed,
                "{stream}"
            );
        }
        let refusal = tenancy.allows_subject("hookwright", "hookwright.a").unwrap_err();
        assert_eq!(refusal.reason, Reason::SubjectNotAllowed, "even in a namespace of that name");
    }

    #[test]
    fn settings_that_make_no_sense() {
        for grant in [
            json!({ "subjects": ["a..b"] }),
            json!({ "subjects": [""] }),
            json!({ "subjects": ["hookwright.parked.>"] }),
            json!({ "subjects": ["$JS.API.>"] }),
            json!({ "subjects": ["*.a"] }),
            json!({ "streams": ["a.b"] }),
            json!({ "streams": ["a*b"] }),
            json!({ "streams": [""] }),
            json!({ "streams": ["KV_x"] }),
            json!({ "streams": ["HOOKWRIGHT_*"] }),
            json!({ "topics": ["a"] }),
        ] {
            assert!(serde_json::from_value::<Tenancy>(json!({ "shop": grant })).is_err(), "{grant}");
        }
    }
}
