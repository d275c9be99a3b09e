use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::event::Event;

fn event() -> Event {
    let headers = [("ce-tenantid", "acme"), ("ce-source", "/shop"), ("content-type", "application/json")];
    let headers: HeaderMap =
        headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let body = r#"{"total":5,"ratio":0.5,"items":[{"sku":"a","tags":["x"]},{"sku":"b","tags":[]}],"big":[1,2,3]}"#;
    Event::new("order.created", headers, Bytes::from_static(body.as_bytes()))
}

#[test]
fn filters() {
    let event = event();
    let variables = Variables::of(&event);
    for (text, want) in [
        ("tenantid == 'acme' && type.startsWith('order.')", Ok(true)),
        ("data.total > 3 && data.ratio < 1.0", Ok(true)),
        ("data.items.exists(i, i.sku == 'b')", Ok(true)),
        ("data.items.all(i, i.tags.exists(t, t == 'x'))", Ok(false)),
        ("data.items.map(i, i.sku) == ['a', 'b']", Ok(true)),
        ("size(data.items.filter(i, size(i.tags) > 0)) == 1", Ok(true)),
        ("has(data.total) && !has(data.missing)", Ok(true)),
        ("subject == null", Ok(true)),
        ("'x' in ['x', 'y'] ? true : false", Ok(true)),
        ("5 in [1, 5.0] && !(5 in data.big) && data.total in [1u, 5u]", Ok(true)),
        ("'total' in data && !('x' in data) && [1] in [[2], [1]]", Ok(true)),
        ("data in [1.0, 'x', null] || data.items in data.items", Ok(false)),
        ("data.items.exists(i, 'x' in i.tags)", Ok(true)),
        ("'x' in 5", Err(RunError::WrongType)),
        ("[1] in data", Err(RunError::WrongType)),
        ("data", Err(RunError::NotBoolean)),
        ("data.missing == 1", Err(RunError::NoSuchKey)),
        ("data.big[7] == 1", Err(RunError::NoSuchKey)),
        ("missing == 'x'", Err(RunError::MissingAttribute)),
        ("data.total + 'x' == ''", Err(RunError::WrongType)),
        ("data.total / 0 == 1", Err(RunError::Math)),
        ("data.total", Err(RunError::NotBoolean)),
        ("int('x') == 1", Err(RunError::Function)),
    ] {
        let compiled = Cel::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(compiled.matches(&variables), want, "{text}");
    }
}

#[test]
fn errors_say_where() {
    for (text, line) in [
        ("data.total >", "            ^"),
        ("a ==\n  'b' 'c'", "      ^"),
        ("a && nosuch(b)", "     ^"),
        ("a.matches('b+')", "  ^"),
        ("'matches' == a.matches('b+')", "               ^"),
        ("'\u{e9}\u{1f600}' == id &&", "             ^"),
        ("id == '\u{e9}'\n  && '\u{e9}' == Tenant", "            ^"),
        ("data.items.all(i, i.Sku == tenant_id)", "                           ^"),
    ] {
        let error = Cel::compile(text).unwrap_err().to_string();
        assert_eq!(error.lines().last().unwrap(), line, "{error}");
    }
}

#[test]
fn data_is_parsed_only_for_who_looks_at_it() {
    for (text, looks) in [("tenantid == 'a'", false), ("data.total == 1", true), ("[1].all(x, has(data.x))", true)] {
        assert_eq!(Cel::compile(text).unwrap().looks_at_data(), looks, "{text}");
    }
}

#[test]
fn equalities_that_have_to_hold() {
    for (text, want) in [
        ("tenantid == 'x'", &[("tenantid", "x")][..]),
        ("'x' == tenantid && data.total > 3 && subject == 's'", &[("tenantid", "x"), ("subject", "s")]),
        ("tenantid == 'x' || subject == 's'", &[]),
        ("!(tenantid == 'x')", &[]),
        ("data.tenantid == 'x'", &[]),
        ("tenantid == 5", &[]),
    ] {
        assert_eq!(Cel::compile(text).unwrap().equalities(), want, "{text}");
    }
}

