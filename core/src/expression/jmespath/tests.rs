use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::event::Event;

fn event() -> Event {
    let headers = [("ce-tenantid", "acme"), ("ce-source", "/shop"), ("content-type", "application/json")];
    let headers: HeaderMap =
        headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let body = r#"{"total":5,"items":[{"sku":"a","tags":["x"]},{"sku":"b"}]}"#;
    Event::new("order.created", headers, Bytes::from_static(body.as_bytes()))
}

#[test]
fn filters() {
    let event = event();
    let variables = Variables::of(&event);
    for (text, want) in [
        ("tenantid == 'acme' && type == 'order.created'", Ok(true)),
        ("data.total > `3`", Ok(true)),
        ("contains(data.items[*].sku, 'b')", Ok(true)),
        ("subject == `null`", Ok(true)),
        ("data.nothing.at.all", Ok(false)),
        ("data.nothing > `3`", Ok(false)),
        ("data.total", Err(RunError::NotBoolean)),
        ("length(data.total)", Err(RunError::WrongType)),
        ("length()", Err(RunError::Function)),
        ("to_number('5') == `5` && to_number(`5`) == `5`", Ok(true)),
        ("to_number('[1]') == `null` && to_number('null') == `null` && to_number('x') == `null`", Ok(true)),
        ("sum(map(&length(sku), data.items)) == `2` && sort_by(data.items, &sku)[1].sku == 'b'", Ok(true)),
    ] {
        assert_eq!(Jmespath::compile(text).unwrap().matches(&variables), want, "{text}");
    }
}

#[test]
fn errors_say_where() {
    for (text, line) in [
        ("data.items[", "           ^"),
        ("a = 'b'", "  ^"),
        ("data.total > 3", "             ^"),
        ("a && nosuch(@)", "     ^"),
        ("id == '\u{e9}\u{1f600}' && nosuch(@)", "              ^"),
        ("id == '\u{e9}' && data.A == Tenant", "                       ^"),
        (" ", " ^"),
        ("&id", "^"),
        ("map([&id][0], data)", "     ^"),
        ("map(not_null(&id), data)", "             ^"),
        ("map(&[&id], data)", "      ^"),
        ("sort_by(&id, data)", "        ^"),
        ("data.a | {b: &id}", "             ^"),
    ] {
        let error = Jmespath::compile(text).unwrap_err().to_string();
        assert_eq!(error.lines().last().unwrap().trim_end(), line, "{error}");
    }
}

#[test]
fn data_is_parsed_only_for_who_looks_at_it() {
    for (text, looks) in
        [("tenantid == 'a'", false), ("data.total", true), ("@.total", true), ("*.total", true), ("[?a]", true)]
    {
        assert_eq!(Jmespath::compile(text).unwrap().looks_at_data(), looks, "{text}");
    }
}

#[test]
fn equalities_that_have_to_hold() {
    for (text, want) in [
        ("tenantid == 'x'", &[("tenantid", "x")][..]),
        ("'x' == tenantid && data.total > `3` && subject == 's'", &[("tenantid", "x"), ("subject", "s")]),
        ("tenantid == 'x' || subject == 's'", &[]),
        ("!(tenantid == 'x')", &[]),
        ("data.tenantid == 'x'", &[]),
        ("tenantid == `5`", &[]),
        ("data == 'x'", &[]),
    ] {
        assert_eq!(Jmespath::compile(text).unwrap().equalities(), want, "{text}");
    }
}

#[test]
fn hostile_texts_are_refused_or_cost_much() {
    let affordable = |text: &str, bytes: usize| {
        Jmespath::compile(text)
            .is_ok_and(|expression| expression.cost(Size { bytes, values: bytes / 8 }) < Cost(10_000_000))
    };
    let doubling = format!("data{}", "|[@,@][]".repeat(60));
    let joins = format!("{}data.a{}", "join(data.b, [".repeat(15), ",data.b])".repeat(15));
    let pairs = "data[?contains(data[*].a, b)]";
    let nested = format!("data[*].a{}", ".map(&@[*].a, @)".repeat(8));
    let merged = format!("merge({})", ["data"; 100].join(", "));
    for (text, size) in [(&*doubling, 100), (&joins, 1000), (pairs, 1_000_000), (&nested, 100_000), (&merged, 10_000)] {
        assert!(!affordable(text, size), "{text}");
    }
    for text in
        ["!".repeat(512), "a".repeat(5000), "[".repeat(64), "a.".repeat(500) + "a", "&".repeat(500), "[*]".repeat(64)]
    {
        let _ = Jmespath::compile(&text);
    }
    for text in ["tenantid == 'acme'", "data.total > `3`", "data.items[*].lines[*].sku | contains(@, 'x')"] {
        assert!(affordable(text, 1024), "{text}");
    }
    assert!(Jmespath::compile(&["type == 'com.example.a'"; 50].join(" || ")).is_ok());
}
