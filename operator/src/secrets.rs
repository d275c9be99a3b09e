//! Secrets of Subscriptions. The operator reads them one by one, never lists or watches them, and generates one where a
//! Subscription names none.

use std::collections::BTreeSet;
use std::sync::Arc;

use hookwright_core::sign::hmac::{self, SigningKey};
use hookwright_crds::{DEFAULT_SIGNING_KEY, Reason, SecretKeyRef, Subscription, USE_ENDPOINT, USE_LABEL, USE_SIGNING};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource, ResourceExt};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;

use crate::cache::pace::Pace;
use crate::cache::secrets::{Answer, Place, Secrets, is_same};
use crate::kubernetes::answer::{ApiError, Meaning, meaning};
use crate::lenient::Lenient;
use crate::refusal::Refusal;

/// The longest value of a header, as for one that the Subscription has in the clear.
const MAX_HEADER_VALUE: usize = 4096;

/// How many Secrets are read in a second, at most.
const READS: u32 = 75;

/// Reads Secrets at a bounded pace, and remembers what it has read.
pub(crate) struct SecretReader {
    client: Client,
    pub(crate) known: Arc<Secrets>,
    pace: Pace,
}

impl SecretReader {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, known: Arc::default(), pace: Pace::per_second(READS) }
    }
}

/// A Secret can't be read or created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("can't read the Secret {name}")]
    Get { name: String, source: ApiError },
    #[error("the Secret {name} has a form that can't be read")]
    Unreadable { name: String },
    #[error("can't create the Secret {name}")]
    Create { name: String, source: ApiError },
    #[error("can't remove the Secret {name}")]
    Delete { name: String, source: ApiError },
    #[error("the Secret {name} was deleted while it was read")]
    Vanished { name: String },
    #[error("the system gives no random bytes")]
    Random,
}

impl SecretError {
    /// Returns the answer of the API server, if that is what failed.
    pub(crate) fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Get { source, .. } | Self::Create { source, .. } | Self::Delete { source, .. } => Some(source),
            Self::Unreadable { .. } | Self::Vanished { .. } | Self::Random => None,
        }
    }
}

/// What a Secret is used for. Its label has to allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Its value signs webhooks.
    Signing,
    /// Its value is sent in a header.
    Endpoint,
}

impl Use {
    fn label(self) -> &'static str {
        match self {
            Self::Signing => USE_SIGNING,
            Self::Endpoint => USE_ENDPOINT,
        }
    }
}

/// Reads a Secret when it is its turn.
pub(crate) async fn read(reader: &SecretReader, namespace: &str, name: &str) -> Result<Answer, SecretError> {
    reader.pace.turn().await;
    let (api, began): (Api<Lenient<Secret>>, _) = (Api::namespaced(reader.client.clone(), namespace), Instant::now());
    let failed = |source: kube::Error| SecretError::Get { name: name.to_owned(), source: source.into() };
    let answer = api.get_opt(name).await.map_err(failed)?;
    Ok(Answer { secret: answer.map(|secret| readable(name, secret)).transpose()?, began })
}

/// Looks whether a Secret is still as it was used, by a read that began at `since` or later. Returns also who is to be
/// reconciled, as it has changed.
pub(crate) async fn is_as_used(
    reader: &SecretReader,
    place: &Place,
    keys: &BTreeSet<String>,
    used: Option<&Secret>,
    since: Instant,
) -> Result<(bool, Vec<ObjectRef<Subscription>>), SecretError> {
    if let Some(is_same) = reader.known.is_as_used(place, keys, used, since) {
        return Ok((is_same, Vec::new()));
    }
    let now = read(reader, &place.0, &place.1).await?;
    let users = reader.known.renew(place, &now);
    Ok((is_same(keys, used, now.secret.as_ref()), users))
}

