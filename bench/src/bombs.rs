//! Filters that are as hostile as they can be: deep, long, with loops in loops, over large bodies and long lists.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use hookwright_core::event::Event;
use hookwright_core::expression::{Cost, Variables};
use hookwright_core::select::filter::{Filter, Filters};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::figure::Figure;

/// The largest event.
const MIB: usize = 1 << 20;

/// The filters.
pub(crate) fn corpus() -> Vec<Filter> {
    let several = json!({ "not": { "any": vec![json!({ "cel": "data.list.exists(a, a < 0)" }); 10] } });
    let several = serde_json::from_value(several).into_iter();
    let cel = cel().into_iter().map(Filter::Cel);
    cel.chain(jmespath().into_iter().map(Filter::Jmespath))
        .chain(sql().into_iter().map(Filter::Sql))
        .chain(several)
        .collect()
}

fn nested(open: &str, inner: &str, close: &str, times: usize) -> String {
    format!("{}{inner}{}", open.repeat(times), close.repeat(times))
}

fn list(item: &str, times: usize) -> String {
    vec![item; times].join(",")
}

fn cel() -> Vec<String> {
    vec![
        "!!(!!!!!!(!!!!(((((!!(!!(!!!!((".repeat(4) + "1",
        nested("(", "1", ")", 64),
        nested("[", "1", "]", 28) + " == []",
        "!".repeat(512) + "true",
        "-".repeat(512) + "1 == 1",
        "a?b:".repeat(128) + "c",
        format!("data{} == 1", ".a".repeat(500)),
        "id+".repeat(500) + "id == ''",
        nested("[1,2,3].all(x,", "true", ")", 7),
        nested("[1,2,3].all(x,", "true", ")", 30),
        format!("[{0}].all(a, [{0}].all(b, a == b))", list("1", 500)),
        "data.list.all(a, data.list.exists(b, a == b))".to_owned(),
        "data.list.all(a, a >= 0)".to_owned(),
        "data.list.map(a, data.list) == []".to_owned(),
        "data.list.map(a, string(a)).map(a, a + a).map(a, a + a) == []".to_owned(),
        "data.text.contains(data.text)".to_owned(),
        "data.text + data.text == data.text".to_owned(),
        "data == data && data == data && data == data".to_owned(),
        format!("data.text in ['{}']", list("x", 800)),
        format!("data in [{}]", list("1.0", 400)),
        format!("[{}].all(a, '' < data || true)", list("1", 1500)),
        format!("[{}].all(a, 1.0 == data || true)", list("1", 1500)),
        format!("[{}].all(a, data.list[0.5] == 1 || true)", list("1", 1500)),
        "data".to_owned(),
    ]
}

fn jmespath() -> Vec<String> {
    vec![
        format!("data{} == `1`", "|[@,@][]".repeat(60)),
        format!("{}data.list{}", "join(data.text, [".repeat(15), ",data.text])".repeat(15)),
        "length(data.list[?contains(data.list[*], @)]) > `0`".to_owned(),
        format!("length(data.list{}) > `0`", "[*]".repeat(60)),
        format!("data{} == `1`", "[]".repeat(60)),
        "sort(data.list)[0] == `0`".to_owned(),
        "length(to_string(to_string(to_string(data)))) > `0`".to_owned(),
        "contains(data.text, data.text)".to_owned(),
        "!".repeat(512) + "id",
        "[".repeat(64),
        "&".repeat(500),
        format!("map([&(@{})][0], data.list)", "|[@,@][]".repeat(30)),
        format!("map(not_null(&(@{})), data.list)", "|[@,@][]".repeat(30)),
        "length(to_number(to_string(data.list))) > `0`".to_owned(),
        format!("length(merge({})) > `0`", vec!["data"; 50].join(",")),
    ]
}

fn sql() -> Vec<String> {
    vec![
        "(".repeat(4096),
        nested("NOT (", "TRUE", ")", 30),
        format!("id LIKE '{}'", "%a".repeat(2000)),
        format!("{} = 'x'", nested("CONCAT(id,id,", "id", ")", 30)),
        format!("{} = 'x'", nested("UPPER(LOWER(TRIM(", "subject", ")))", 10)),
        ["id = 'x'"; 200].join(" OR "),
        format!("1 IN ({})", list("1", 1500)),
    ]
}

/// The filters of the corpus that are accepted.
pub(crate) fn accepted() -> Vec<Filter> {
    let accepted = |filter: &Filter| Filters::compile(std::slice::from_ref(filter)).is_ok();
    corpus().into_iter().filter(accepted).collect()
}

/// The longest compilation, and the longest evaluation of what is not given up beforehand.
pub(crate) fn figures() -> Result<Vec<Figure>> {
    let events = events();
    let (mut compiling, mut evaluating, mut given_up) = (Duration::ZERO, Duration::ZERO, 0);
    let corpus = corpus();
    ensure!(corpus.len() >= 30, "{} filters", corpus.len());
    for filter in &corpus {
        let start = Instant::now();
        let compiled = Filters::compile(std::slice::from_ref(filter));
        compiling = compiling.max(start.elapsed());
        let Ok(filters) = compiled else { continue };
        for event in &events {
            let variables = Variables::of(event);
            if filters.cost(&variables) > Cost::MOST {
                given_up += 1;
                continue;
            }
            // To parse the data is not the filter's: it is done once for all of them.
            let _ = black_box(filters.evaluate(&variables));
            let start = Instant::now();
            let _ = black_box(filters.evaluate(&variables));
            evaluating = evaluating.max(start.elapsed());
        }
    }
    let millis = |took: Duration| took.as_secs_f64() * 1e3;
    Ok(vec![
        Figure::new("bombs: the longest evaluation", millis(evaluating), "ms").at_most(10.0),
        Figure::new("bombs: the longest compilation", millis(compiling), "ms").at_most(10.0),
        Figure::new("bombs: given up before an evaluation", f64::from(given_up), ""),
    ])
}

fn events() -> Vec<Event> {
    let bodies = [
        json!({ "list": [1, 2, 3], "text": "x" }),
        json!({ "list": (0..10_000).collect::<Vec<_>>(), "text": "x" }),
        json!({ "list": [], "text": "x".repeat(MIB - 100) }),
        json!({ "list": vec![json!({}); MIB / 4], "text": "" }),
        (0..100).fold(json!(1), |inner, _| json!({ "a": inner })),
    ];
    bodies.iter().map(event).collect()
}

fn event(data: &Value) -> Event {
    let mut headers = HeaderMap::new();
    for (name, value) in [("ce-id", "e-1"), ("ce-source", "/shop"), ("content-type", "application/json")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("ce-subject", HeaderValue::try_from("a".repeat(8000)).unwrap_or(HeaderValue::from_static("a")));
    Event::new("order.created", headers, Bytes::from(data.to_string()))
}
