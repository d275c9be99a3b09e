//! Which events the Subscription selects: event types, versions and filters.

use hookwright_core::event::event_type::EventTypePattern;
use hookwright_core::select::{Selection, TypeVersion};
use hookwright_crds::{EventTypeSelector, Subscription};

use super::invalid;
use crate::payload_policies::filters;
use crate::refusal::Refusal;

pub(super) fn select(subscription: &Subscription) -> Result<Selection, Refusal> {
    let mut select = Selection {
        event_types: Vec::new(),
        versions: Vec::new(),
        filters: filters("", subscription.spec.filters.as_ref())?,
    };
    let Some(selectors) = &subscription.spec.event_types else {
        return Ok(Selection { event_types: vec![EventTypePattern::all()], ..select });
    };
    for EventTypeSelector { type_, version } in selectors {
        let event_type = EventTypePattern::parse(type_).map_err(|error| invalid(&format!("eventTypes: {error}.")))?;
        match version {
            None => select.event_types.push(event_type),
            Some(version) => {
                let major = version.parse().map_err(|_| invalid(&format!("eventTypes: {version:?} is no version.")))?;
                select.versions.push(TypeVersion { event_type, major });
            }
        }
    }
    if selectors.is_empty() { Err(invalid("eventTypes is empty.")) } else { Ok(select) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::validated;
    use hookwright_crds::Reason;

    #[test]
    fn a_filter_that_does_not_compile_says_where() {
        let read = |filters: Value| validated(&json!({ "filters": filters }));
        let valid = read(json!([{ "exact": { "tenantid": "acme" } }, { "sql": "id = 'a'" }])).unwrap();
        assert_eq!(valid.select.filters.len(), 2);
        for (filters, reason, message) in [
            (
                json!([{ "sql": "id =" }]),
                Reason::InvalidFilter,
                "filters[0].sql: expected a value, at line 1, column 5:\nid =\n    ^",
            ),
            (json!([{ "any": [] }]), Reason::InvalidFilter, "filters[0].any: it has 0 entries; 1 to 10 are allowed"),
            (json!([{ "exact": { "Tenant": "a" } }]), Reason::InvalidFilter, "filters[0].exact: \"Tenant\" is not"),
            (json!([{ "sql": "TRUE" }, { "not": {} }]), Reason::Invalid, "filters[1] must have exactly one dialect"),
        ] {
            let refusal = read(filters.clone()).unwrap_err();
            assert_eq!(refusal.reason, reason, "{filters}");
            assert!(refusal.message.starts_with(message), "{filters}: {}", refusal.message);
        }
    }

    #[test]
    fn types_and_their_versions() {
        let types = json!([{ "type": "order.*" }, { "type": "invoice.>", "version": "2" }]);
        let select = validated(&json!({ "eventTypes": types })).unwrap().select;
        assert_eq!((select.event_types[0].as_str(), select.versions[0].major), ("order.*", 2));
        let refused = validated(&json!({ "eventTypes": [{ "type": "a", "version": "1.2" }] })).unwrap_err();
        assert_eq!(refused.message, "eventTypes: \"1.2\" is no version.");
    }
}
