//! Filters: which events of the selected types are delivered. The schema of an API object can't be recursive, so each
//! depth of nesting has a type of its own.

use std::collections::BTreeMap;

use hookwright_core::select::filter as core;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The value of an attribute in a filter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct AttributeValue(#[schemars(length(min = 1, max = 1024))] pub String);

type Attributes = BTreeMap<String, AttributeValue>;

/// Declares the filters of one depth. `nests` adds the dialects that have filters of the next depth in them.
macro_rules! filters {
    ($(#[$doc:meta])* $name:ident $(nests $inner:ident)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[x_kube(validation = (filters!(@rule $($inner)?), "a filter has exactly one dialect"))]
        pub struct $name {
            /// The event passes if all these attributes have exactly these values, such as `{tenantid: acme}`. The
            /// fastest filter: it is looked up in an index, however many Subscriptions there are. Attributes are
            /// `type`, `source`, `id`, `subject`, `time` and the names of extensions.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(extend("minProperties" = 1, "maxProperties" = 10))]
            pub exact: Option<Attributes>,
            /// The event passes if all these attributes begin with these values, such as `{source: /shop/}`.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(extend("minProperties" = 1, "maxProperties" = 10))]
            pub prefix: Option<Attributes>,
            /// The event passes if all these attributes end with these values, such as `{subject: .jpg}`.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(extend("minProperties" = 1, "maxProperties" = 10))]
            pub suffix: Option<Attributes>,
            $(
                /// The event passes if it passes all these filters: 1 to 10, such as
                /// `[{exact: {tenantid: acme}}, {prefix: {source: /shop/}}]`.
                #[serde(skip_serializing_if = "Option::is_none")]
                #[schemars(length(min = 1, max = 10))]
                pub all: Option<Vec<$inner>>,
                /// The event passes if it passes one of these filters: 1 to 10, such as
                /// `[{exact: {tenantid: acme}}, {exact: {tenantid: other}}]`.
                #[serde(skip_serializing_if = "Option::is_none")]
                #[schemars(length(min = 1, max = 10))]
                pub any: Option<Vec<$inner>>,
                /// The event passes if it doesn't pass this filter, such as `{exact: {tenantid: test}}`. If the
                /// filter's evaluation fails, the event doesn't pass either.
                #[serde(skip_serializing_if = "Option::is_none")]
                pub not: Option<Box<$inner>>,
            )?
            /// A CloudEvents SQL expression over the attributes, such as `tenantid = 'acme' AND priority > 3`: at most
            /// 4096 bytes. The event passes if it is true, without any error.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 4096))]
            pub sql: Option<String>,
            /// A JMESPath expression over an object of the attributes and of `data`, the event's JSON, such as
            /// ``data.total > `100` ``: at most 4096 bytes. The event passes if it results in true.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 4096))]
            pub jmespath: Option<String>,
            /// A CEL expression over the attributes and over `data`, the event's JSON, such as
            /// `data.lines.exists(line, line.sku == 'A-1')`: at most 4096 bytes. The event passes if it results in
            /// true.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 4096))]
            pub cel: Option<String>,
        }

        impl $name {
            /// The filter as the domain has it; `None` if it doesn't have exactly one dialect.
            pub fn read(&self) -> Option<core::Filter> {
                let mut found = Vec::new();
                found.extend(self.exact.as_ref().map(|map| core::Filter::Exact(attributes(map))));
                found.extend(self.prefix.as_ref().map(|map| core::Filter::Prefix(attributes(map))));
                found.extend(self.suffix.as_ref().map(|map| core::Filter::Suffix(attributes(map))));
                $(
                    let list = |filters: &[$inner]| filters.iter().map($inner::read).collect::<Option<Vec<_>>>();
                    if let Some(filters) = &self.all {
                        found.push(core::Filter::All(list(filters)?));
                    }
                    if let Some(filters) = &self.any {
                        found.push(core::Filter::Any(list(filters)?));
                    }
                    if let Some(filter) = &self.not {
                        found.push(core::Filter::Not(Box::new(filter.read()?)));
                    }
                )?
                found.extend(self.sql.clone().map(core::Filter::Sql));
                found.extend(self.jmespath.clone().map(core::Filter::Jmespath));
                found.extend(self.cel.clone().map(core::Filter::Cel));
                let filter = found.pop()?;
                found.is_empty().then_some(filter)
            }
        }
    };
    (@rule) => {
        "[has(self.exact), has(self.prefix), has(self.suffix), has(self.sql), has(self.jmespath), has(self.cel)]\
         .filter(x, x).size() == 1"
    };
    (@rule $inner:ident) => {
        "[has(self.exact), has(self.prefix), has(self.suffix), has(self.all), has(self.any), has(self.not), \
         has(self.sql), has(self.jmespath), has(self.cel)].filter(x, x).size() == 1"
    };
}

filters! {
    /// A filter: exactly one dialect.
    Filter nests NestedFilter
}

filters! {
    /// A filter within a filter: exactly one dialect.
    NestedFilter nests InnermostFilter
}

filters! {
    /// A filter within a filter within a filter: exactly one dialect, which has no filters in it.
    InnermostFilter
}

fn attributes(map: &Attributes) -> BTreeMap<String, String> {
    map.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn filters_become_those_of_the_domain() {
        for filter in [
            json!({ "exact": { "tenantid": "acme" } }),
            json!({ "prefix": { "a": "b" } }),
            json!({ "suffix": { "a": "b" } }),
            json!({ "all": [{ "any": [{ "sql": "TRUE" }, { "exact": { "a": "b" } }] }, { "not": { "cel": "true" } }] }),
            json!({ "not": { "jmespath": "a" } }),
        ] {
            let read = serde_json::from_value::<Filter>(filter.clone()).unwrap().read().unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), filter);
        }
        for invalid in
            [json!({}), json!({ "sql": "TRUE", "cel": "true" }), json!({ "any": [{}] }), json!({ "not": {} })]
        {
            assert_eq!(serde_json::from_value::<Filter>(invalid.clone()).unwrap().read(), None, "{invalid}");
        }
        let deep = |filter: Value| serde_json::from_value::<Filter>(json!({ "all": [{ "all": [filter] }] }));
        assert!(deep(json!({ "sql": "TRUE" })).is_ok());
        assert!(deep(json!({ "all": [{ "sql": "TRUE" }] })).is_err());
    }
}
