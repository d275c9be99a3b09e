use bytes::Bytes;
use serde_json::{Value, json};

use super::super::Pointer;
use super::*;
use crate::event::event_type::EventTypeRule;
use crate::event::{Message, Reading, parse};
use crate::expression::Parsed;

/// A message of the type `t`, read as a dispatcher reads it.
fn published(headers: &[(&str, &str)], body: &[u8]) -> Arc<Event> {
    let body = Bytes::copy_from_slice(body);
    let published = "2026-01-01T00:00:00Z".parse().unwrap();
    let message = Message { subject: "t", headers, body: &body, stream: "s", sequence: 7, published };
    let rule = EventTypeRule::default();
    Arc::new(parse(&message, Reading { rule: &rule, source: &attribute_value("/p"), known_type: None }).unwrap())
}

fn binary(content_type: &str, body: &[u8]) -> Arc<Event> {
    let attributes = [("ce-id", "a%20b"), ("ce-source", "/s"), ("ce-time", "2026-02-02T00:00:00Z")];
    let more = [("ce-dataschema", "https://x/y"), ("ce-tenantid", "acme"), ("content-type", content_type)];
    published(&[&attributes[..], &more].concat(), body)
}

fn structured(body: &str) -> Arc<Event> {
    published(&[("content-type", "application/cloudevents+json; charset=utf-8")], body.as_bytes())
}

fn payload(spec: Value) -> Payload {
    serde_json::from_value(spec).unwrap()
}

fn policy(exclude: &[&str]) -> PayloadPolicy {
    let exclude = exclude.iter().map(|text| Pointer::parse(text).unwrap()).collect();
    PayloadPolicy { exclude, filters: Vec::new() }
}

fn renderer(spec: Value, withheld: &[&str]) -> Renderer {
    Renderer::new(&payload(spec), policy(withheld), Vec::new()).unwrap()
}