/// Returns a Secret with these keys, as it was last read. Returns none if it doesn't exist.
pub(crate) async fn get(
    reader: &SecretReader,
    subscription: &Subscription,
    name: &str,
    keys: &BTreeSet<String>,
) -> Result<Option<Secret>, SecretError> {
    let place = (subscription.namespace().unwrap_or_default(), name.to_owned());
    let user = ObjectRef::from_obj(subscription);
    if let Some(known) = reader.known.known(&place, keys, &user) {
        return Ok(known);
    }
    let answer = read(reader, &place.0, name).await?;
    reader.known.take(&place, keys, &user, &answer);
    Ok(answer.secret)
}

fn readable(name: &str, secret: Lenient<Secret>) -> Result<Secret, SecretError> {
    secret.object.ok_or_else(|| SecretError::Unreadable { name: name.to_owned() })
}

/// Returns a Secret with a generated key of a Subscription, and creates it if it doesn't exist. An existing Secret is
/// never overwritten.
pub(crate) async fn generated(
    reader: &SecretReader,
    subscription: &Subscription,
    name: &str,
) -> Result<Secret, SecretError> {
    let place = (subscription.namespace().unwrap_or_default(), name.to_owned());
    let keys = BTreeSet::from([DEFAULT_SIGNING_KEY.to_owned()]);
    let user = ObjectRef::from_obj(subscription);
    if let Some(Some(secret)) = reader.known.known(&place, &keys, &user)
        // One that isn't may be about to go.
        && is_ours(&secret, subscription)
    {
        return Ok(secret);
    }
    // A new Subscription has none.
    let seen = subscription.status.as_ref().and_then(|status| status.observed_generation);
    let there = if seen.is_none_or(|seen| seen < 0) { None } else { Some(read(reader, &place.0, name).await?) };
    let answer = match there.filter(|answer| answer.secret.is_some()) {
        Some(answer) => answer,
        None => created(reader, name, subscription).await?,
    };
    reader.known.take(&place, &keys, &user, &answer);
    answer.secret.ok_or_else(|| SecretError::Vanished { name: name.to_owned() })
}

async fn created(reader: &SecretReader, name: &str, subscription: &Subscription) -> Result<Answer, SecretError> {
    let (namespace, began) = (subscription.namespace().unwrap_or_default(), Instant::now());
    let api: Api<Lenient<Secret>> = Api::namespaced(reader.client.clone(), &namespace);
    match api.create(&PostParams::default(), &Lenient::new(new(name, subscription)?)).await {
        Ok(secret) => Ok(Answer { secret: Some(readable(name, secret)?), began }),
        // Another writer was faster.
        Err(kube::Error::Api(status)) if status.is_already_exists() => read(reader, &namespace, name).await,
        Err(source) => Err(SecretError::Create { name: name.to_owned(), source: source.into() }),
    }
}

/// Removes a Secret with a generated key, if it is still there and this Subscription's.
pub(crate) async fn remove(reader: &SecretReader, subscription: &Subscription, name: &str) -> Result<(), SecretError> {
    let namespace = subscription.namespace().unwrap_or_default();
    let Some(secret) = read(reader, &namespace, name).await?.secret else { return Ok(()) };
    // One that was restored without an owner is not the operator's to remove.
    if !owns(subscription, &secret) {
        return Ok(());
    }
    let preconditions = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let api: Api<Lenient<Secret>> = Api::namespaced(reader.client.clone(), &namespace);
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(error) if meaning(&error) == Meaning::Gone => Ok(()),
        Err(source) => Err(SecretError::Delete { name: name.to_owned(), source: source.into() }),
    }
}

fn new(name: &str, subscription: &Subscription) -> Result<Secret, SecretError> {
    let mut random = [0; 32];
    SystemRandom::new().fill(&mut random).map_err(|_| SecretError::Random)?;
    let text = hmac::secret_text(&random);
    let mut secret = Secret {
        type_: Some("Opaque".into()),
        data: Some([(DEFAULT_SIGNING_KEY.to_owned(), ByteString(text.into_bytes()))].into()),
        ..Secret::default()
    };
    let meta = secret.meta_mut();
    meta.name = Some(name.to_owned());
    meta.labels = Some([(USE_LABEL.to_owned(), USE_SIGNING.to_owned())].into());
    meta.owner_references = subscription.owner_ref(&()).map(|owner| vec![owner]);
    Ok(secret)
}

