//! How objects are named, and the reference from a Subscription or an EventSchema to its Producer.

use hookwright_crds::{EventSchema, Producer, Subscription};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

/// An object that refers to a Producer.
pub(crate) trait RefersToProducer {
    /// Returns the reference, with the namespace filled in.
    fn producer_ref(&self) -> ObjectRef<Producer>;
}

impl RefersToProducer for Subscription {
    fn producer_ref(&self) -> ObjectRef<Producer> {
        let given = self.spec.producer_ref.namespace.clone();
        let namespace = given.or_else(|| self.namespace()).unwrap_or_default();
        ObjectRef::new(&self.spec.producer_ref.name).within(&namespace)
    }
}

impl RefersToProducer for EventSchema {
    fn producer_ref(&self) -> ObjectRef<Producer> {
        ObjectRef::new(&self.spec.producer_ref.name).within(&self.namespace().unwrap_or_default())
    }
}

/// Returns whether the Subscription refers to a Producer of another namespace.
pub(crate) fn is_foreign(subscription: &Subscription) -> bool {
    subscription.producer_ref().namespace != subscription.namespace()
}

/// Returns the name of the stream that keeps the Producer's events.
pub(crate) fn stream_name(producer: &Producer) -> String {
    let given = producer.spec.stream.as_ref().and_then(|stream| stream.name.clone());
    given.unwrap_or_else(|| format!("{}_{}", producer.namespace().unwrap_or_default(), producer.name_any()))
}

/// Returns `namespace/name`, which is how logs name an object.
pub(crate) fn full_name(namespace: Option<&str>, name: Option<&str>) -> String {
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
}