#[test]
fn hostile_texts_are_refused_or_cost_much() {
    let affordable = |text: &str, bytes: usize| {
        Cel::compile(text).is_ok_and(|expression| expression.cost(Size { bytes, values: bytes / 8 }) < Cost(10_000_000))
    };
    let list = format!("[{}]", ["1"; 500].join(","));
    let loops = format!("{list}.all(a, {list}.all(b, {list}.all(c, a == b)))");
    let deep = format!("{}true{}", "[1,2,3].all(x,".repeat(30), ")".repeat(30));
    for (text, size) in [
        (&*loops, 100),
        (&deep, 100),
        ("data.a.all(x, data.a.exists(y, x == y))", 100_000),
        ("data.a.map(x, data.a.map(y, data.a)) == []", 10_000),
        ("data.a.map(x, data.a).map(x, x + x).map(x, x + x) == []", 10_000),
        // An error copies what it is about, and is dropped.
        (&format!("{list}.all(a, '' < data || true)"), 100_000),
        (&format!("{list}.all(a, data.text < 1 || true)"), 1_000_000),
        (&format!("{list}.all(a, 1.0 == data || true)"), 100_000),
        (&format!("{list}.all(a, {{1: 2}}[data] == 1 || true)"), 100_000),
        (&format!("{list}.all(a, data.list[0.5] == 1 || true)"), 100_000),
    ] {
        assert!(!affordable(text, size), "{text}");
    }
    for text in ["tenantid == 'acme'", "data.total > 3", "data.items.all(i, i.tags.exists(t, t == 'x'))"] {
        assert!(affordable(text, 1024), "{text}");
    }
    // Nothing is copied to compare with each element.
    assert!(affordable("data in [1.0, 2.0, 3.0] || data.a in data.list", 100_000));
    // A filter doesn't copy its result; what is made of an event is copied.
    let size = Size { bytes: 1_000_000, values: 500_000 };
    let [filter, making] = [Cel::compile("data"), Cel::compile_to_make("data")].map(|cel| cel.unwrap().cost(size));
    assert!(filter < Cost(1000) && making > Cost::MOST, "{filter:?} {making:?}");
}

/// The texts that the generated parser of the crate takes gigabytes for, and others that exhaust stacks.
#[test]
fn no_text_takes_more_than_a_little_memory_and_stack() {
    let motif = "!!(!!!!!!(!!!!(((((!!(!!(!!!!((";
    for text in [
        motif.repeat(4) + "1",
        motif.repeat(20),
        "(".repeat(64) + &")".repeat(64),
        "(".repeat(64) + "1" + &")".repeat(64),
        "[".repeat(64) + "1" + &"]".repeat(64),
        "{".repeat(64),
        "!".repeat(512) + "true",
        "-".repeat(512) + "1",
        "a?b:".repeat(128) + "c",
        "a.".repeat(500) + "a",
        "a+".repeat(500) + "a",
        "a in ".repeat(800) + "a",
        "a||".repeat(250) + "a",
        "has(a.b)".repeat(60),
        "[1].map(x,".repeat(60),
        "'".to_owned() + &"\\".repeat(500),
        "a\u{0}b".to_owned(),
        "é".repeat(1000),
    ] {
        let _ = Cel::compile(&text);
    }
    let event = event();
    let nested = |depth: usize| format!("{}true{}", "[".repeat(depth), "]".repeat(depth)) + " != []";
    assert_eq!(Cel::compile(&nested(28)).unwrap().matches(&Variables::of(&event)), Ok(true));
    let chain = "data.total".to_owned() + &" + 1".repeat(28) + " == 33";
    assert_eq!(Cel::compile(&chain).unwrap().matches(&Variables::of(&event)), Ok(true));
    let loops = format!("{}true{}", "[1].all(x,".repeat(7), ")".repeat(7));
    assert_eq!(Cel::compile(&loops).unwrap().matches(&Variables::of(&event)), Ok(true));
}