/// Returns whether the Secret holds this Subscription's generated key. One that has no owner was restored from a backup.
pub(crate) fn is_ours(secret: &Secret, subscription: &Subscription) -> bool {
    let is_restored = || secret.labels().get(USE_LABEL).is_some_and(|value| value == USE_SIGNING);
    owns(subscription, secret) || secret.owner_references().is_empty() && is_restored()
}

fn owns(subscription: &Subscription, secret: &Secret) -> bool {
    secret.owner_references().iter().any(|owner| Some(&owner.uid) == subscription.meta().uid.as_ref())
}

/// The Subscription that uses a Secret.
pub(crate) struct User<'a> {
    pub(crate) namespace: &'a str,
    /// The uid by which the API server knows the Subscription.
    pub(crate) uid: &'a str,
}

/// Returns the text under a key, if this Subscription may use the Secret so, and the Secret has the key.
pub(crate) fn value(
    by: &User<'_>,
    SecretKeyRef { name, key }: &SecretKeyRef,
    purpose: Use,
    secret: Option<&Secret>,
) -> Result<String, Refusal> {
    let Some(secret) = secret else {
        return Err(Refusal::new(Reason::SecretNotFound, format!("Secret {name:?} doesn't exist.")));
    };
    let mut owners = secret.owner_references().iter().filter(|owner| owner.kind == Subscription::kind(&()));
    if owners.any(|owner| owner.uid != by.uid || purpose != Use::Signing) {
        let message = format!(
            "Secret {name:?} holds a generated signing key: it signs webhooks of its own Subscription, and nothing else."
        );
        return Err(Refusal::new(Reason::SecretReserved, message));
    }
    let label = secret.labels().get(USE_LABEL);
    if label.is_none_or(|value| value != purpose.label()) {
        let overwrite = label.map_or("", |_| " --overwrite");
        let what = match purpose {
            Use::Signing => "sign webhooks",
            Use::Endpoint => "be sent in a header",
        };
        let (namespace, value) = (by.namespace, purpose.label());
        let message = format!(
            "Secret {name:?} is not labelled to {what}: \
             kubectl label secret -n {namespace} {name} {USE_LABEL}={value}{overwrite}"
        );
        return Err(Refusal::new(Reason::SecretNotLabelled, message));
    }
    let Some(ByteString(bytes)) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        return Err(Refusal::new(Reason::SecretKeyMissing, format!("Secret {name:?} has no key {key:?}.")));
    };
    String::from_utf8(bytes.clone()).map_err(|_| invalid(name, key, "it is not text in UTF-8"))
}

/// Returns the refusal for a value that can't be used. `why` must not quote the value.
fn invalid(name: &str, key: &str, why: &str) -> Refusal {
    Refusal::new(Reason::SecretInvalid, format!("Secret {name:?}, key {key:?}, can't be used: {why}."))
}

/// Returns the signing secret, if the text is one.
pub(crate) fn signing(name: &str, key: &str, text: String) -> Result<String, Refusal> {
    match SigningKey::parse(&text) {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(error) => Err(invalid(name, key, &error.to_string())),
    }
}

