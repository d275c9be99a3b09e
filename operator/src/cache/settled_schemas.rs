//! The EventSchemas that this process has settled, which means that they are in place or refused. A Producer enforces
//! its EventSchemas only once all are settled.

use std::collections::HashMap;

use hookwright_core::nats::ids::{EventSchemaUid, ProducerUid};

use crate::cache::shared::Shared;

/// The Producer and the generation for which each EventSchema is settled.
#[derive(Default)]
pub(crate) struct SettledSchemas(Shared<HashMap<EventSchemaUid, (ProducerUid, i64)>>);

impl SettledSchemas {
    /// Notes that the EventSchema is settled, and returns whether that is new.
    pub(crate) fn add(&self, schema: &EventSchemaUid, producer: &ProducerUid, generation: i64) -> bool {
        let now = (producer.clone(), generation);
        self.0.lock().insert(schema.clone(), now.clone()) != Some(now)
    }

    pub(crate) fn forget(&self, schema: &EventSchemaUid) {
        self.0.lock().remove(schema);
    }

    pub(crate) fn has(&self, schema: &str, producer: &ProducerUid, generation: i64) -> bool {
        let Ok(schema) = EventSchemaUid::parse(schema) else { return false };
        self.0.lock().get(&schema).is_some_and(|(of, settled)| of == producer && *settled >= generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_is_for_a_producer_and_a_generation() {
        let settled = SettledSchemas::default();
        let (schema, one, other) = (
            EventSchemaUid::parse("e-1").unwrap(),
            ProducerUid::parse("p-1").unwrap(),
            ProducerUid::parse("p-2").unwrap(),
        );
        assert!(!settled.has("e-1", &one, 1));
        assert!(settled.add(&schema, &one, 1) && !settled.add(&schema, &one, 1));
        assert!(settled.has("e-1", &one, 1));
        assert!(!settled.has("e-1", &one, 2), "edited since");
        assert!(!settled.has("e-1", &other, 1), "the Producer is another one of the same name");
        assert!(settled.add(&schema, &one, 2) && settled.has("e-1", &one, 1));
        settled.forget(&schema);
        assert!(!settled.has("e-1", &one, 1));
    }
}
