//! Step 1: reads the Producer, the Service and the Secrets that the Subscription refers to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hookwright_core::nats::ids::ProducerUid;
use hookwright_core::payload::PayloadPolicy;
use hookwright_crds::{
    ConditionStatus, ConditionType, DEFAULT_SIGNING_KEY, Delivery, History, Producer, SecretKeyRef, Subscription,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::{Resource, ResourceExt};

use super::payload;
use super::signing::{self, Former, GeneratedKeys};
use super::versions::{Versions, of_metadata};
use crate::cache::producers::LiveProducer;
use crate::cache::references::{RefersToProducer, is_foreign};
use crate::cache::services::NotListed;
use crate::context::Context;
use crate::refusal::Refusal;
use crate::secrets::{self, SecretError};
use crate::status::conditions::find;

/// A Producer that exists.
pub(crate) struct FoundProducer {
    pub(crate) uid: ProducerUid,
    /// Whether its spec is accepted; none if the operator has not looked at the Producer yet.
    pub(crate) accepted: Option<Result<(), Refusal>>,
    pub(crate) live: Option<LiveProducer>,
    /// What its Subscriptions inherit.
    pub(crate) delivery: Option<Delivery>,
    /// How far back Subscriptions of other namespaces may start.
    pub(crate) history: History,
    /// What it withholds from this Subscription.
    pub(crate) payload_policy: Result<PayloadPolicy, Refusal>,
}

/// A Secret with a generated key.
pub(crate) struct Generated {
    pub(crate) name: String,
    pub(crate) secret: Secret,
    /// Whether it belongs to this Subscription.
    pub(crate) is_ours: bool,
}

/// What the Subscription refers to.
#[derive(Default)]
pub(crate) struct Fetched {
    /// The uid by which the API server knows the Subscription.
    pub(crate) object_uid: String,
    /// The versions of all but the Secrets.
    pub(super) versions: Versions,
    /// Whether all was looked at that the Subscription refers to.
    pub(super) is_complete: bool,
    /// The Producer; none if it doesn't exist, is being deleted, or doesn't admit the Subscription's namespace.
    pub(crate) producer: Option<FoundProducer>,
    /// Whether the Producer doesn't exist, or is being deleted and admits the Subscription's namespace.
    pub(crate) producer_is_gone: bool,
    /// Whether the Producer exists and can't be read: nobody knows what it says.
    pub(crate) producer_unreadable: bool,
    /// The Service that `endpoint.serviceRef` names, if it exists.
    pub(crate) service: Option<Arc<Service>>,
    /// Whether it is not known yet which Services exist.
    pub(crate) services_unlisted: bool,
    /// The Secrets by name; none for one that doesn't exist.
    pub(crate) secrets: HashMap<String, Option<Secret>>,
    /// The Secrets with generated keys if the spec names no key.
    pub(crate) generated: Vec<Generated>,
}

impl Fetched {
    pub(crate) fn live_producer(&self) -> Option<(&ProducerUid, &LiveProducer)> {
        let producer = self.producer.as_ref()?;
        Some((&producer.uid, producer.live.as_ref()?))
    }

    /// Returns the delivery policy that the Subscription inherits.
    pub(crate) fn delivery(&self) -> Option<&Delivery> {
        self.producer.as_ref()?.delivery.as_ref()
    }

    /// Returns whether the generated Secret still belongs to an earlier Subscription of this name.
    pub(crate) fn waits_for_garbage_collection(&self, subscription: &Subscription) -> bool {
        let Some(Generated { secret, is_ours: false, .. }) = self.generated.first() else { return false };
        secret.owner_references().iter().any(|owner| {
            owner.kind == Subscription::kind(&()) && Some(&owner.name) == subscription.meta().name.as_ref()
        })
    }
}

/// Reads it. A former generated key whose Secret is gone is taken out of `keys`: it signs no more.
pub(crate) async fn fetch(
    subscription: &Subscription,
    keys: &mut Option<GeneratedKeys>,
    ctx: &Context,
) -> Result<Fetched, SecretError> {
    let mut fetched = found(subscription, ctx).await;
    fetched.producer_unreadable =
        fetched.producer.is_none() && ctx.producers.unreadable.contains(&subscription.producer_ref());
    if fetched.producer.is_none() && is_foreign(subscription) {
        fetched.producer_is_gone = is_gone(subscription, ctx).await;
        // Without a grant nothing is served, whatever the Secrets are. A Secret that can't be read must not keep the
        // record in place.
        return Ok(fetched);
    }
    if let Some(reference) = &subscription.spec.endpoint.service_ref {
        let namespace = subscription.namespace().unwrap_or_default();
        match ctx.services.find(&namespace, reference).await {
            Ok(service) => {
                fetched.versions.service = Some(of_metadata(service.as_deref().map(Resource::meta)));
                fetched.service = service;
            }
            Err(NotListed) => fetched.services_unlisted = true,
        }
    }
    for (name, keys) in given_keys(subscription) {
        let secret = secrets::get(&ctx.secrets, subscription, &name, &keys).await?;
        fetched.secrets.insert(name, secret);
    }
    if let Some(keys) = keys {
        fetched.generated = generated(subscription, keys, ctx).await?;
    }
    fetched.is_complete = !fetched.services_unlisted;
    Ok(fetched)
}

async fn generated(
    subscription: &Subscription,
    keys: &mut GeneratedKeys,
    ctx: &Context,
) -> Result<Vec<Generated>, SecretError> {
    let name = keys.current.clone();
    let secret = secrets::generated(&ctx.secrets, subscription, &name).await?;
    let is_ours = secrets::is_ours(&secret, subscription);
    let mut found = vec![Generated { name, secret, is_ours }];
    for Former { secret: name, .. } in &keys.former {
        let key = BTreeSet::from([DEFAULT_SIGNING_KEY.to_owned()]);
        let secret = secrets::get(&ctx.secrets, subscription, name, &key).await?;
        if let Some(secret) = secret.filter(|secret| secrets::is_ours(secret, subscription)) {
            found.push(Generated { name: name.clone(), secret, is_ours: true });
        }
    }
    keys.former.retain(|former| found.iter().any(|found| found.name == former.secret));
    Ok(found)
}

/// Reads the Producer alone.
pub(super) async fn found(subscription: &Subscription, ctx: &Context) -> Fetched {
    let object_uid = subscription.uid().unwrap_or_default();
    let versions = Versions::now(subscription, ctx).await;
    Fetched { object_uid, versions, producer: producer(subscription, ctx).await, ..Fetched::default() }
}

/// Returns the Producer, if it exists and admits the Subscription's namespace.
async fn producer(subscription: &Subscription, ctx: &Context) -> Option<FoundProducer> {
    ctx.producers.listed.wait().await;
    let producer: Arc<Producer> = ctx.producers.store.get(&subscription.producer_ref())?;
    if producer.meta().deletion_timestamp.is_some() {
        return None;
    }
    if !ctx.namespaces.permits(&producer, &subscription.namespace().unwrap_or_default()).await {
        return None;
    }
    let uid = ProducerUid::parse(&ctx.identities.of(&*producer)).ok()?;
    let state = ctx.producer_states.first_look(&uid).await;
    let accepted =
        state.as_ref().map(|state| state.accepted.clone()).or_else(|| was_accepted(&producer).then_some(Ok(())));
    let delivery = producer.spec.delivery.clone();
    let history = producer.spec.allowed_namespaces.as_ref().and_then(|allowed| allowed.history).unwrap_or_default();
    let live = state.and_then(|state| state.live);
    let payload_policy = withheld(&producer, subscription, ctx).await;
    Some(FoundProducer { uid, accepted, live, delivery, history, payload_policy })
}

/// Returns whether the Producer doesn't exist, or is on its way there without having shut the Subscription out.
async fn is_gone(subscription: &Subscription, ctx: &Context) -> bool {
    let Some(producer) = ctx.producers.store.get(&subscription.producer_ref()) else { return true };
    let namespace = subscription.namespace().unwrap_or_default();
    producer.meta().deletion_timestamp.is_some() && ctx.namespaces.permits(&producer, &namespace).await
}

/// Returns what the Producer withholds from the Subscription.
async fn withheld(producer: &Producer, subscription: &Subscription, ctx: &Context) -> Result<PayloadPolicy, Refusal> {
    let Some(policies) = producer.spec.payload_policies.as_deref() else { return Ok(PayloadPolicy::default()) };
    let namespace = subscription.namespace().unwrap_or_default();
    let labels = ctx.namespaces.all_labels(&namespace).await;
    payload::policy(policies, !is_foreign(subscription), labels.as_ref())
}

/// Returns whether the Subscription uses this Secret. `overlap` is how long a generated key signs beside its successor.
pub(crate) fn uses_secret(subscription: &Subscription, name: &str, overlap: Duration) -> bool {
    given_keys(subscription).contains_key(name)
        || signing::generated(subscription, Timestamp::now(), overlap)
            .is_some_and(|keys| keys.secrets().any(|secret| secret == name))
}

/// Returns the keys of Secrets that the spec names.
pub(super) fn given_keys(subscription: &Subscription) -> BTreeMap<String, BTreeSet<String>> {
    let signing = subscription.spec.signing.iter().flat_map(|signing| &signing.keys).map(|key| &key.secret_key_ref);
    let headers = subscription.spec.endpoint.headers.iter().flatten();
    let headers = headers.filter_map(|header| header.value_from.as_ref()?.secret_key_ref.as_ref());
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for SecretKeyRef { name, key } in signing.chain(headers) {
        names.entry(name.clone()).or_default().insert(key.clone());
    }
    names
}

/// Returns whether the last written status says that a Producer is accepted that was not looked at since the operator's
/// start. What a refused Producer still does is not known before it was looked at.
fn was_accepted(producer: &Producer) -> bool {
    let conditions = producer.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let accepted = find(conditions, ConditionType::Accepted);
    accepted.is_some_and(|accepted| accepted.status == ConditionStatus::True.as_str())
}
