//! Step 3: builds the record, with its secrets in the clear.

use hookwright_core::destination::egress::Egress;
use hookwright_core::position::Flow;
use hookwright_core::record::{Identity, SubscriptionRecord, VERSION};
use hookwright_core::seal::Secret;
use hookwright_crds::{DEFAULT_SIGNING_KEY, Producer, Reason, SecretKeyRef};
use hookwright_runtime::logging;
use kube::runtime::reflector::ObjectRef;

use super::fetch::{Fetched, FoundProducer, Generated};
use super::validate::{SecretSource, ValidatedSubscription};
use crate::kubernetes::answer::{ApiError, Meaning};
use crate::refusal::Refusal;
use crate::secrets::{self, SecretError, Use, User};
use crate::services;

/// Something that the spec refers to can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unresolved {
    /// A reference is broken, for the reason in the refusal.
    Broken(Refusal),
    /// The Producer doesn't exist for this namespace, and the record was removed.
    NotPermitted(Refusal),
    /// It is not known yet whether the reference is broken, as something has not been looked at, or can't be read.
    Waiting(String),
}

impl Unresolved {
    /// Returns what it means that a Secret could not be read or created.
    pub(crate) fn unread(error: &SecretError) -> Self {
        let said = logging::chain(error);
        match error.api().map(ApiError::meaning) {
            Some(Meaning::Refused) => {
                let message =
                    format!("The operator tries again. What was in place stays so, unless it was edited: {said}");
                Self::Broken(Refusal::new(Reason::ApiRefused, message))
            }
            _ => Self::Waiting(said),
        }
    }

    /// Returns what it means that the Producer can't be read.
    pub(crate) fn producer_unreadable() -> Self {
        Self::Waiting("Waiting until the Producer can be read.".to_owned())
    }
}

impl From<Refusal> for Unresolved {
    fn from(refusal: Refusal) -> Self {
        Self::Broken(refusal)
    }
}

/// Returns the same for a Producer that doesn't exist as for one that doesn't admit the namespace. A namespace without
/// a grant must not learn the difference.
pub(crate) fn not_permitted(producer: &ObjectRef<Producer>) -> Unresolved {
    let namespace = producer.namespace.as_deref().unwrap_or_default();
    let message = format!(
        "Producer {:?} doesn't exist in namespace {namespace:?}, or its spec.allowedNamespaces doesn't allow this namespace.",
        producer.name
    );
    Unresolved::NotPermitted(Refusal::new(Reason::RefNotPermitted, message))
}

pub(crate) fn build(
    subscription: &ValidatedSubscription,
    fetched: &Fetched,
    egress: &Egress,
) -> Result<SubscriptionRecord<Secret>, Unresolved> {
    let producer = producer(&subscription.producer, fetched.producer.as_ref())?;
    let lookup = |reference: &SecretKeyRef, purpose| {
        let secret = fetched.secrets.get(&reference.name).and_then(Option::as_ref);
        secrets::value(&user(&subscription.identity, fetched), reference, purpose, secret)
    };
    let read = |source: SecretSource, _: &str| match source {
        SecretSource::Generated(name) => generated(&subscription.identity, &name, fetched),
        SecretSource::SigningKey(key) => {
            secrets::signing(&key.name, &key.key, lookup(&key, Use::Signing)?).map(Secret::new)
        }
        SecretSource::Header(key) => {
            secrets::header(&key.name, &key.key, &lookup(&key, Use::Endpoint)?).map(Secret::new)
        }
    };
    let namespace = &subscription.identity.namespace;
    let resolve = |reference| {
        if fetched.services_unlisted {
            return Err(Unresolved::Waiting("Waiting for the list of Services.".to_owned()));
        }
        services::resolve(namespace, reference, fetched.service.as_deref(), egress.of(namespace))
            .map_err(Unresolved::from)
    };
    let mut destination = subscription.destination.clone().try_map(read)?;
    destination.service = subscription.service.as_ref().map(resolve).transpose()?;
    Ok(SubscriptionRecord {
        version: VERSION,
        identity: subscription.identity.clone(),
        producer: producer.uid.clone(),
        select: subscription.select.clone(),
        payload: subscription.payload.clone(),
        payload_policy: producer.payload_policy.clone()?,
        destination: Some(destination),
        delivery: subscription.delivery.clone(),
        // What is left out follows from the record that is replaced.
        flow: Flow { suspended: subscription.suspended, resume: subscription.resume, skip_to: None },
    })
}

