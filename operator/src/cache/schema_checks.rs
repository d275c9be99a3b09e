//! The results of schema checks, so that the schemas of an object are compiled and compared once only.

use std::collections::HashMap;

use hookwright_core::nats::ids::EventSchemaUid;
use hookwright_core::schema::VersionedSchema;
use hookwright_core::schema::{SchemaError, check_edit, digest};

use crate::cache::shared::Shared;

/// The last check of each EventSchema that exists.
#[derive(Default)]
pub(crate) struct SchemaChecks(Shared<HashMap<EventSchemaUid, Check>>);

struct Check {
    case: Case,
    result: Result<(), SchemaError>,
}

/// The input of a check: the versions and what is in force, by digest.
#[derive(PartialEq)]
struct Case([Vec<(String, String)>; 2]);

impl Case {
    fn of(versions: &[VersionedSchema], in_force: &[VersionedSchema]) -> Self {
        Self(
            [versions, in_force].map(|list| {
                list.iter().map(|version| (version.version.as_str().to_owned(), digest(version))).collect()
            }),
        )
    }
}

impl SchemaChecks {
    /// Returns what [`check_edit`] finds, from memory if the input is the same as before.
    pub(crate) fn check(
        &self,
        uid: &EventSchemaUid,
        versions: &[VersionedSchema],
        in_force: &[VersionedSchema],
    ) -> Result<(), SchemaError> {
        let case = Case::of(versions, in_force);
        if let Some(known) = self.0.lock().get(uid).filter(|known| known.case == case) {
            return known.result.clone();
        }
        let result = check_edit(versions, in_force);
        self.0.lock().insert(uid.clone(), Check { case, result: result.clone() });
        result
    }

    pub(crate) fn forget(&self, uid: &EventSchemaUid) {
        self.0.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookwright_core::schema::SchemaVersion;
    use serde_json::{Value, json};

    #[test]
    fn the_same_is_checked_once_and_anything_else_anew() {
        let uid = EventSchemaUid::parse("e-1").unwrap();
        let versions = |text: &str, json_schema: Value| {
            let version = SchemaVersion::parse(text).unwrap();
            vec![VersionedSchema { version, uri: None, json_schema, deprecated: false }]
        };
        let (wide, broken) = (versions("1.0", json!({})), versions("1.1", json!({ "type": "nothing" })));
        let narrow = versions("1.1", json!({ "type": "object" }));
        let checks = SchemaChecks::default();
        assert!(matches!(checks.check(&uid, &broken, &[]), Err(SchemaError::Invalid { .. })));
        // No check would find this error.
        let mark = |checks: &SchemaChecks| checks.0.lock().get_mut(&uid).unwrap().result = Err(SchemaError::Count(99));
        mark(&checks);
        assert_eq!(checks.check(&uid, &broken, &[]), Err(SchemaError::Count(99)), "it is remembered");
        assert_eq!(checks.check(&uid, &narrow, &[]), Ok(()), "an edit");
        assert!(checks.check(&uid, &narrow, &wide).is_err(), "something else is in force");
        mark(&checks);
        checks.forget(&uid);
        assert!(checks.0.lock().is_empty() && checks.check(&uid, &narrow, &[]).is_ok());
    }
}
