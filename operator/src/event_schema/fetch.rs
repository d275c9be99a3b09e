//! Step 1: reads the Producer, other EventSchemas of the Producer, and the versions that are published already.

use std::sync::Arc;

use hookwright_core::nats::ids::{EventSchemaUid, ProducerUid};
use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey};
use hookwright_core::record::{self, EventSchemaRecord};
use hookwright_core::schema::VersionedSchema;
use hookwright_core::schema::digest;
use hookwright_crds::{EventSchema, PublishedVersion, Reason};
use kube::{Resource, ResourceExt};

use crate::cache::references::RefersToProducer;
use crate::context::Context;
use crate::nats::jetstream::JsResult;
use crate::quotas::{self, Age};
use crate::refusal::Refusal;

/// What the EventSchema is checked against.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    /// The Producer's uid; none if the Producer doesn't exist or is being deleted.
    pub(super) producer: Option<ProducerUid>,
    /// The name of an older EventSchema for the same type, if there is one.
    pub(super) older: Option<String>,
    /// Why other EventSchemas leave no room for this one, if they do.
    pub(super) crowded: Option<Refusal>,
    /// The versions that were accepted once, by the status and by the record that dispatchers have.
    pub(super) published: Vec<PublishedVersion>,
    /// The versions that dispatchers have.
    pub(super) in_force: Vec<VersionedSchema>,
}

pub(super) async fn fetch(schema: &Arc<EventSchema>, uid: &EventSchemaUid, ctx: &Context) -> JsResult<Fetched> {
    ctx.producers.listed.wait().await;
    ctx.schemas.listed.wait().await;
    let producer = ctx.producers.store.get(&schema.producer_ref());
    let producer = producer.filter(|producer| producer.meta().deletion_timestamp.is_none());
    let producer = producer.and_then(|producer| ProducerUid::parse(&ctx.identities.of(&*producer)).ok());
    let mut published = schema.status.as_ref().and_then(|status| status.versions.clone()).unwrap_or_default();
    let mut in_force = Vec::new();
    if let Some(producer) = &producer {
        let key = ConfigKey::Schema(producer.clone(), uid.clone()).to_string();
        let entry = ctx.js.get(CONFIG_BUCKET, &key).await?;
        let record = entry.and_then(|entry| record::decode::<EventSchemaRecord>(&entry.value).ok());
        in_force = record.map(|record| record.versions).unwrap_or_default();
        for version in &in_force {
            if !published.iter().any(|known| known.version == version.version.as_str()) {
                let (digest, version) = (digest(version), version.version.to_string());
                published.push(PublishedVersion { version, digest, removed: None });
            }
        }
    }
    let rivals = ctx.schemas.of_producer(&schema.producer_ref());
    let crowded = no_room(schema, &rivals, ctx);
    Ok(Fetched { producer, older: older(schema, &rivals, ctx), crowded, published, in_force })
}

/// Returns the age of an EventSchema.
fn age(schema: &Arc<EventSchema>, ctx: &Context) -> Age {
    quotas::age(&**schema, is_accepted(schema, ctx))
}

/// Returns whether a generation of this EventSchema was ever accepted.
fn is_accepted(schema: &Arc<EventSchema>, ctx: &Context) -> bool {
    let latest = ctx.schemas.own_writes.newest(schema);
    latest.status.as_ref().is_some_and(|status| status.latest.is_some())
}

/// Returns why the others of the Producer, or of the namespace, leave no room for this EventSchema, if they do.
fn no_room(schema: &Arc<EventSchema>, rivals: &[Arc<EventSchema>], ctx: &Context) -> Option<Refusal> {
    let most = ctx.settings.limits.event_schemas_per_producer;
    if crowded(schema, rivals, most, ctx) {
        let message = format!("The Producer has {most} other EventSchemas already, and may have no more.");
        return Some(Refusal::new(Reason::TooManyEventSchemas, message));
    }
    let namespace = schema.namespace();
    let all = ctx
        .schemas
        .store
        .state_filter(|other| other.meta().deletion_timestamp.is_none() && other.namespace() == namespace);
    let most = ctx.settings.quotas.of(&namespace.unwrap_or_default()).event_schemas;
    crowded(schema, &all, most, ctx).then(|| quotas::beyond("EventSchemas", most))
}

/// Returns whether others leave no room for this EventSchema. The older ones count, whether they are accepted or not,
/// and so do all that were accepted.
fn crowded(schema: &Arc<EventSchema>, rivals: &[Arc<EventSchema>], most: usize, ctx: &Context) -> bool {
    let counts = |rival: &&Arc<EventSchema>| {
        rival.uid() != schema.uid() && (age(rival, ctx) < age(schema, ctx) || is_accepted(rival, ctx))
    };
    rivals.len() > most && rivals.iter().filter(counts).count() >= most
}

/// Returns the name of an older EventSchema for the same type. Only the oldest one for a type is used.
fn older(schema: &Arc<EventSchema>, rivals: &[Arc<EventSchema>], ctx: &Context) -> Option<String> {
    let older = |rival: &&Arc<EventSchema>| {
        rival.spec.type_ == schema.spec.type_ && rival.uid() != schema.uid() && age(rival, ctx) < age(schema, ctx)
    };
    rivals.iter().find(older).map(|rival| rival.name_any())
}
