//! Step 5: writes the result into status.

use hookwright_core::record::EventSchemaRecord;
use hookwright_core::schema::{SchemaVersion, digest};
use hookwright_crds::{ConditionStatus, ConditionType, EventSchema, EventSchemaStatus, PublishedVersion, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;

use super::fetch::Fetched;
use crate::cache::leases::Rollout;
use crate::context::Context;
use crate::reconcile::error::ReconcileError;
use crate::refusal::Refusal;
use crate::status::budget::StatusBudget;
use crate::status::conditions::{self, Judgement, find, holds_for, is_refused, summarize};
use crate::status::write::{ReconciledObject, StatusError, sorted};

/// The number of removed versions that status remembers.
const REMEMBERED: usize = 200;

/// The result of a reconcile.
#[derive(Debug)]
pub(super) enum SchemaOutcome {
    /// The record is in place.
    Applied { rollout: Rollout, fresh: bool, versions: Vec<PublishedVersion> },
    /// The spec can't be used. What was published stays in force.
    Refused(Refusal),
    /// The Producer doesn't exist.
    Unresolved(Refusal),
    /// NATS is away.
    Unavailable,
    /// The reconcile failed for another reason.
    Failed(Refusal),
}

impl SchemaOutcome {
    pub(super) fn failed(error: &ReconcileError) -> Self {
        if error.is_unavailable() { Self::Unavailable } else { Self::Failed(error.shown()) }
    }
}

/// Returns the versions that are published once this record is, and those that were published before.
pub(super) fn published(record: &EventSchemaRecord, fetched: &Fetched) -> Vec<PublishedVersion> {
    let number = |version: &PublishedVersion| SchemaVersion::parse(&version.version).ok();
    let mut versions: Vec<PublishedVersion> = record
        .versions
        .iter()
        .map(|version| PublishedVersion {
            version: version.version.to_string(),
            digest: digest(version),
            removed: None,
        })
        .collect();
    let current: Vec<_> = versions.iter().map(number).collect();
    let gone = fetched.published.iter().filter(|version| !current.contains(&number(version)));
    let mut gone: Vec<_> = gone.map(|version| PublishedVersion { removed: Some(true), ..version.clone() }).collect();
    gone.sort_by_key(|version| std::cmp::Reverse(number(version)));
    gone.truncate(REMEMBERED);
    versions.extend(gone);
    versions.sort_by_key(number);
    versions
}

fn latest(versions: &[PublishedVersion]) -> Option<String> {
    versions.iter().rev().find(|version| version.removed != Some(true)).map(|version| version.version.clone())
}

fn judge(outcome: &SchemaOutcome, before: &[Condition], generation: i64) -> Vec<(ConditionType, Judgement)> {
    let accepted = match outcome {
        SchemaOutcome::Refused(refusal) => Judgement::accepted(Err(refusal)),
        SchemaOutcome::Unavailable if !holds_for(before, ConditionType::Accepted, generation) => {
            Judgement::unavailable()
        }
        _ => Judgement::accepted(Ok(())),
    };
    let resolved = match outcome {
        SchemaOutcome::Refused(_) => Judgement::unknown(Reason::Pending, "Waiting for a spec that can be accepted."),
        SchemaOutcome::Unresolved(refusal) => Judgement::fails(refusal),
        _ => Judgement::holds(Reason::ResolvedRefs, "The Producer was found."),
    };
    let programmed = match outcome {
        SchemaOutcome::Applied { rollout, .. } => Judgement::programmed(*rollout),
        SchemaOutcome::Refused(_) | SchemaOutcome::Unresolved(_) => {
            Judgement::unknown(Reason::Pending, "Waiting for a spec that can be accepted and resolved.")
        }
        SchemaOutcome::Unavailable => Judgement::unavailable(),
        SchemaOutcome::Failed(failure) => Judgement::fails(failure),
    };
    let latch = !matches!(outcome, SchemaOutcome::Applied { fresh: true, .. });
    let programmed_before = find(before, ConditionType::Programmed).filter(|_| latch);
    let programmed = programmed.latched(programmed_before, generation);
    let mut all = summarize(vec![
        (ConditionType::Accepted, accepted),
        (ConditionType::ResolvedRefs, resolved),
        (ConditionType::Programmed, programmed),
    ]);
    for (kind, judgement) in &mut all {
        if *kind == ConditionType::Ready && judgement.status == ConditionStatus::True {
            judgement.message =
                "All live dispatchers have these schemas; the Producer's validation applies.".to_owned();
        }
    }
    all
}

/// Writes the status if it differs from what is there.
pub(super) async fn write(ctx: &Context, schema: &EventSchema, outcome: &SchemaOutcome) -> Result<(), StatusError> {
    let old = schema.status.clone().unwrap_or_default();
    let before = EventSchema::conditions(&old);
    let generation = schema.meta().generation.unwrap_or_default();
    if matches!(outcome, SchemaOutcome::Unavailable) && is_refused(before, generation) {
        return Ok(());
    }
    let conditions = conditions::dated(judge(outcome, before, generation), before, generation, conditions::now());
    let (latest, versions) = match outcome {
        SchemaOutcome::Applied { versions, .. } => (latest(versions), Some(versions.clone())),
        _ => (old.latest, old.versions),
    };
    let new =
        EventSchemaStatus { observed_generation: Some(generation), conditions: Some(conditions), latest, versions };
    ctx.status.write_if_changed(&ctx.schemas, schema, &new, StatusBudget::always).await.map(drop)
}

impl ReconciledObject for EventSchema {
    fn reconciled(status: &EventSchemaStatus) -> impl PartialEq {
        let mut status = status.clone();
        status.conditions = Some(sorted(status.conditions.as_deref()));
        status.versions.iter_mut().for_each(|list| list.sort_by(|a, b| a.version.cmp(&b.version)));
        status
    }

    fn conditions(status: &EventSchemaStatus) -> &[Condition] {
        status.conditions.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::build;
    use super::super::validate::tests::validated;
    use super::*;
    use hookwright_core::nats::ids::ProducerUid;
    use serde_json::json;

    #[test]
    fn conditions_by_outcome() {
        let loaded = SchemaOutcome::Applied { rollout: Rollout::Loaded, fresh: false, versions: vec![] };
        for (outcome, want) in [
            (
                loaded,
                "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs, Programmed=True Programmed, Ready=True Ready",
            ),
            (
                SchemaOutcome::Refused(Refusal::new(Reason::IncompatibleVersion, "x")),
                "Accepted=False IncompatibleVersion, ResolvedRefs=Unknown Pending, Programmed=Unknown Pending, \
                 Ready=False IncompatibleVersion, Stalled=True IncompatibleVersion",
            ),
            (
                SchemaOutcome::Unresolved(Refusal::new(Reason::ProducerNotFound, "x")),
                "Accepted=True Accepted, ResolvedRefs=False ProducerNotFound, Programmed=Unknown Pending, \
                 Ready=False ProducerNotFound",
            ),
        ] {
            let text = |(kind, judgement): &(ConditionType, Judgement)| {
                format!("{}={} {}", kind.as_str(), judgement.status.as_str(), judgement.reason.as_str())
            };
            assert_eq!(judge(&outcome, &[], 1).iter().map(text).collect::<Vec<_>>().join(", "), want);
        }
    }

    #[test]
    fn what_was_published_is_remembered() {
        let versions =
            |names: &[&str]| json!(names.iter().map(|v| json!({ "version": v, "jsonSchema": {} })).collect::<Vec<_>>());
        let mut fetched = Fetched { producer: Some(ProducerUid::parse("p-1").unwrap()), ..Fetched::default() };
        let mut publish = |names: &[&str]| {
            let record = build(&validated(versions(names), &fetched).unwrap(), &fetched).unwrap();
            fetched.published = published(&record, &fetched);
            let text =
                |v: &PublishedVersion| format!("{}{}", v.version, if v.removed == Some(true) { "-" } else { "" });
            (fetched.published.iter().map(text).collect::<Vec<_>>().join(" "), latest(&fetched.published))
        };
        assert_eq!(publish(&["1.9", "1.10"]), ("1.9 1.10".into(), Some("1.10".into())));
        assert_eq!(publish(&["1.9"]), ("1.9 1.10-".into(), Some("1.9".into())));
        assert_eq!(publish(&["2", "1.10"]), ("1.9- 1.10 2".into(), Some("2".into())));
    }
}
