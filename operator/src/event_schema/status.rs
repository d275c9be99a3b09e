//! Step 5: what came of it, in status.

use hookwright_core::record::EventSchemaRecord;
use hookwright_core::schema::{SchemaVersion, digest};
use hookwright_crds::{ConditionStatus, ConditionType, EventSchema, EventSchemaStatus, PublishedVersion, Reason};
use hookwright_runtime::logging;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Resource, ResourceExt};

use super::EventSchemaError;
use super::apply::ApplyError;
use super::fetch::Fetched;
use crate::cache::leases::Rollout;
use crate::context::Context;
use crate::metrics::Kind;
use crate::nats::jetstream::JsError;
use crate::refusal::Refusal;
use crate::status::conditions::{self, Judgement, find, summarize};
use crate::status::events;
use crate::status::write::{RECONCILER, StatusError, write_status};

/// How many versions that were removed are remembered.
const REMEMBERED: usize = 200;

/// What came of a reconcile.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The record is in place.
    Applied { rollout: Rollout, fresh: bool, versions: Vec<PublishedVersion> },
    /// The spec can't be used; what was published stays.
    Refused(Refusal),
    /// There is no Producer.
    Unresolved(Refusal),
    /// NATS is away.
    Unavailable,
    /// It would not be done; the reason is said.
    Failed(String),
}

impl Outcome {
    pub(super) fn failed(error: &EventSchemaError) -> Self {
        let nats = match error {
            EventSchemaError::Fetch(nats) | EventSchemaError::Leases(nats) | EventSchemaError::Cleanup(nats) => {
                Some(nats)
            }
            EventSchemaError::Apply(ApplyError::Nats(nats)) => Some(nats),
            _ => None,
        };
        if nats.is_some_and(JsError::is_unavailable) { Self::Unavailable } else { Self::Failed(logging::chain(error)) }
    }
}

/// Whether `Programmed` is true for this generation already.
pub(super) fn is_latched(schema: &EventSchema) -> bool {
    let conditions = schema.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    find(conditions, ConditionType::Programmed).is_some_and(|programmed| {
        programmed.status == "True" && programmed.observed_generation == schema.meta().generation
    })
}

/// What is published once this record is: its versions, and those that were.
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

fn judge(outcome: &Outcome, before: &[Condition], generation: i64) -> Vec<(ConditionType, Judgement)> {
    let away = || Judgement::unknown(Reason::NatsUnavailable, "NATS doesn't answer the operator.");
    let accepted = match outcome {
        Outcome::Refused(refusal) => Judgement::accepted(Err(refusal)),
        Outcome::Unavailable => {
            let old = find(before, ConditionType::Accepted).filter(|old| old.observed_generation == Some(generation));
            if old.is_some_and(|old| old.status == "True") { Judgement::accepted(Ok(())) } else { away() }
        }
        _ => Judgement::accepted(Ok(())),
    };
    let resolved = match outcome {
        Outcome::Refused(_) => Judgement::unknown(Reason::Pending, "Waiting for a spec that can be accepted."),
        Outcome::Unresolved(refusal) => Judgement::fails(refusal),
        _ => Judgement::holds(Reason::ResolvedRefs, "The Producer was found."),
    };
    let programmed = match outcome {
        Outcome::Applied { rollout, .. } => Judgement::programmed(*rollout),
        Outcome::Refused(_) | Outcome::Unresolved(_) => {
            Judgement::unknown(Reason::Pending, "Waiting for a spec that can be accepted and resolved.")
        }
        Outcome::Unavailable => away(),
        Outcome::Failed(message) => {
            Judgement { status: ConditionStatus::False, reason: Reason::Pending, message: message.clone() }
        }
    };
    let latch = !matches!(outcome, Outcome::Applied { fresh: true, .. });
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
pub(super) async fn write(ctx: &Context, schema: &EventSchema, outcome: &Outcome) -> Result<(), StatusError> {
    let old = schema.status.clone().unwrap_or_default();
    let before = old.conditions.clone().unwrap_or_default();
    let generation = schema.meta().generation.unwrap_or_default();
    let refused = |old: &Condition| old.status == "False" && old.observed_generation == Some(generation);
    if matches!(outcome, Outcome::Unavailable) && find(&before, ConditionType::Accepted).is_some_and(refused) {
        // NATS being away changes nothing about that.
        return Ok(());
    }
    let conditions = conditions::dated(judge(outcome, &before, generation), &before, generation, conditions::now());
    let (latest, versions) = match outcome {
        Outcome::Applied { versions, .. } => (latest(versions), Some(versions.clone())),
        _ => (old.latest.clone(), old.versions.clone()),
    };
    let new =
        EventSchemaStatus { observed_generation: Some(generation), conditions: Some(conditions), latest, versions };
    if same(&old, &new) {
        return Ok(());
    }
    let api = Api::namespaced(ctx.client.clone(), &schema.namespace().unwrap_or_default());
    ctx.status_budget.spend();
    let answer = match write_status(&api, schema, RECONCILER, &new).await {
        Ok(answer) => answer,
        Err(error) if error.is_gone() => return Ok(()),
        Err(error) => return Err(error),
    };
    ctx.schemas.own_writes.remember(answer);
    ctx.metrics.status_writes.get_or_create(&Kind { kind: "EventSchema" }).inc();
    events::transitions(&ctx.recorder, schema, &before, new.conditions.as_deref().unwrap_or_default()).await;
    Ok(())
}

/// Whether two statuses are the same; the order of lists, which the API server chooses, doesn't count.
fn same(old: &EventSchemaStatus, new: &EventSchemaStatus) -> bool {
    let sorted = |status: &EventSchemaStatus| {
        let mut status = status.clone();
        status.conditions.iter_mut().for_each(|list| list.sort_by(|a, b| a.type_.cmp(&b.type_)));
        status.versions.iter_mut().for_each(|list| list.sort_by(|a, b| a.version.cmp(&b.version)));
        status
    };
    sorted(old) == sorted(new)
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
        let loaded = Outcome::Applied { rollout: Rollout::Loaded, fresh: false, versions: vec![] };
        for (outcome, want) in [
            (
                loaded,
                "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs, Programmed=True Programmed, Ready=True Ready",
            ),
            (
                Outcome::Refused(Refusal::new(Reason::IncompatibleVersion, "x")),
                "Accepted=False IncompatibleVersion, ResolvedRefs=Unknown Pending, Programmed=Unknown Pending, \
                 Ready=False IncompatibleVersion, Stalled=True IncompatibleVersion",
            ),
            (
                Outcome::Unresolved(Refusal::new(Reason::ProducerNotFound, "x")),
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
