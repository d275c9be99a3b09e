//! Secrets of Subscriptions. The operator reads them one by one, never lists or watches them, and generates one where a
//! Subscription names none.

use hookwright_core::sign::hmac::{self, SigningKey};
use hookwright_crds::{DEFAULT_SIGNING_KEY, Reason, Subscription, USE_LABEL, USE_SUBSCRIPTIONS, signing_secret_name};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::lenient::Lenient;
use crate::refusal::Refusal;

/// A Secret can't be read or created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("can't read the Secret {name}")]
    Get { name: String, source: kube::Error },
    #[error("the Secret {name} has a form that can't be read")]
    Unreadable { name: String },
    #[error("can't create the Secret {name}")]
    Create { name: String, source: kube::Error },
    #[error("the system gives no random bytes")]
    Random,
}

/// Reads a Secret. Returns none if it doesn't exist.
pub(crate) async fn get(client: &Client, namespace: &str, name: &str) -> Result<Option<Secret>, SecretError> {
    let api: Api<Lenient<Secret>> = Api::namespaced(client.clone(), namespace);
    let answer = api.get_opt(name).await.map_err(|source| SecretError::Get { name: name.to_owned(), source })?;
    answer.map(|secret| read(name, secret)).transpose()
}

fn read(name: &str, secret: Lenient<Secret>) -> Result<Secret, SecretError> {
    secret.object.ok_or_else(|| SecretError::Unreadable { name: name.to_owned() })
}

/// Returns the generated Secret of a Subscription, and creates it if it doesn't exist. An existing Secret is never
/// overwritten.
pub(crate) async fn generated(client: &Client, subscription: &Subscription) -> Result<Secret, SecretError> {
    let name = signing_secret_name(&subscription.name_any());
    let namespace = subscription.namespace().unwrap_or_default();
    if let Some(secret) = get(client, &namespace, &name).await? {
        return Ok(secret);
    }
    let api: Api<Lenient<Secret>> = Api::namespaced(client.clone(), &namespace);
    match api.create(&PostParams::default(), &Lenient::new(new(&name, subscription)?)).await {
        Ok(secret) => read(&name, secret),
        // Another writer was faster.
        Err(kube::Error::Api(status)) if status.is_already_exists() => match api.get(&name).await {
            Ok(secret) => read(&name, secret),
            Err(source) => Err(SecretError::Get { name, source }),
        },
        Err(source) => Err(SecretError::Create { name, source }),
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
    meta.labels = Some([(USE_LABEL.to_owned(), USE_SUBSCRIPTIONS.to_owned())].into());
    meta.owner_references = subscription.owner_ref(&()).map(|owner| vec![owner]);
    Ok(secret)
}

/// Returns whether this Subscription owns the Secret.
pub(crate) fn is_ours(secret: &Secret, subscription: &Subscription) -> bool {
    secret.owner_references().iter().any(|owner| Some(&owner.uid) == subscription.meta().uid.as_ref())
}

/// Returns the text under a key, if the Secret may be used and has the key.
pub(crate) fn value(namespace: &str, name: &str, key: &str, secret: Option<&Secret>) -> Result<String, Refusal> {
    let Some(secret) = secret else {
        return Err(Refusal::new(Reason::SecretNotFound, format!("Secret {name:?} doesn't exist.")));
    };
    if secret.labels().get(USE_LABEL).is_none_or(|value| value != USE_SUBSCRIPTIONS) {
        let message = format!(
            "Secret {name:?} is not labelled for use by Subscriptions: \
             kubectl label secret -n {namespace} {name} {USE_LABEL}={USE_SUBSCRIPTIONS}"
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

    fn secret(labels: &serde_json::Value) -> Secret {
        let object =
            json!({ "metadata": { "name": "keys", "labels": labels }, "data": { "a": "aHVzaA==", "b": "/w==" } });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn only_labelled_secrets_are_used() {
        let labelled = secret(&json!({ "hookwright.dev/use": "subscriptions" }));
        let reason = |secret: Option<&Secret>, key| value("shop", "keys", key, secret).unwrap_err().reason;
        assert_eq!(value("shop", "keys", "a", Some(&labelled)).unwrap(), "hush");
        assert_eq!(reason(None, "a"), Reason::SecretNotFound);
        assert_eq!(reason(Some(&labelled), "c"), Reason::SecretKeyMissing);
        assert_eq!(reason(Some(&labelled), "b"), Reason::SecretInvalid);
        for labels in [json!({}), json!({ "hookwright.dev/use": "other" })] {
            let refusal = value("shop", "keys", "a", Some(&secret(&labels))).unwrap_err();
            assert_eq!(refusal.reason, Reason::SecretNotLabelled);
            let command = "kubectl label secret -n shop keys hookwright.dev/use=subscriptions";
            assert!(refusal.message.ends_with(command), "{}", refusal.message);
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
    }
}
