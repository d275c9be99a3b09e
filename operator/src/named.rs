//! How logs name an object of any kind: by `namespace/name`, under the key of its kind. So a search for a Subscription
//! finds all lines about it.

use kube::Resource;

use crate::cache::references::full_name;

/// The name of an object, under the key of its kind.
pub(crate) struct Named {
    pub(crate) producer: Option<String>,
    pub(crate) subscription: Option<String>,
    pub(crate) event_schema: Option<String>,
}

impl Named {
    pub(crate) fn of<K: Resource<DynamicType = ()>>(namespace: Option<&str>, name: Option<&str>) -> Self {
        let kind = K::kind(&());
        let under = |key: &str| (key == kind).then(|| full_name(namespace, name));
        Self { producer: under("Producer"), subscription: under("Subscription"), event_schema: under("EventSchema") }
    }
}

/// Logs about a [`Named`] object: `about!(warn, named, "it failed")`.
macro_rules! about {
    ($level:ident, $named:expr, $($rest:tt)*) => {{
        let $crate::named::Named { producer, subscription, event_schema } = $named;
        tracing::$level!(producer, subscription, event_schema, $($rest)*);
    }};
}
pub(crate) use about;

#[cfg(test)]
mod tests {
    use hookwright_crds::{EventSchema, Producer, Subscription};

    use super::*;

    #[test]
    fn each_kind_has_its_key() {
        fn key<K: Resource<DynamicType = ()>>() -> [bool; 3] {
            let named = Named::of::<K>(Some("shop"), Some("x"));
            [named.producer, named.subscription, named.event_schema].map(|name| name.as_deref() == Some("shop/x"))
        }
        assert_eq!(key::<Producer>(), [true, false, false]);
        assert_eq!(key::<Subscription>(), [false, true, false]);
        assert_eq!(key::<EventSchema>(), [false, false, true]);
    }
}
