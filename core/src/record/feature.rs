//! The features of records: what a record may say that a dispatcher of an older release can't read.
//!
//! A field that is added to a record is optional, is left out of the JSON unless it is used, and has a [`Feature`]. The
//! record's [`Record::features`] has the feature while the field is used. A dispatcher's lease names the features that
//! the dispatcher reads. The operator writes a record with a new feature only once all live dispatchers read it. Until
//! then the former record stays. A dispatcher that meets a record with a feature that it can't read, such as one that
//! was started later, serves nothing of the record's Producer.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::destination::HeaderValue;
use crate::record::{EventSchemaRecord, ProducerRecord, SubscriptionRecord, Validation};
use crate::seal::Sealed;

/// Declares [`Feature`], so that a variant, its name and the list of all can't differ.
macro_rules! features {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A part of a record that not all releases read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Feature {
            $($(#[$doc])* $name,)*
        }

        impl Feature {
            /// The features that this build reads.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name of the feature in a lease.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

features! {
    /// A Producer's events are validated.
    Validation,
    /// A Subscription has filters.
    Filters,
    /// A Subscription's endpoint is a Service, whose address the record has.
    Service,
    /// A Subscription selects a major version of an event type.
    Versions,
    /// A Subscription chooses fields of the data, or the form of its webhooks.
    Payload,
    /// A Subscription has a transform.
    Transform,
    /// A Subscription's transform is an expression.
    TransformExpression,
    /// A Producer withholds fields of the data from a Subscription.
    PayloadPolicy,
    /// A Producer has filters for a Subscription.
    PayloadPolicyFilters,
    /// A Subscription has headers that take their values from attributes of the events.
    AttributeHeaders,
}

/// A record that dispatchers serve from.
pub trait Record: Serialize + DeserializeOwned {
    /// The features that this record uses.
    fn features(&self) -> Vec<Feature>;
}

impl Record for ProducerRecord {
    fn features(&self) -> Vec<Feature> {
        used([(Feature::Validation, self.validation != Validation::Ignore)])
    }
}

impl Record for SubscriptionRecord<Sealed> {
    fn features(&self) -> Vec<Feature> {
        let service = self.destination.as_ref().and_then(|destination| destination.service);
        let headers = self.destination.iter().flat_map(|destination| &destination.headers);
        let from_attributes = headers.into_iter().any(|header| matches!(header.value, HeaderValue::Attribute(_)));
        used([
            (Feature::Filters, !self.select.filters.is_empty()),
            (Feature::Service, service.is_some()),
            (Feature::Versions, !self.select.versions.is_empty()),
            (Feature::Payload, !self.payload.is_default()),
            (Feature::Transform, self.payload.transform.is_some()),
            (Feature::TransformExpression, self.payload.has_expression()),
            (Feature::PayloadPolicy, !self.payload_policy.is_empty()),
            (Feature::PayloadPolicyFilters, !self.payload_policy.filters.is_empty()),
            (Feature::AttributeHeaders, from_attributes),
        ])
    }
}

impl Record for EventSchemaRecord {
    fn features(&self) -> Vec<Feature> {
        Vec::new()
    }
}

fn used<const N: usize>(features: [(Feature, bool); N]) -> Vec<Feature> {
    features.into_iter().filter_map(|(feature, is_used)| is_used.then_some(feature)).collect()
}