/// Why the webhook can't be made.
fn failed(renderer: &Renderer, event: &Arc<Event>) -> RenderFailure {
    match renderer.render(event) {
        Err(NotRendered::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

/// Content type, `ce-*` headers and body.
fn shown(event: &Event) -> (String, Vec<String>, String) {
    let header = |name: &str| event.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let attributes = event.headers.iter().filter(|(name, _)| name.as_str().starts_with("ce-"));
    let mut attributes: Vec<String> =
        attributes.map(|(name, value)| format!("{}={}", &name.as_str()[3..], value.to_str().unwrap())).collect();
    attributes.sort();
    (header("content-type"), attributes, String::from_utf8_lossy(&event.body).into_owned())
}

const JSON: &[u8] = br#"{"n": 12345678901234567890123, "m":1}"#;

const EMPTY: &str =
    r#"{"type":"t","id":"","source":"","specversion":"","time":"","x":"","datacontenttype":"","data":1}"#;

#[test]
fn any_published_form_becomes_any_mode() {
    let of_binary = ["dataschema=https://x/y", "id=a%20b", "source=/s", "specversion=1.0", "tenantid=acme"];
    let of_binary = [&of_binary[..], &["time=2026-02-02T00:00:00Z", "type=t"]].concat();
    let of_plain = ["id=s:7", "source=/p", "specversion=1.0", "time=2026-01-01T00:00:00Z", "type=t"];
    let of_structured = ["flag=true", "id=%C3%A4%201", "level=5", "source=/s", "specversion=1.0"];
    let of_structured = [&of_structured[..], &["time=2026-01-01T00:00:00Z", "type=u"]].concat();
    let of = |rest: &str| {
        let attributes = r#""specversion":"1.0","id":"a b","source":"/s","type":"t","time":"2026-02-02T00:00:00Z""#;
        format!(r#"{{{attributes},"dataschema":"https://x/y","tenantid":"acme",{rest}}}"#)
    };
    let plain = |rest: &str| {
        let attributes = r#""specversion":"1.0","id":"s:7","source":"/p","type":"t","time":"2026-01-01T00:00:00Z""#;
        format!("{{{attributes},{rest}}}")
    };
    let ce = |rest: &str| {
        let attributes = r#""specversion":"1.0","id":"ä 1","source":"/s","type":"u","flag":true,"level":5"#;
        format!("{{{attributes},{rest}}}")
    };
    let envelope =
        |kind: &str, time: &str, rest: &str| format!(r#"{{"type":"{kind}","timestamp":"{time}T00:00:00Z",{rest}}}"#);
    let (mine, stream) = ("2026-02-02", "2026-01-01");
    let json = String::from_utf8(JSON.to_vec()).unwrap();
    for (name, event, content_type, attributes, body, whole, data) in [
        (
            "binary, JSON",
            binary("application/json", JSON),
            "application/json",
            &of_binary[..],
            json.as_str(),
            of(&format!(r#""datacontenttype":"application/json","data":{json}"#)),
            envelope("t", mine, &format!(r#""data":{json}"#)),
        ),
        (
            "binary, text",
            binary("text/plain", "a \"ä\"\n".as_bytes()),
            "text/plain",
            &of_binary,
            "a \"ä\"\n",
            of(r#""datacontenttype":"text/plain","data":"a \"ä\"\n""#),
            envelope("t", mine, r#""data":"a \"ä\"\n""#),
        ),
        (
            "binary, bytes",
            binary("image/png", b"\x00\x01"),
            "image/png",
            &of_binary,
            "\u{0}\u{1}",
            of(r#""datacontenttype":"image/png","data_base64":"AAE=""#),
            envelope("t", mine, r#""data_base64":"AAE=""#),
        ),
        (
            "binary, no JSON after all",
            binary("application/json", b"{"),
            "application/json",
            &of_binary,
            "{",
            of(r#""datacontenttype":"application/json","data_base64":"ew==""#),
            envelope("t", mine, r#""data_base64":"ew==""#),
        ),
        (
            "binary, empty",
            binary("application/json", b""),
            "application/json",
            &of_binary,
            "",
            of(r#""datacontenttype":"application/json""#),
            envelope("t", mine, r#""data":null"#),
        ),
        (
            "plain",
            published(&[], b"{\"a\":1}"),
            "application/json",
            &of_plain,
            "{\"a\":1}",
            plain(r#""datacontenttype":"application/json","data":{"a":1}"#),
            envelope("t", stream, r#""data":{"a":1}"#),
        ),
        (
            "structured, JSON",
            structured(&ce(r#""data": {"b": 1.10}"#)),
            "application/json",
            &of_structured,
            r#"{"b": 1.10}"#,
            ce(r#""data": {"b": 1.10}"#),
            envelope("u", stream, r#""data":{"b": 1.10}"#),
        ),
        (
            "structured, text",
            structured(&ce(r#""datacontenttype":"text/plain","data":"x\ny""#)),
            "text/plain",
            &of_structured,
            "x\ny",
            ce(r#""datacontenttype":"text/plain","data":"x\ny""#),
            envelope("u", stream, r#""data":"x\ny""#),
        ),
        (
            "structured, a JSON text",
            structured(&ce(r#""data":"x""#)),
            "application/json",
            &of_structured,
            "\"x\"",
            ce(r#""data":"x""#),
            envelope("u", stream, r#""data":"x""#),
        ),
        (
            "structured, bytes",
            structured(&ce(r#""datacontenttype":"image/png","data_base64":"AAE=""#)),
            "image/png",
            &of_structured,
            "\u{0}\u{1}",
            ce(r#""datacontenttype":"image/png","data_base64":"AAE=""#),
            envelope("u", stream, r#""data_base64":"AAE=""#),
        ),
        (
            "structured, empty attributes",
            structured(EMPTY),
            "application/json",
            &of_plain,
            "1",
            // In its own form it goes out as it was published.
            EMPTY.to_owned(),
            envelope("t", stream, r#""data":1"#),
        ),
        (
            "structured, a blank content type",
            structured(&ce(r#""datacontenttype":" ","data":1"#)),
            "application/json",
            &of_structured,
            "1",
            ce(r#""datacontenttype":" ","data":1"#),
            envelope("u", stream, r#""data":1"#),
        ),
        (
            "structured, no data",
            structured(&ce(r#""data":null,"empty":null,"Odd":1"#)),
            "",
            &of_structured,
            "",
            ce(r#""data":null,"empty":null,"Odd":1"#),
            envelope("u", stream, r#""data":null"#),
        ),
    ] {
        let render = |mode: &str| renderer(json!({ "mode": mode }), &[]).render(&event).unwrap().event;
        let attributes: Vec<String> = attributes.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(shown(&render("Binary")), (content_type.to_owned(), attributes, body.to_owned()), "{name}");
        let (kind, headers, got) = shown(&render("Structured"));
        let value = |text: &str| serde_json::from_str::<Box<serde_json::value::RawValue>>(text).unwrap();
        assert!(kind.starts_with("application/cloudevents+json"), "{name}: {kind}");
        assert_eq!((headers, value(&got).get()), (Vec::new(), whole.as_str()), "{name}");
        assert_eq!(shown(&render("Envelope")), ("application/json".to_owned(), Vec::new(), data), "{name}");
        // Without a mode, everything is as it was published.
        assert!(Arc::ptr_eq(&renderer(json!({}), &[]).render(&event).unwrap().event, &event), "{name}");
    }
}

#[test]
fn what_no_mode_can_be_made_of() {
    let compressed = |headers: &[(&str, &str)]| {
        let event = published(headers, b"\x1f\x8b");
        let mut headers = event.headers.clone();
        headers.insert("content-encoding", "gzip".parse().unwrap());
        Arc::new(Event { headers, ..Event::clone(&event) })
    };
    let many: Vec<String> = (0..70).map(|i| format!(r#""a{i}":1"#)).collect();
    for (event, mode, want) in [
        (compressed(&[("content-type", "application/json")]), "Structured", "Encoded"),
        (compressed(&[("content-type", "application/json")]), "Envelope", "Encoded"),
        (structured(r#"{"type":"t","data":1,"data_base64":"AA=="}"#), "Binary", "NotACloudEvent"),
        (structured(r#"{"type":"t","data":1,"data":2}"#), "Envelope", "NotACloudEvent"),
        (structured(r#"{"type":"t","data_base64":"?"}"#), "Binary", "NotACloudEvent"),
        (structured(r#"{"type":"t","datacontenttype":"text/plain","data":"\ud800"}"#), "Binary", "NotACloudEvent"),
        (structured(&format!("{{\"type\":\"t\",{}}}", many.join(","))), "Binary", "TooManyAttributes"),
    ] {
        let failure = failed(&renderer(json!({ "mode": mode }), &[]), &event);
        assert_eq!(failure.problem.name(), want);
        assert!(renderer(json!({}), &[]).render(&event).is_ok(), "it goes out as it was published");
    }
    for (body, want) in [
        (r#"{"a":1,}"#, "its body can't be read as a JSON object: trailing comma at line 1 column 8"),
        (r#"["hush"]"#, "its body is no object"),
    ] {
        let event = structured(r#"{"type":"t"}"#);
        let event = Arc::new(Event { body: Bytes::from_static(body.as_bytes()), ..Event::clone(&event) });
        let failure = failed(&renderer(json!({ "mode": "Binary" }), &[]), &event).to_string();
        assert!(failure.ends_with(want), "{failure}");
    }
}

#[test]
fn a_subscription_chooses_fields() {
    let event = binary("application/json", br#"{"a":{"b":1,"c":2},"d":3,"e":4}"#);
    let ce = structured(r#"{"type":"u","n":5,"data":{"a":1,"d":3},"id":"1","source":"/s","specversion":"1.0"}"#);
    for (spec, event, body) in [
        (json!({ "include": ["/a/b", "/d"] }), &event, r#"{"a":{"b":1},"d":3}"#),
        (json!({ "exclude": ["/a/b", "/d"] }), &event, r#"{"a":{"c":2},"e":4}"#),
        (json!({ "include": ["/a"], "exclude": ["/d"] }), &event, r#"{"a":{"b":1,"c":2}}"#),
        (
            json!({ "include": ["/d"], "mode": "Envelope" }),
            &event,
            r#"{"type":"t","timestamp":"2026-02-02T00:00:00Z","data":{"d":3}}"#,
        ),
        (json!({ "include": ["/d"], "mode": "Binary" }), &ce, r#"{"d":3}"#),
    ] {
        let sent = renderer(spec.clone(), &[]).render(event).unwrap().event;
        assert_eq!(shown(&sent).2, body, "{spec}");
    }
    let sent = renderer(json!({ "exclude": ["/a"] }), &[]).render(&ce).unwrap().event;
    let sent: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!((&sent["n"], &sent["data"], &sent["type"]), (&json!(5), &json!({ "d": 3 }), &json!("u")));
    let failure = failed(&renderer(json!({ "exclude": ["/a"] }), &[]), &binary("text/plain", b"x"));
    assert_eq!(failure.to_string(), "payload.exclude: NotJson: the event's data is not JSON");
}

#[test]
fn what_the_producer_withholds_is_nowhere() {
    let data = r#"{"open":1,"secret":"hush","list":[{"secret":"hush","x":2}]}"#;
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data);
    let ce = |rest: &str| structured(&format!(r#"{{"type":"u","id":"1","source":"/s","specversion":"1.0",{rest}}}"#));
    let twisted = r#"{"open":1,"secret":"hush","\u0073ecret":"hush","list":[{"secret":"hush","s\u0065cret":"hush"}],"list":[{"secret":"hush"}]}"#;
    let twice = ce(r#""data":{"secret":"hush"},"data":{"secret":"hush"}"#);
    let both = ce(&format!(r#""data":{data},"data_base64":"{encoded}""#));
    let broken = published(&[("content-type", "application/cloudevents+json")], br#"{"type":"u","data":"hush"}"#);
    let broken = Arc::new(Event { body: Bytes::from_static(b"hush"), ..Event::clone(&broken) });
    for (name, event, withheld) in [
        ("binary", binary("application/json", data.as_bytes()), false),
        ("structured", ce(&format!(r#""data":{data}"#)), false),
        (
            "structured, base64",
            ce(&format!(r#""datacontenttype":"application/json","data_base64":"{encoded}""#)),
            false,
        ),
        ("an odd member", ce(&format!(r#""data":{data},"Data":{{"secret":"hush"}},"x":["hush"]"#)), false),
        ("a suffix", binary("application/vnd.shop.order+json; charset=UTF-8", data.as_bytes()), false),
        ("twice, and with escapes", binary("application/json", twisted.as_bytes()), false),
        ("in another encoding", binary("application/json; charset=utf-16", data.as_bytes()), true),
        (
            "compressed",
            published(&[("content-type", "application/json"), ("content-encoding", "gzip")], data.as_bytes()),
            true,
        ),
        ("text", binary("text/plain", data.as_bytes()), true),
        ("bytes", binary("application/octet-stream", data.as_bytes()), true),
        ("no JSON", binary("application/json", b"{\"secret\":\"hush\""), true),
        ("twice", twice, true),
        ("both", both, true),
        ("no structured event", broken, true),
        ("a text in a structured event", ce(r#""datacontenttype":"text/plain","data":"hush""#), true),
    ] {
        for spec in [
            json!({}),
            json!({ "mode": "Binary" }),
            json!({ "mode": "Structured" }),
            json!({ "mode": "Envelope" }),
            json!({ "include": ["/secret", "/list/0/secret"] }),
            json!({ "exclude": ["/open"] }),
            json!({ "transform": { "program": { "template": "[{{ data }}, {{ data }}]" } } }),
            json!({ "transform": { "program": { "jmespath": "{a: @, b: data, c: to_string(@), d: data.secret, e: data.*}" } } }),
            json!({ "transform": { "program": { "cel": "{'a': data, 'b': [type, data]}" } } }),
        ] {
            let renderer = renderer(spec.clone(), &["/secret", "/list/0/secret"]);
            let rendered = renderer.render(&event).unwrap();
            let redacted = renderer.redacted(&event).unwrap();
            for sent in [&*rendered.event, &redacted] {
                assert!(!format!("{:?}", shown(sent)).contains("hush"), "{name} {spec}: {:?}", shown(sent));
                assert!(!String::from_utf8_lossy(&sent.body).contains(&encoded[..8]), "{name} {spec}");
            }
            assert_eq!(rendered.withheld, withheld, "{name} {spec}");
            // What is redacted has the form that was published.
            let is_structured = event.stand_ins.is_some();
            assert_eq!(shown(&redacted).0.starts_with("application/cloudevents"), is_structured, "{name}");
        }
    }
    let open = renderer(json!({}), &["/secret"]).render(&binary("application/json", data.as_bytes())).unwrap();
    assert_eq!(shown(&open.event).2, r#"{"open":1,"list":[{"secret":"hush","x":2}]}"#);
    assert!(renderer(json!({}), &[]).redacted(&binary("text/plain", b"x")).is_none());
}

/// What is withheld can't be guessed either: nothing of a Subscription's tells one secret from another.
#[test]
fn no_dialect_tells_one_secret_from_another() {
    let event = |secret: &str| {
        let data = format!(r#"{{"open":1,"secret":{secret},"list":[{{"secret":{secret}}}]}}"#);
        [
            binary("application/json", data.as_bytes()),
            structured(&format!(r#"{{"type":"t","id":"1","source":"/s","specversion":"1.0","data":{data}}}"#)),
        ]
    };
    let events = event("\"hush\"").into_iter().zip(event("[1,2]"));
    let headers =
        ["datacontenttype", "secret", "data"].map(|name| (HeaderName::from_static("x-secret"), name.to_owned()));
    for (one, other) in events {
        // What was parsed of the whole event is not used for those that something is withheld from.
        assert!([&one, &other].iter().all(|event| Variables::of(event).data().is_ok()));
        for filter in [
            json!({ "exact": { "secret": "hush" } }),
            json!({ "prefix": { "secret": "h" } }),
            json!({ "not": { "suffix": { "secret": "h" } } }),
            json!({ "sql": "EXISTS secret" }),
            json!({ "jmespath": "data.secret == 'hush'" }),
            json!({ "jmespath": "contains(to_string(@), 'hush')" }),
            json!({ "jmespath": "length(data.list[0]) == `0`" }),
            json!({ "cel": "has(data.secret)" }),
            json!({ "cel": "data.secret == 'hush'" }),
            json!({ "not": { "cel": "data.list.exists(e, size(e) > 0)" } }),
        ] {
            let filters = Filters::compile(&[serde_json::from_value(filter.clone()).unwrap()]).unwrap();
            let renderer = renderer(json!({}), &["/secret", "/list/0/secret"]);
            let said = [&one, &other].map(|event| {
                let redacted = renderer.redacted(event).unwrap();
                filters.evaluate(&Variables::of(&redacted))
            });
            assert_eq!(said[0], said[1], "{filter}");
        }
        for spec in [
            json!({ "mode": "Structured", "include": ["/secret", "/list"] }),
            json!({ "mode": "Envelope", "exclude": ["/open"] }),
            json!({ "transform": { "program": { "template": "{{ data.secret | default('none') }} {{ data }}" } } }),
            json!({ "transform": { "program": { "template": "{{ 1 if data.secret else 2 }}" } } }),
            json!({ "transform": { "program": { "jmespath": "{a: data.secret, b: length(data.list[0]), c: @}" } } }),
            json!({ "transform": { "program": { "jmespath": "length(data.secret)" } } }),
            json!({ "transform": { "program": { "cel": "data.secret" } } }),
            json!({ "transform": { "program": { "cel": "[has(data.secret), data.list]" } } }),
        ] {
            let policy = policy(&["/secret", "/list/0/secret"]);
            let renderer = Renderer::new(&payload(spec.clone()), policy, headers.to_vec()).unwrap();
            let told = [&one, &other].map(|event| {
                renderer.render(event).map(|rendered| (rendered.event.headers.clone(), rendered.event.body.clone()))
            });
            assert_eq!(told[0], told[1], "{spec}");
        }
    }
}

#[test]
fn headers_from_attributes() {
    let headers = [("x-tenant", "tenantid"), ("x-none", "nothing"), ("x-id", "id"), ("x-type", "datacontenttype")];
    let headers = headers.map(|(name, attribute)| (HeaderName::from_static(name), attribute.to_owned()));
    let ce = r#"{"type":"u","id":"ä\r\nx: y","source":"/s","specversion":"1.0","tenantid":"acme","nothing":""}"#;
    for (event, id) in [(binary("text/plain", b"x"), "a%20b"), (structured(ce), "%C3%A4%0D%0Ax:%20y")] {
        for mode in
            [json!({}), json!({ "mode": "Binary" }), json!({ "mode": "Structured" }), json!({ "mode": "Envelope" })]
        {
            let renderer = Renderer::new(&payload(mode.clone()), PayloadPolicy::default(), headers.to_vec()).unwrap();
            let sent = renderer.render(&event).unwrap().event;
            let header = |name: &str| sent.headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(
                [header("x-tenant"), header("x-none"), header("x-id")],
                [Some("acme"), None, Some(id)],
                "{mode}"
            );
            assert_eq!(header("x-type"), Some("text/plain").filter(|_| event.stand_ins.is_none()));
        }
    }
}

#[test]
fn attributes_that_no_receiver_has_to_take_as_headers() {
    let event = |length: usize| published(&[("ce-note", &*"x".repeat(length)), ("ce-id", "1")], b"{}");
    let ce = |length: usize| structured(&format!(r#"{{"type":"t","note":"{}","data":{{}}}}"#, "x".repeat(length)));
    let copy = vec![(HeaderName::from_static("x-note"), "note".to_owned())];
    for (spec, copies, of_binary, of_structured) in [
        (json!({}), false, false, true),
        (json!({ "mode": "Binary" }), false, false, false),
        (json!({ "mode": "Structured" }), false, true, true),
        (json!({ "mode": "Envelope" }), false, true, true),
        (json!({ "mode": "Envelope" }), true, false, false),
        (json!({ "transform": { "program": { "jmespath": "{a: id}" } } }), false, false, false),
    ] {
        let headers = if copies { copy.clone() } else { Vec::new() };
        let renderer = Renderer::new(&payload(spec.clone()), PayloadPolicy::default(), headers).unwrap();
        let lengths = [60_000, 70_000];
        for ([small, large], fits) in [(lengths.map(event), of_binary), (lengths.map(ce), of_structured)] {
            assert!(renderer.render(&small).is_ok(), "{spec}");
            match renderer.render(&large) {
                Ok(_) => assert!(fits, "{spec}"),
                Err(NotRendered::Failed(failure)) => {
                    let said =
                        "payload.mode: AttributesTooLarge: the event's attributes take more than 64 KiB of headers";
                    assert!(!fits && failure.to_string() == said, "{spec}: {failure}");
                }
                Err(other) => panic!("{spec}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_transform_makes_the_data_of_each_mode() {
    let event = binary("application/json", br#"{"id":7,"secret":"hush"}"#);
    let template = r#" {"text": "{{ type }} {{ data.id }} of {{ tenantid }}"} "#;
    let json = r#"{"text": "t 7 of acme"}"#;
    let transform =
        |content_type: Option<&str>| json!({ "program": { "template": template }, "contentType": content_type });
    for (spec, content_type, body) in [
        (json!({ "transform": transform(None) }), "application/json", json.to_owned()),
        (json!({ "transform": transform(Some("application/x+json")) }), "application/x+json", json.to_owned()),
        (json!({ "transform": transform(Some("text/plain")) }), "text/plain", format!(" {json} ")),
        (
            json!({ "mode": "Envelope", "transform": transform(None) }),
            "application/json",
            format!(r#"{{"type":"t","timestamp":"2026-02-02T00:00:00Z","data":{json}}}"#),
        ),
    ] {
        let sent = renderer(spec.clone(), &[]).render(&event).unwrap().event;
        assert_eq!((shown(&sent).0, shown(&sent).2), (content_type.to_owned(), body), "{spec}");
    }
    let structured =
        structured(r#"{"type":"t","id":"1","source":"/s","specversion":"1.0","tenantid":"acme","data":{"id":7}}"#);
    let sent = renderer(json!({ "transform": transform(None) }), &[]).render(&structured).unwrap().event;
    assert_eq!((shown(&sent).0.as_str(), shown(&sent).2.as_str()), ("application/json", json));
    for (template, exclude, want) in [
        (
            "{{ data.secret }}",
            json!(["/secret"]),
            "payload.transform.template, line 1: Undefined: the event has no such field",
        ),
        ("{{ data.id }},", json!([]), "payload.transform.template: ResultNotJson: the result is not JSON"),
    ] {
        let spec = json!({ "exclude": exclude, "transform": { "program": { "template": template } } });
        assert_eq!(failed(&renderer(spec, &[]), &event).to_string(), want);
    }
}

#[test]
fn filters_of_the_producer_look_at_the_whole_event_and_let_through_what_passes_them_all() {
    let event = binary("application/json", br#"{"id":7,"secret":"hush"}"#);
    let ce = structured(
        r#"{"type":"t","id":"1","source":"/s","specversion":"1.0","tenantid":"acme","data":{"secret":"hush"}}"#,
    );
    let text = binary("text/plain", b"x");
    for (filters, event, want) in [
        (json!([{ "exact": { "tenantid": "acme" } }]), &event, Ok(())),
        (json!([{ "exact": { "tenantid": "acme" } }, { "sql": "tenantid = 'other'" }]), &event, Err(false)),
        (json!([{ "jmespath": "data.secret == 'hush'" }]), &event, Ok(())),
        (json!([{ "cel": "data.secret == 'hush'" }, { "prefix": { "source": "/s" } }]), &ce, Ok(())),
        (json!([{ "cel": "data.secret != 'hush'" }]), &ce, Err(false)),
        (json!([{ "not": { "jmespath": "data.secret == 'hush'" } }]), &event, Err(false)),
        (json!([{ "jmespath": "data.secret == 'hush'" }]), &text, Err(true)),
        (json!([{ "not": { "jmespath": "data.secret == 'hush'" } }]), &text, Err(true)),
    ] {
        let policy =
            PayloadPolicy { filters: serde_json::from_value(filters.clone()).unwrap(), ..policy(&["/secret"]) };
        let renderer = Renderer::new(&Payload::default(), policy, Vec::new()).unwrap();
        let rendered = renderer.render(event).map(drop);
        let want = want.map_err(|failed| NotRendered::Forbidden(Forbidden { failed }));
        assert_eq!(rendered, want, "{filters}");
    }
    let large = binary("application/json", format!("[{}0]", "0,".repeat(200_000)).as_bytes());
    let filters = serde_json::from_value(json!([{ "cel": "data.exists(a, data.exists(b, a != b))" }])).unwrap();
    let policy = PayloadPolicy { filters, ..PayloadPolicy::default() };
    let renderer = Renderer::new(&Payload::default(), policy, Vec::new()).unwrap();
    assert_eq!(renderer.render(&large).unwrap_err(), NotRendered::Forbidden(Forbidden { failed: true }));
    assert!(renderer.is_costly(&large));
}

#[test]
fn what_takes_too_long_to_take_apart_is_not_sent() {
    let (levels, pointer) = (32, "/0".repeat(32));
    let data = format!("{}\"{}\"{}", "[".repeat(levels), "x".repeat(300_000), "]".repeat(levels));
    let event = binary("application/json", data.as_bytes());
    for (spec, place) in [
        (json!({ "include": [pointer] }), "payload.include"),
        (json!({ "exclude": [pointer, "/1"] }), "payload.exclude"),
    ] {
        let failure = failed(&renderer(spec.clone(), &[]), &event);
        assert_eq!((failure.place.as_str(), failure.problem.name()), (place, "TooExpensive"), "{spec}");
    }
    let withheld = renderer(json!({}), &[&pointer]).render(&event).unwrap();
    assert!(withheld.withheld && withheld.event.body.is_empty());
    let shallow = renderer(json!({ "exclude": ["/0/1"] }), &[]);
    assert!(shallow.render(&event).is_ok() && shallow.is_costly(&event));
}

#[test]
fn transforms_of_whole_data_share_what_was_parsed() {
    let event = binary("application/json", br#"{"id":7,"secret":"hush"}"#);
    let parsed = Parsed::of(&event);
    let uses = |spec: &Value, withheld: &[&str]| {
        let before = Arc::strong_count(&parsed);
        let rendered = renderer(spec.clone(), withheld).render(&event).unwrap();
        assert_eq!(Arc::strong_count(&parsed), before, "it isn't kept by what is sent");
        shown(&rendered.event).2
    };
    for program in [
        json!({ "template": "{\"a\":{{ data }}}" }),
        json!({ "jmespath": "{a: data}" }),
        json!({ "cel": "{'a': data}" }),
    ] {
        let transform = |more: &Value| {
            let mut spec = json!({ "transform": { "program": program } });
            more.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
            spec
        };
        for _ in 0..2 {
            let whole = uses(&transform(&json!({})), &[]);
            assert_eq!(serde_json::from_str::<Value>(&whole).unwrap(), json!({ "a": { "id": 7, "secret": "hush" } }));
        }
        for (more, withheld) in [
            (json!({}), &["/secret"][..]),
            (json!({ "exclude": ["/secret"] }), &[]),
            (json!({ "include": ["/id"] }), &[]),
        ] {
            assert_eq!(uses(&transform(&more), withheld), r#"{"a":{"id":7}}"#, "{program} {more}");
        }
    }
    assert!(parsed.other.get::<minijinja::Value>().is_some(), "a template's form is kept, too");
}