fn producer<'a>(name: &str, found: Option<&'a FoundProducer>) -> Result<&'a FoundProducer, Unresolved> {
    let Some(found) = found else {
        let message = format!("Producer {name:?} doesn't exist in this namespace.");
        return Err(Refusal::new(Reason::ProducerNotFound, message).into());
    };
    match &found.accepted {
        Some(Ok(())) => Ok(found),
        // What was accepted before is still in place.
        Some(Err(_)) if found.live.is_some() => Ok(found),
        Some(Err(refusal)) => {
            let message = format!("Producer {name:?} is not accepted: {}", refusal.message);
            Err(Refusal::new(Reason::ProducerNotReady, message).into())
        }
        None => Err(Unresolved::Waiting(format!("Waiting for Producer {name:?} to be accepted."))),
    }
}

fn user<'a>(subscription: &'a Identity, fetched: &'a Fetched) -> User<'a> {
    User { namespace: &subscription.namespace, uid: &fetched.object_uid }
}

fn generated(subscription: &Identity, name: &str, fetched: &Fetched) -> Result<Secret, Refusal> {
    let secret = match fetched.generated.iter().find(|generated| generated.name == name) {
        Some(Generated { secret, is_ours: true, .. }) => Some(secret),
        Some(_) => {
            let message = format!(
                "The key is to be generated into Secret {name:?}, and a Secret of this name exists that isn't this \
                 Subscription's: delete it, or name it in signing.keys."
            );
            return Err(Refusal::new(Reason::SecretNameTaken, message));
        }
        None => None,
    };
    let reference = SecretKeyRef { name: name.to_owned(), key: DEFAULT_SIGNING_KEY.to_owned() };
    let text = secrets::value(&user(subscription, fetched), &reference, Use::Signing, secret)?;
    secrets::signing(name, DEFAULT_SIGNING_KEY, text).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::validated;
    use super::*;
    use crate::cache::producers::LiveProducer;
    use crate::kubernetes::answer::tests::error;
    use hookwright_core::destination::HeaderValue;
    use hookwright_core::nats::ids::ProducerUid;
    use hookwright_core::payload::{PayloadPolicy, Pointer};
    use hookwright_core::record::StreamRef;
    use hookwright_crds::History;
    use serde_json::{Value, json};
    use std::collections::HashMap;

    const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    type KubeSecret = k8s_openapi::api::core::v1::Secret;

    fn secret_map(secrets: Vec<(&str, Option<KubeSecret>)>) -> HashMap<String, Option<KubeSecret>> {
        secrets.into_iter().map(|(name, secret)| (name.to_owned(), secret)).collect()
    }

    fn secret(data: &[(&str, &str)], label: &str) -> KubeSecret {
        use base64::Engine;
        let data: HashMap<&str, String> =
            data.iter().map(|(k, v)| (*k, base64::engine::general_purpose::STANDARD.encode(v))).collect();
        let labels = json!({ "hookwright.dev/use": label });
        serde_json::from_value(json!({ "metadata": { "name": "s", "labels": labels }, "data": data })).unwrap()
    }

    fn generated(is_ours: bool) -> Generated {
        Generated { name: "billing-signing".into(), secret: secret(&[("secret", WHSEC)], "signing"), is_ours }
    }

    fn found(accepted: Option<Result<(), Refusal>>) -> Fetched {
        let producer = FoundProducer {
            uid: ProducerUid::parse("p-1").unwrap(),
            accepted,
            live: None,
            delivery: None,
            history: History::SinceGrant,
            payload_policy: Ok(PayloadPolicy::default()),
        };
        let generated = vec![generated(true)];
        Fetched { producer: Some(producer), generated, ..Fetched::default() }
    }

    fn given() -> Value {
        json!({
            "signing": { "keys": [{ "secretKeyRef": { "name": "keys", "key": "new" } }] },
            "endpoint": { "url": "https://example.com", "headers": [
                { "name": "X-Team", "value": "a" },
                { "name": "Authorization", "valueFrom": { "secretKeyRef": { "name": "tokens", "key": "token" } } },
            ] },
        })
    }

    #[test]
    fn a_record_holds_what_the_spec_and_its_secrets_say() {
        let mut fetched = found(Some(Ok(())));
        let (keys, tokens) = (secret(&[("new", WHSEC)], "signing"), secret(&[("token", "Bearer hush\n")], "endpoint"));
        fetched.secrets = secret_map(vec![("keys", Some(keys)), ("tokens", Some(tokens))]);
        let record = build(&validated(&given()).unwrap(), &fetched, &Egress::default()).unwrap();
        let destination = record.destination.unwrap();
        assert_eq!((record.identity.generation, record.producer.as_str()), (2, "p-1"));
        assert_eq!(destination.url, "https://example.com/");
        assert_eq!(destination.signing, [Secret::new(WHSEC.into())]);
        assert_eq!(destination.headers[1].value, HeaderValue::Secret(Secret::new("Bearer hush".into())));
        let withheld = PayloadPolicy { exclude: vec![Pointer::parse("/a").unwrap()], filters: Vec::new() };
        fetched.producer.as_mut().unwrap().payload_policy = Ok(withheld.clone());
        let record = build(&validated(&given()).unwrap(), &fetched, &Egress::default()).unwrap();
        assert_eq!(record.payload_policy, withheld);
        let generated = build(&validated(&json!({})).unwrap(), &found(Some(Ok(()))), &Egress::default()).unwrap();
        assert_eq!(generated.destination.unwrap().signing, [Secret::new(WHSEC.into())]);
    }

    #[test]
    fn what_can_not_be_resolved() {
        let reason =
            |patch: &Value, fetched: &Fetched| match build(&validated(patch).unwrap(), fetched, &Egress::default()) {
                Err(Unresolved::Broken(refusal) | Unresolved::NotPermitted(refusal)) => refusal.reason.as_str(),
                Err(Unresolved::Waiting(_)) => "Waiting",
                Ok(_) => "Ok",
            };
        let none = json!({});
        assert_eq!(reason(&none, &Fetched::default()), "ProducerNotFound");
        assert_eq!(reason(&none, &found(None)), "Waiting");
        let refused = Refusal::new(Reason::SubjectConflict, "x");
        let mut refused = found(Some(Err(refused)));
        assert_eq!(reason(&none, &refused), "ProducerNotReady");
        let stream = StreamRef { name: "s".into(), created: jiff::Timestamp::UNIX_EPOCH };
        let live = LiveProducer { stream, consumer: "c".into(), filter: Vec::new(), revision: 1 };
        refused.producer.as_mut().unwrap().live = Some(live);
        assert_eq!(reason(&none, &refused), "Ok", "its last accepted spec is in force");
        let unread = Refusal::new(Reason::ProducerNotReady, "x");
        let mut unsure = found(Some(Ok(())));
        unsure.producer.as_mut().unwrap().payload_policy = Err(unread);
        assert_eq!(reason(&none, &unsure), "ProducerNotReady", "nobody knows what it withholds");
        let by_service = json!({ "endpoint": { "url": null, "serviceRef": { "name": "crm", "port": 8080 } } });
        let mut unlisted = found(Some(Ok(())));
        assert_eq!(reason(&by_service, &unlisted), "ServiceNotFound");
        unlisted.services_unlisted = true;
        assert_eq!((reason(&by_service, &unlisted), reason(&none, &unlisted)), ("Waiting", "Ok"));
        let mut taken = found(Some(Ok(())));
        taken.generated = vec![generated(false)];
        assert_eq!(reason(&none, &taken), "SecretNameTaken");

        let token = || Some(secret(&[("token", "x")], "endpoint"));
        let long = "x".repeat(5_000);
        for (keys, tokens, want) in [
            (None, token(), "SecretNotFound"),
            (Some(secret(&[("new", WHSEC)], "endpoint")), token(), "SecretNotLabelled"),
            (Some(secret(&[("token", "x")], "signing")), token(), "SecretKeyMissing"),
            (Some(secret(&[("new", "hush")], "signing")), token(), "SecretInvalid"),
            (
                Some(secret(&[("new", WHSEC)], "signing")),
                Some(secret(&[("token", "a\nb")], "endpoint")),
                "SecretInvalid",
            ),
            (
                Some(secret(&[("new", WHSEC)], "signing")),
                Some(secret(&[("token", &long)], "endpoint")),
                "SecretTooLong",
            ),
            (Some(secret(&[("new", WHSEC)], "signing")), token(), "Ok"),
        ] {
            let mut fetched = found(Some(Ok(())));
            fetched.secrets = secret_map(vec![("keys", keys), ("tokens", tokens)]);
            assert_eq!(reason(&given(), &fetched), want);
        }
    }

    #[test]
    fn a_refused_secret_is_a_failure_and_a_silent_api_server_is_none() {
        let create = |source: kube::Error| SecretError::Create { name: "keys".into(), source: source.into() };
        let refused = Unresolved::unread(&create(error(422, "Invalid", "denied by policy")));
        let Unresolved::Broken(refusal) = &refused else { panic!("{refused:?}") };
        let message = "The operator tries again. What was in place stays so, unless it was edited: can't create the Secret keys: denied by policy";
        assert_eq!((refusal.reason, refusal.message.as_str()), (Reason::ApiRefused, message));
        for source in [error(429, "TooManyRequests", "later"), kube::Error::Service("no route".into())] {
            assert!(matches!(Unresolved::unread(&create(source)), Unresolved::Waiting(_)));
        }
    }
}