/// Returns the text as a header's value, without the line end that `echo` leaves.
pub(crate) fn header(name: &str, key: &str, text: &str) -> Result<String, Refusal> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.len() > MAX_HEADER_VALUE {
        let message = format!("Secret {name:?}, key {key:?}, is longer than the {MAX_HEADER_VALUE} bytes of a header.");
        return Err(Refusal::new(Reason::SecretTooLong, message));
    }
    let visible = |b: u8| b == b'\t' || (b' '..=b'~').contains(&b);
    if text.bytes().all(visible) {
        Ok(text.to_owned())
    } else {
        Err(invalid(name, key, "a header's value has visible ASCII characters, spaces and tabs only"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(labels: &serde_json::Value, owner: Option<&str>) -> Secret {
        let owner = owner.map(|uid| {
            json!({ "apiVersion": "hookwright.dev/v1alpha1", "kind": "Subscription", "name": "billing", "uid": uid })
        });
        let owners: Vec<_> = owner.into_iter().collect();
        let metadata = json!({ "name": "keys", "labels": labels, "ownerReferences": owners });
        serde_json::from_value(json!({ "metadata": metadata, "data": { "a": "aHVzaA==", "b": "/w==" } })).unwrap()
    }

    #[test]
    fn a_secret_is_used_only_as_its_label_and_its_owner_allow() {
        let by = User { namespace: "shop", uid: "s-1" };
        let ask = |secret: Option<&Secret>, key: &str, purpose| {
            value(&by, &SecretKeyRef { name: "keys".into(), key: key.into() }, purpose, secret)
        };
        let (signing, endpoint) =
            (json!({ "hookwright.dev/use": "signing" }), json!({ "hookwright.dev/use": "endpoint" }));
        let labelled = secret(&endpoint, None);
        assert_eq!(ask(Some(&labelled), "a", Use::Endpoint).unwrap(), "hush");
        assert_eq!(ask(None, "a", Use::Endpoint).unwrap_err().reason, Reason::SecretNotFound);
        assert_eq!(ask(Some(&labelled), "c", Use::Endpoint).unwrap_err().reason, Reason::SecretKeyMissing);
        assert_eq!(ask(Some(&labelled), "b", Use::Endpoint).unwrap_err().reason, Reason::SecretInvalid);
        let command = "kubectl label secret -n shop keys hookwright.dev/use=";
        for (labels, owner, purpose, want) in [
            (&signing, None, Use::Signing, Ok(())),
            (&signing, None, Use::Endpoint, Err("endpoint --overwrite")),
            (&endpoint, None, Use::Signing, Err("signing --overwrite")),
            (&json!({}), None, Use::Signing, Err("signing")),
            (&json!({ "hookwright.dev/use": "subscriptions" }), None, Use::Endpoint, Err("endpoint --overwrite")),
            (&signing, Some("s-1"), Use::Signing, Ok(())),
            (&signing, Some("s-1"), Use::Endpoint, Err("")),
            (&endpoint, Some("s-1"), Use::Endpoint, Err("")),
            (&signing, Some("s-2"), Use::Signing, Err("")),
        ] {
            let got = ask(Some(&secret(labels, owner)), "a", purpose);
            match want {
                Ok(()) => assert!(got.is_ok(), "{labels} {owner:?} {purpose:?}"),
                Err("") => {
                    assert_eq!(got.unwrap_err().reason, Reason::SecretReserved, "{labels} {owner:?} {purpose:?}")
                }
                Err(end) => {
                    let refusal = got.unwrap_err();
                    assert_eq!(refusal.reason, Reason::SecretNotLabelled);
                    assert!(refusal.message.ends_with(&format!("{command}{end}")), "{}", refusal.message);
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_value() {
        assert!(signing("s", "k", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n".into()).unwrap().ends_with("aSw"));
        for refusal in [signing("s", "k", "hush".into()).unwrap_err(), header("s", "k", "hu\nsh").unwrap_err()] {
            assert_eq!(refusal.reason, Reason::SecretInvalid);
            assert!(!refusal.message.contains("hu"), "{}", refusal.message);
        }
        assert_eq!(header("s", "k", "Bearer x\r\n").unwrap(), "Bearer x");
        assert!(header("s", "k", "é").is_err());
        assert!(header("s", "k", &"x".repeat(4096)).is_ok());
        assert_eq!(header("s", "k", &"x".repeat(4097)).unwrap_err().reason, Reason::SecretTooLong);
    }
}
