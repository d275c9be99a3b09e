//! Takes over the installation of a cluster that is gone: notes the uid of each of its objects under the object's
//! namespace and name, for the object that is applied again.

use std::collections::{BTreeMap, HashMap};

use hookwright_core::nats::names::{CONFIG_BUCKET, ConfigKey, FORMER_KEYS, former_key};
use hookwright_core::record::{self, Former, RecordError, VERSION};
use hookwright_crds::{EventSchema, Producer, Subscription};
use kube::Resource;
use serde::Deserialize;
use tracing::warn;

use super::InstallationError;
use crate::cache::identities::{Entry, Identities};
use crate::nats::jetstream::{JetStream, JsResult};

/// The name of the object that a record was made from. A Subscription's record has it in a group.
#[derive(Deserialize)]
struct Named {
    identity: Option<Name>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Name {
    namespace: String,
    name: String,
}

/// Returns namespace and name of the object that a record was made from.
pub(super) fn named(record: &[u8]) -> Option<(String, String)> {
    let found: Named = serde_json::from_slice(record).ok()?;
    match found.identity {
        Some(Name { namespace, name }) => Some((namespace, name)),
        None => Some((found.namespace?, found.name?)),
    }
}

/// The uids to note, by the keys to note them under. A deletion may have left a record of an earlier object of the same
/// name: the one that was written last counts.
#[derive(Default)]
struct Last(BTreeMap<String, (u64, String)>);

impl Last {
    fn add(&mut self, key: String, revision: u64, uid: String) {
        let last = self.0.entry(key).or_default();
        if revision > last.0 {
            *last = (revision, uid);
        }
    }
}

/// Notes the uids of all records. An operator that dies meanwhile begins again, as the installation is still the former
/// cluster's.
pub(super) async fn note(js: &JetStream) -> Result<usize, InstallationError> {
    let mut last = Last::default();
    for key in js.keys(CONFIG_BUCKET, ">").await? {
        let (kind, uid) = match ConfigKey::parse(&key) {
            Some(ConfigKey::Producer(uid)) => (Producer::kind(&()), uid.to_string()),
            Some(ConfigKey::Subscription(_, uid)) => (Subscription::kind(&()), uid.to_string()),
            Some(ConfigKey::Schema(_, uid)) => (EventSchema::kind(&()), uid.to_string()),
            None => continue,
        };
        let Some(entry) = js.get(CONFIG_BUCKET, &key).await? else { continue };
        let Some((namespace, name)) = named(&entry.value) else {
            warn!(key, "can't read a record's namespace and name; its object is not taken over");
            continue;
        };
        last.add(former_key(&kind, &namespace, &name), entry.revision, uid);
    }
    let noted = last.0.len();
    for (key, (_, uid)) in last.0 {
        let former = record::encode(&Former { version: VERSION, uid, object: None })?;
        js.put(CONFIG_BUCKET, &key, former).await?;
    }
    Ok(noted)
}

/// Writes what is known once more, as the bucket was lost.
pub(super) async fn note_again(js: &JetStream, identities: &Identities) -> Result<(), InstallationError> {
    for (key, former) in identities.all() {
        let revision = js.put(CONFIG_BUCKET, &key, record::encode(&former)?).await?;
        identities.put(key, Entry { former, revision });
    }
    Ok(())
}

/// Returns what was noted.
pub(super) async fn noted(js: &JetStream) -> JsResult<HashMap<String, Entry>> {
    let mut entries = HashMap::new();
    for key in js.keys(CONFIG_BUCKET, FORMER_KEYS).await? {
        let Some(found) = js.get(CONFIG_BUCKET, &key).await? else { continue };
        let former: Result<Former, RecordError> = record::decode(&found.value);
        match former {
            Ok(former) => drop(entries.insert(key, Entry { former, revision: found.revision })),
            Err(error) => warn!(key, %error, "can't read a former uid"),
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_records_of_a_name_the_last_one_counts() {
        for order in [[(3, "old"), (9, "new")], [(9, "new"), (3, "old")]] {
            let mut last = Last::default();
            for (revision, uid) in order {
                last.add("former.Subscription.shop.a".to_owned(), revision, uid.to_owned());
            }
            last.add("former.Subscription.shop.b".to_owned(), 1, "other".to_owned());
            let uids: Vec<_> = last.0.values().map(|(_, uid)| uid.as_str()).collect();
            assert_eq!(uids, ["new", "other"]);
        }
    }

    #[test]
    fn finds_the_name_in_each_kind_of_record() {
        let shop = Some(("shop".to_owned(), "a".to_owned()));
        for (record, want) in [
            (r#"{ "version": 1, "uid": "p-1", "namespace": "shop", "name": "a" }"#, shop.clone()),
            (r#"{ "version": 9, "identity": { "uid": "s-1", "namespace": "shop", "name": "a" }, "later": 1 }"#, shop),
            (r#"{ "version": 1 }"#, None),
            ("not JSON", None),
        ] {
            assert_eq!(named(record.as_bytes()), want, "{record}");
        }
    }
}
