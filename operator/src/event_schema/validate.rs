//! Step 2: checks that the schemas compile, that published versions are unchanged, and that versions are compatible.

use hookwright_core::event::event_type::EventTypePattern;
use hookwright_core::nats::ids::EventSchemaUid;
use hookwright_core::schema::VersionedSchema;
use hookwright_core::schema::{SchemaError, SchemaVersion, digest};
use hookwright_crds::{EventSchema, EventSchemaVersion, Reason};
use kube::{Resource, ResourceExt};

use super::fetch::Fetched;
use crate::cache::schema_checks::SchemaChecks;
use crate::refusal::Refusal;

/// An EventSchema whose versions are valid.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ValidatedEventSchema {
    pub(super) uid: EventSchemaUid,
    pub(super) generation: i64,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) producer: String,
    pub(super) event_type: String,
    pub(super) versions: Vec<VersionedSchema>,
}

pub(super) fn validate(
    object: &EventSchema,
    uid: &EventSchemaUid,
    fetched: &Fetched,
    checks: &SchemaChecks,
) -> Result<ValidatedEventSchema, Refusal> {
    let event_type = &object.spec.type_;
    if !EventTypePattern::parse(event_type).is_ok_and(|pattern| pattern.is_exact()) {
        return Err(Refusal::new(Reason::Invalid, format!("{event_type:?} is not an event type.")));
    }
    if let Some(older) = &fetched.older {
        let message = format!("EventSchema {older:?} has type {event_type:?} as well, and is older.");
        return Err(Refusal::new(Reason::TypeConflict, message));
    }
    if let Some(refusal) = &fetched.crowded
        // An EventSchema that is in force stays accepted.
        && fetched.in_force.is_empty()
    {
        return Err(refusal.clone());
    }
    let versions = object.spec.versions.iter().map(version).collect::<Result<Vec<_>, Refusal>>()?;
    for version in &versions {
        published(version, fetched)?;
    }
    if versions != fetched.in_force {
        // Versions that are in force have been checked already.
        checks.check(uid, &versions, &fetched.in_force).map_err(|error| refusal(&error))?;
    }
    Ok(ValidatedEventSchema {
        uid: uid.clone(),
        generation: object.meta().generation.unwrap_or_default(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        producer: object.spec.producer_ref.name.clone(),
        event_type: event_type.clone(),
        versions,
    })
}

fn version(version: &EventSchemaVersion) -> Result<VersionedSchema, Refusal> {
    let parsed = SchemaVersion::parse(&version.version);
    // The API server admits JSON objects only. A text that can't be read is one that is nested too deep.
    let json_schema = serde_json::from_str(version.json_schema.as_str()).map_err(|_| {
        let message = format!("Version {}: the schema's JSON is nested too deep to be read.", version.version);
        Refusal::new(Reason::Invalid, message)
    })?;
    Ok(VersionedSchema {
        version: parsed.map_err(|error| Refusal::new(Reason::Invalid, format!("{error}.")))?,
        uri: version.uri.clone(),
        json_schema,
        deprecated: version.deprecated.unwrap_or_default(),
    })
}

/// Checks that a published version is unchanged, also if it was removed for a while.
fn published(version: &VersionedSchema, fetched: &Fetched) -> Result<(), Refusal> {
    let same = |text: &str| SchemaVersion::parse(text).is_ok_and(|other| other == version.version);
    let before = fetched.published.iter().find(|published| same(&published.version));
    match before {
        Some(before) if before.digest != digest(version) => Err(Refusal::new(
            Reason::VersionPublished,
            format!(
                "Version {} is published, and its schema and uri can't be edited: put it back, and add a new version. \
                 What is published stays in force.",
                version.version
            ),
        )),
        _ => Ok(()),
    }
}

fn refusal(error: &SchemaError) -> Refusal {
    let reason = match error {
        SchemaError::Incompatible { .. } => Reason::IncompatibleVersion,
        _ => Reason::Invalid,
    };
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    Refusal::new(reason, format!("{first}{}.", letters.as_str()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use hookwright_crds::PublishedVersion;
    use serde_json::{Value, json};

    pub(in crate::event_schema) fn object(versions: Value) -> EventSchema {
        serde_json::from_value(json!({
            "apiVersion": "hookwright.dev/v1alpha1",
            "kind": "EventSchema",
            "metadata": { "name": "created", "namespace": "shop", "uid": "e-1", "generation": 2 },
            "spec": { "producerRef": { "name": "orders" }, "type": "order.created", "versions": versions },
        }))
        .unwrap()
    }

    pub(in crate::event_schema) fn validated(
        versions: Value,
        fetched: &Fetched,
    ) -> Result<ValidatedEventSchema, Refusal> {
        validate(&object(versions), &EventSchemaUid::parse("e-1").unwrap(), fetched, &SchemaChecks::default())
    }

    fn refused(versions: Value, fetched: &Fetched) -> (&'static str, String) {
        let refusal = validated(versions, fetched).unwrap_err();
        (refusal.reason.as_str(), refusal.message)
    }

    #[test]
    fn refusals_name_the_place() {
        let none = Fetched::default();
        let schema = |schema: Value| json!([{ "version": "1", "jsonSchema": schema }]);
        assert!(validated(schema(json!({ "type": "object" })), &none).is_ok());
        let (reason, message) = refused(schema(json!({ "properties": { "a": { "type": "strin" } } })), &none);
        assert_eq!(reason, "Invalid");
        assert!(message.starts_with("Version 1: /properties/a/type: not a valid JSON Schema"), "{message}");
        let minors = json!([
            { "version": "1.0", "jsonSchema": { "type": "object" } },
            { "version": "1.1", "jsonSchema": { "type": "object", "required": ["a"] } },
        ]);
        let (reason, message) = refused(minors, &none);
        assert_eq!(reason, "IncompatibleVersion");
        assert!(message.starts_with("Version 1.1 is not compatible with 1.0: /required: "), "{message}");
        let deep = format!("{}{{}}{}", r#"{"not":"#.repeat(200), "}".repeat(200));
        let deep: EventSchema = serde_json::from_str(
            &serde_json::to_string(&object(schema(json!({}))))
                .unwrap()
                .replace(r#""jsonSchema":{}"#, &format!(r#""jsonSchema":{deep}"#)),
        )
        .unwrap();
        let checks = SchemaChecks::default();
        let refusal = validate(&deep, &EventSchemaUid::parse("e-1").unwrap(), &none, &checks).unwrap_err();
        assert_eq!(refusal.message, "Version 1: the schema's JSON is nested too deep to be read.");
        let rival = Fetched { older: Some("first".into()), ..Fetched::default() };
        assert_eq!(refused(schema(json!({})), &rival).0, "TypeConflict");
        let mut crowded =
            Fetched { crowded: Some(Refusal::new(Reason::TooManyEventSchemas, "x")), ..Fetched::default() };
        assert_eq!(refused(schema(json!({})), &crowded).0, "TooManyEventSchemas");
        crowded.in_force = validated(schema(json!({})), &none).unwrap().versions;
        assert!(validated(schema(json!({})), &crowded).is_ok(), "it has its place");
    }

    #[test]
    fn what_is_in_force_is_not_checked_again_and_any_change_of_it_is() {
        let versions = |second: &str| {
            json!([
                { "version": "1.0", "jsonSchema": { "type": "object" } },
                { "version": second, "jsonSchema": { "type": "string" } },
            ])
        };
        let records = object(versions("1.1")).spec.versions.iter().map(version).collect::<Result<_, _>>().unwrap();
        let fetched = Fetched { in_force: records, ..Fetched::default() };
        assert!(validated(versions("1.1"), &fetched).is_ok());
        assert_eq!(refused(versions("1.2"), &fetched).0, "IncompatibleVersion");
    }

    #[test]
    fn a_version_that_is_left_out_counts_for_those_that_follow_it() {
        let versions = |list: &[(&str, Value)]| -> Value {
            list.iter().map(|(version, schema)| json!({ "version": version, "jsonSchema": schema })).collect()
        };
        let (wide, narrow) = (json!({ "type": "object" }), json!({ "type": "object", "required": ["a"] }));
        let in_force = |list: &[(&str, Value)]| Fetched {
            in_force: validated(versions(list), &Fetched::default()).unwrap().versions,
            ..Fetched::default()
        };
        let fetched = in_force(&[("1.0", wide.clone()), ("2.0", wide.clone())]);
        let (reason, message) = refused(versions(&[("1.1", narrow.clone())]), &fetched);
        assert_eq!(reason, "IncompatibleVersion");
        assert!(message.starts_with("Version 1.1 is not compatible with 1.0: /required: "), "{message}");
        for allowed in [
            &[("1.1", wide.clone())][..],
            &[("2.0", wide.clone())],
            &[("3", narrow.clone()), ("2.0.0", wide.clone())],
            &[("0.9", narrow.clone()), ("1.0", wide.clone())],
        ] {
            assert!(validated(versions(allowed), &fetched).is_ok(), "{allowed:?}");
        }
        let lower = in_force(&[("1.5", wide)]);
        assert!(validated(versions(&[("1.4", narrow)]), &lower).is_ok(), "as if 1.5 were removed with the next edit");
    }

    #[test]
    fn a_published_version_stays_as_it_was_even_after_a_pause() {
        let version = |schema: Value| json!([{ "version": "1.0", "jsonSchema": schema }]);
        let first = validated(version(json!({ "type": "object" })), &Fetched::default()).unwrap();
        let published =
            PublishedVersion { version: "1".into(), digest: digest(&first.versions[0]), removed: Some(true) };
        let fetched = Fetched { published: vec![published], ..Fetched::default() };
        assert!(validated(version(json!({ "type": "object" })), &fetched).is_ok());
        assert_eq!(refused(version(json!({})), &fetched).0, "VersionPublished");
        let deprecated = json!([{ "version": "1.0", "jsonSchema": { "type": "object" }, "deprecated": true }]);
        assert!(validated(deprecated, &fetched).is_ok());
    }
}
