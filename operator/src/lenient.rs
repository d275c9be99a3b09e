//! Objects as the API server sends them.
//!
//! Tenants write the objects, and `metadata.managedFields` and a schema may be nested as deep as anyone likes. A list
//! that is read as a whole can't be read at all if one object in it can't. So each object is read by itself, without its
//! managedFields, which nothing here uses. What can't be read is an object without content, and no error.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// An object of which only the metadata is asked for.
pub(crate) type Metadata<K> = Lenient<PartialObjectMeta<K>>;

/// An object as the API server sent it.
#[derive(Debug, Clone)]
pub(crate) struct Lenient<K> {
    /// The metadata without managedFields. It is empty if even that can't be read.
    pub(crate) meta: ObjectMeta,
    /// The object; none if it can't be read.
    pub(crate) object: Option<K>,
}

impl<K: Resource> Lenient<K> {
    pub(crate) fn new(object: K) -> Self {
        Self { meta: object.meta().clone(), object: Some(object) }
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A raw value has no limit of nesting.
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let Ok((meta, object)) = without_managed_fields(raw.get()) else {
            return Ok(Self { meta: ObjectMeta::default(), object: None });
        };
        Ok(Self {
            meta: serde_json::from_str(meta.get()).unwrap_or_default(),
            object: serde_json::from_str(&object).ok(),
        })
    }
}

impl<K: Serialize> Serialize for Lenient<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

/// Returns the event with what `take` makes of its object. Returns nothing if `take` returns nothing or the object can't
/// be read.
pub(crate) fn taken<T, K>(event: Event<T>, take: impl FnOnce(T) -> Option<K>) -> Option<Event<K>> {
    Some(match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(take(object)?),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(take(object)?),
        Event::Delete(object) => Event::Delete(take(object)?),
    })
}

/// Returns the metadata and the object, both without `metadata.managedFields`.
fn without_managed_fields(text: &str) -> serde_json::Result<(Box<RawValue>, String)> {
    let mut object: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    let metadata = object.get("metadata").map_or("{}", |metadata| metadata.get());
    let mut metadata: BTreeMap<String, &RawValue> = serde_json::from_str(metadata)?;
    metadata.remove("managedFields");
    let metadata = to_raw_value(&metadata)?;
    object.insert("metadata".to_owned(), &metadata);
    let object = serde_json::to_string(&object)?;
    Ok((metadata, object))
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookwright_crds::{EventSchema, Subscription};
    use kube::core::{ObjectList, WatchEvent};

    fn deep(depth: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
    }

    fn object(kind: &str, name: &str, managed: &str, spec: &str) -> String {
        format!(
            r#"{{"apiVersion":"hookwright.dev/v1alpha1","kind":"{kind}","metadata":{{"name":"{name}","namespace":"shop",
            "uid":"{name}","managedFields":[{{"manager":"m","fieldsV1":{managed}}}]}},"spec":{spec}}}"#
        )
    }

    fn list<K: DeserializeOwned + Clone>(items: &[String]) -> Vec<(String, bool)> {
        let text = format!(
            r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"7"}},"items":[{}]}}"#,
            items.join(",")
        );
        let list: ObjectList<Lenient<K>> = serde_json::from_str(&text).unwrap();
        list.items.into_iter().map(|item| (item.meta.name.unwrap_or_default(), item.object.is_some())).collect()
    }

    const SUBSCRIPTION: &str = r#"{"producerRef":{"name":"orders"},"eventTypes":[{"type":">"}],
        "endpoint":{"url":"https://example.com/"}}"#;

    #[test]
    fn an_object_that_can_not_be_read_does_not_hide_the_others() {
        let items = [
            object("Subscription", "deep", &deep(10_000), SUBSCRIPTION),
            object("Subscription", "other", "{}", r#"{"endpoint":7}"#),
            object("Subscription", "good", "{}", SUBSCRIPTION),
            r#"{"metadata":7}"#.to_owned(),
            "7".to_owned(),
        ];
        let want = [("deep", true), ("other", false), ("good", true), ("", false), ("", false)];
        assert_eq!(list::<Subscription>(&items), want.map(|(name, is_read)| (name.to_owned(), is_read)));
        let event = format!(r#"{{"type":"ADDED","object":{}}}"#, items[0]);
        let WatchEvent::Added(read) = serde_json::from_str::<WatchEvent<Lenient<Subscription>>>(&event).unwrap() else {
            panic!("another event")
        };
        assert_eq!((read.meta.uid.as_deref(), read.meta.managed_fields), (Some("deep"), None));
        let metadata: Metadata<Subscription> = serde_json::from_str(&items[0]).unwrap();
        assert_eq!(metadata.meta.name.as_deref(), Some("deep"));
    }

    #[test]
    fn a_schema_is_read_however_deep_it_is() {
        let spec = |schema: &str| {
            format!(
                r#"{{"producerRef":{{"name":"orders"}},"type":"a","versions":[{{"version":"1","jsonSchema":{schema}}}]}}"#
            )
        };
        let items = [object("EventSchema", "deep", "{}", &spec(&deep(10_000)))];
        assert_eq!(list::<EventSchema>(&items), [("deep".to_owned(), true)]);
    }
}
