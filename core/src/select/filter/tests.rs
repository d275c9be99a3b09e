use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::event::Event;
use crate::expression::Variables;

fn compile(json: &str) -> Result<Filters, InvalidFilter> {
    Filters::compile(&serde_json::from_str::<Vec<Filter>>(json).unwrap())
}

fn binary() -> Event {
    let headers = [
        ("ce-source", "/shop/eu"),
        ("ce-tenantid", "acme"),
        ("ce-priority", "7"),
        ("content-type", "application/json"),
    ];
    let headers: HeaderMap =
        headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let body = Bytes::from_static(br#"{"total":5,"lines":[{"sku":"a"},{"sku":"b"}]}"#);
    Event::new("order.created", headers, body)
}

fn structured() -> Event {
    let headers = [("content-type", "application/cloudevents+json")];
    let headers: HeaderMap =
        headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let body = r#"{"specversion":"1.0","id":"1","type":"other","source":"/shop/eu","tenantid":"acme","priority":7,
        "data":{"total":5,"lines":[{"sku":"a"},{"sku":"b"}]}}"#;
    Event::new("order.created", headers, Bytes::from_static(body.as_bytes()))
}

/// Filters and what they say about both events.
const CORPUS: &[(&str, &str)] = &[
    ("[]", "matches"),
    (r#"[{"exact":{"tenantid":"acme"}}]"#, "matches"),
    (r#"[{"exact":{"tenantid":"acme","source":"/shop"}}]"#, "filters[0]"),
    (r#"[{"exact":{"priority":"7"}}]"#, "matches"),
    (r#"[{"exact":{"missing":"x"}}]"#, "filters[0]"),
    (r#"[{"prefix":{"source":"/shop","type":"order."}}]"#, "matches"),
    (r#"[{"prefix":{"tenantid":"acme corp"}}]"#, "filters[0]"),
    (r#"[{"suffix":{"source":"/eu"}},{"suffix":{"type":".updated"}}]"#, "filters[1]"),
    (r#"[{"all":[{"exact":{"tenantid":"acme"}},{"prefix":{"type":"order"}}]}]"#, "matches"),
    (r#"[{"any":[{"exact":{"tenantid":"x"}},{"exact":{"tenantid":"acme"}}]}]"#, "matches"),
    (r#"[{"not":{"exact":{"tenantid":"acme"}}}]"#, "filters[0]"),
    (r#"[{"not":{"not":{"exact":{"tenantid":"acme"}}}}]"#, "matches"),
    (r#"[{"sql":"tenantid = 'acme' AND priority > 5"}]"#, "matches"),
    (r#"[{"sql":"missing = 'x'"}]"#, "filters[0] MissingAttribute"),
    (r#"[{"not":{"sql":"missing = 'x'"}}]"#, "filters[0] MissingAttribute"),
    (r#"[{"any":[{"sql":"missing = 'x'"},{"exact":{"tenantid":"acme"}}]}]"#, "matches"),
    (r#"[{"any":[{"sql":"missing = 'x'"},{"exact":{"tenantid":"x"}}]}]"#, "filters[0] MissingAttribute"),
    (r#"[{"all":[{"sql":"missing = 'x'"},{"exact":{"tenantid":"x"}}]}]"#, "filters[0]"),
    (r#"[{"jmespath":"data.total > `3`"}]"#, "matches"),
    (r#"[{"jmespath":"contains(data.lines[*].sku, 'c')"}]"#, "filters[0]"),
    (r#"[{"jmespath":"data.total"}]"#, "filters[0] NotBoolean"),
    (r#"[{"cel":"data.lines.exists(l, l.sku == 'b') && tenantid == 'acme'"}]"#, "matches"),
    (r#"[{"cel":"data.missing == 1"}]"#, "filters[0] NoSuchKey"),
    (r#"[{"cel":"type == 'order.created'"},{"exact":{"type":"order.created"}}]"#, "matches"),
];

#[test]
fn the_corpus_over_both_modes() {
    for event in [binary(), structured()] {
        let variables = Variables::of(&event);
        for (filters, want) in CORPUS {
            assert_eq!(compile(filters).unwrap().evaluate(&variables).to_string(), *want, "{filters}");
        }
    }
}

/// An event that passes has every value that the index looks for.
#[test]
fn what_is_indexed_holds_for_what_matches() {
    for event in [binary(), structured()] {
        let variables = Variables::of(&event);
        for (filters, want) in CORPUS {
            let filters = compile(filters).unwrap();
            let mut equalities = filters.equalities();
            let holds = |(_, name, value): (usize, &str, &str)| {
                variables.attribute(name).is_some_and(|found| found.into_text() == value)
            };
            assert!(*want != "matches" || equalities.all(holds), "{filters:?}");
        }
    }
    for (filters, want) in [
        (r#"[{"exact":{"tenantid":"a","source":"b"}}]"#, &[(0, "source", "b"), (0, "tenantid", "a")][..]),
        (
            r#"[{"all":[{"sql":"tenantid = 'a'"},{"cel":"source == 'b'"}]},{"jmespath":"type == 'c'"}]"#,
            &[(0, "tenantid", "a"), (0, "source", "b"), (1, "type", "c")],
        ),
        (
            r#"[{"any":[{"exact":{"tenantid":"a"}}]},{"not":{"exact":{"tenantid":"a"}}},{"prefix":{"tenantid":"a"}}]"#,
            &[],
        ),
    ] {
        let filters = compile(filters).unwrap();
        assert_eq!(filters.equalities().collect::<Vec<_>>(), want, "{filters:?}");
        let tells_tenants_apart = want.iter().find(|(_, name, _)| *name == "tenantid").copied();
        assert_eq!(filters.needs(), tells_tenants_apart, "{filters:?}");
    }
}

#[test]
fn what_is_refused_says_where() {
    let long = format!(r#"[{{"exact":{{"a":"{}"}}}}]"#, "x".repeat(1025));
    let many = format!("[{}]", [r#"{"sql":"TRUE"}"#; 11].join(","));
    for (filters, want) in [
        (r#"[{"any":[]}]"#, "filters[0].any: it has 0 entries; 1 to 10 are allowed"),
        (r#"[{"exact":{}}]"#, "filters[0].exact: it has 0 entries; 1 to 10 are allowed"),
        (
            r#"[{"sql":"TRUE"},{"prefix":{"Tenant":"a"}}]"#,
            "filters[1].prefix: \"Tenant\" is not the name of an attribute: up to 64 lower-case letters and digits, and not \"data\"",
        ),
        (r#"[{"exact":{"data":"a"}}]"#, "filters[0].exact: \"data\" is not"),
        (r#"[{"suffix":{"a":""}}]"#, "filters[0].suffix: the value of \"a\" is empty"),
        (&long, "filters[0].exact: the value of \"a\" is empty or longer than 1024 bytes"),
        (&many, "filters: it has 11 entries"),
        (
            r#"[{"not":{"all":[{"any":[{"sql":"TRUE"}]}]}}]"#,
            "filters[0].not.all[0].any[0].sql: filters are nested more than 3 deep",
        ),
        (
            r#"[{"all":[{"not":{"sql":"id = "}}]}]"#,
            "filters[0].all[0].not.sql: expected a value, at line 1, column 6:\nid = \n     ^",
        ),
        (r#"[{"cel":"id =="}]"#, "filters[0].cel: "),
        (r#"[{"jmespath":"["}]"#, "filters[0].jmespath: "),
    ] {
        let error = compile(filters).unwrap_err().to_string();
        assert!(error.starts_with(want), "{filters}: {error}");
    }
    for unknown in [r#"[{"lua":"x"}]"#, r#"[{"sql":"TRUE","cel":"true"}]"#, "[{}]"] {
        assert!(serde_json::from_str::<Vec<Filter>>(unknown).is_err(), "{unknown}");
    }
}

#[test]
fn data_is_not_parsed_for_filters_that_do_not_look_at_it() {
    let event = Event { body: Bytes::from_static(b"not JSON"), ..binary() };
    let variables = Variables::of(&event);
    for (filters, want) in [
        (r#"[{"cel":"tenantid == 'acme'"},{"jmespath":"tenantid == 'acme'"},{"sql":"tenantid = 'acme'"}]"#, "matches"),
        (r#"[{"cel":"data.total == 1"}]"#, "filters[0] NoJsonData"),
        (r#"[{"jmespath":"data.total"}]"#, "filters[0] NoJsonData"),
    ] {
        assert_eq!(compile(filters).unwrap().evaluate(&variables).to_string(), want, "{filters}");
    }
}
