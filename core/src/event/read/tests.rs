//! Tables of messages in each of their forms.

use super::*;

fn read(rule: &EventTypeRule, headers: &[(&str, &str)], body: &'static str) -> Result<Event, Malformed> {
    let body = Bytes::from_static(body.as_bytes());
    let published = "2026-01-01T00:00:00Z".parse().unwrap();
    let message = Message {
        subject: "shop.events.order.created",
        headers,
        body: &body,
        stream: "shop_orders",
        sequence: 7,
        published,
    };
    parse(&message, Reading { rule, source: &attribute_value("/shop"), known_type: None })
}

fn rule(from: Option<EventTypeSource>, strip: Option<&str>) -> EventTypeRule {
    EventTypeRule { from, strip_prefix: strip.map(str::to_owned) }
}

fn header<'a>(event: &'a Event, name: &str) -> &'a str {
    event.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn not_every_message_is_an_event() {
    for (name, value, want) in [
        ("Nats-Marker-Reason", "MaxAge", false),
        ("Nats-Schedule", "@at 2026-01-01T00:00:00Z", false),
        ("KV-Operation", "DEL", false),
        ("KV-Operation", "PURGE", false),
        ("KV-Operation", "PUT", true),
        ("Nats-Scheduler", "shop.later", true),
        ("Nats-TTL", "1s", true),
    ] {
        assert_eq!(is_event(|header| (header == name).then_some(value)), want, "{name}: {value}");
    }
}

#[test]
fn a_plain_message_becomes_a_cloudevent() {
    let event = read(&rule(None, Some("shop.events.")), &[("Nats-Msg-Id", "o 1")], r#" {"a":1}"#).unwrap();
    assert_eq!(event.event_type, "order.created");
    assert_eq!(event.body.as_ref(), br#" {"a":1}"#);
    for (name, want) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "o%201"),
        ("ce-source", "/shop"),
        ("ce-type", "order.created"),
        ("ce-time", "2026-01-01T00:00:00Z"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(header(&event, name), want, "{name}");
    }
    let event = read(&rule(None, None), &[], "\u{1}binary").unwrap();
    assert_eq!(header(&event, "ce-id"), "shop_orders:7");
    assert_eq!(header(&event, "content-type"), "application/octet-stream");
}

#[test]
fn what_http_cannot_carry_is_encoded() {
    let body = Bytes::new();
    let message = |headers, stream| Message {
        subject: "t",
        headers,
        body: &body,
        stream,
        sequence: 7,
        published: "2026-01-01T00:00:00.000000001Z".parse().unwrap(),
    };
    let rule = rule(None, None);
    let reading = Reading { rule: &rule, source: &attribute_value("/é"), known_type: None };
    for (headers, stream, id) in [
        (&[][..], "bestellungen_ä", "bestellungen_%C3%A4:7"),
        (&[("Nats-Msg-Id", "é \"1\" %")], "s", "%C3%A9%20%221%22%20%25"),
        (&[("Nats-Msg-Id", "")], "s", "s:7"),
    ] {
        let event = parse(&message(headers, stream), reading).unwrap();
        let got = ["ce-id", "ce-source", "ce-time"].map(|name| header(&event, name));
        assert_eq!(got, [id, "/%C3%A9", "2026-01-01T00:00:00.000000001Z"]);
    }
}

#[test]
fn binary_mode_keeps_its_attributes() {
    let headers = [
        ("Ce-Type", "t.a"),
        ("ce-id", "1"),
        ("ce-source", "s"),
        ("ce-ext", "x%20y"),
        ("Content-Type", "text/xml"),
        ("other", "o"),
    ];
    let event = read(&rule(None, None), &headers, "<a/>").unwrap();
    assert_eq!(event.event_type, "t.a");
    assert_eq!((header(&event, "ce-id"), header(&event, "ce-ext")), ("1", "x%20y"));
    assert_eq!(header(&event, "content-type"), "text/xml");
    assert!(!event.headers.contains_key("other"));
}

#[test]
fn structured_mode_goes_out_as_published() {
    let content = [("content-type", "application/cloudevents+json; charset=utf-8")];
    let body = r#"{"specversion":"1.0","id":"é 1","source":"s","type":"t.b","n":3,"data":{"x":1}}"#;
    let event = read(&rule(Some(EventTypeSource::CloudEvents), None), &content, body).unwrap();
    assert_eq!(event.event_type, "t.b");
    assert_eq!(event.body.as_ref(), body.as_bytes());
    assert_eq!((event.headers.len(), header(&event, "content-type")), (1, content[0].1));
}

#[test]
fn where_the_type_comes_from() {
    let ce = [("ce-type", "t.c"), ("X-Kind", "k.d")];
    let from_header = |name: &str| Some(EventTypeSource::Header { name: name.to_owned() });
    for (from, strip, headers, want) in [
        (None, None, &ce[..], Ok("t.c")),
        (None, Some("shop."), &[][..], Ok("events.order.created")),
        (None, Some("other."), &[][..], Ok("shop.events.order.created")),
        (None, Some("shop.events.order.created"), &[][..], Ok("shop.events.order.created")),
        (Some(EventTypeSource::Subject), Some("shop.events."), &ce[..], Ok("order.created")),
        (Some(EventTypeSource::CloudEvents), None, &[][..], Err(Malformed::MissingType)),
        (from_header("x-kind"), None, &ce[..], Ok("k.d")),
        (from_header("Ce-Kind"), None, &[("ce-kind", "\"k%2Ed\"")], Ok("k.d")),
        (from_header("ce-kind"), None, &[("ce-kind", "%FF")], Err(Malformed::NotUtf8 { name: "ce-kind".to_owned() })),
        (from_header("x-none"), None, &ce[..], Err(Malformed::MissingType)),
    ] {
        let got = read(&rule(from.clone(), strip), headers, "{}").map(|event| event.event_type);
        assert_eq!(got, want.map(str::to_owned), "{from:?}");
    }
}

/// What binary mode reads (NATS binding) and writes (HTTP binding), rule by rule.
#[test]
fn binary_mode_table() {
    for (headers, name, want) in [
        // Names without regard to case; values unquoted, decoded once, and encoded (3.1.3.2).
        (&[("CE-TYPE", "\"order.created\"")][..], "ce-type", "order.created"),
        (&[("ce-subject", "100% \"sure\" %C3%A4")], "ce-subject", "100%25%20%22sure%22%20%C3%A4"),
        (&[("ce-ext", "\"a \\\"b\\\"\"")], "ce-ext", "a%20%22b%22"),
        // A text of white space isn't empty.
        (&[("ce-subject", "%20")], "ce-subject", "%20"),
        // The content type is the attribute datacontenttype, which has no header of its own (3.1.1).
        (&[("ce-datacontenttype", "text/xml"), ("content-type", "text/plain")], "content-type", "text/xml"),
        (&[("ce-datacontenttype", "text/xml")], "ce-datacontenttype", ""),
        (&[("content-type", "text/plain")], "content-type", "text/plain"),
        (&[("ce-datacontenttype", "\"text/plain; charset=x\"")], "content-type", "text/plain; charset=x"),
        (&[("ce-datacontenttype", ""), ("content-type", "text/plain")], "content-type", "text/plain"),
        (&[("content-type", "")], "content-type", "application/octet-stream"),
        // A blank one is none.
        (&[("ce-datacontenttype", "%20"), ("content-type", "text/plain")], "content-type", "text/plain"),
        (&[("ce-datacontenttype", "\"%09 %20\"")], "content-type", "application/octet-stream"),
        (&[("ce-datacontenttype", "%20text/xml%20")], "content-type", "text/xml"),
        (&[("content-type", " ")], "content-type", "application/octet-stream"),
        (&[("content-encoding", " ")], "content-encoding", ""),
        (&[("Content-Encoding", "gzip")], "content-encoding", "gzip"),
        // Required attributes are never empty.
        (&[("ce-id", ""), ("Nats-Msg-Id", "n")], "ce-id", "n"),
        (&[("ce-source", " ")], "ce-source", "/shop"),
        (&[("ce-specversion", "")], "ce-specversion", "1.0"),
        (&[("ce-time", "")], "ce-time", "2026-01-01T00:00:00Z"),
        (&[("ce-time", "2026-01-01t09:30:00.5+02:00")], "ce-time", "2026-01-01t09:30:00.5+02:00"),
        (&[("ce-specversion", "0.3")], "ce-specversion", "0.3"),
        // Only names that may be attributes.
        (&[("ce-my_ext", "x")], "ce-my_ext", ""),
        (&[("ce-data", "x")], "ce-data", ""),
        (&[("ce-empty", "")], "ce-empty", ""),
    ] {
        let event = read(&rule(None, None), headers, "<a/>").unwrap();
        assert_eq!(header(&event, name), want, "{headers:?}");
    }
}

/// Which texts are times (RFC 3339, 5.6).
#[test]
fn times_table() {
    for (text, want) in [
        ("2026-01-01T00:00:00Z", true),
        ("2026-01-01t00:00:00.5z", true),
        ("2026-01-01T00:00:00.123456789012+05:30", true),
        ("2026-01-01T00:00:00-00:00", true),
        ("2016-12-31T23:59:60Z", true),
        ("0001-01-01T00:00:00Z", true),
        ("9999-12-31T23:59:59.999Z", true),
        ("2026-02-29T00:00:00Z", false),
        ("2026-01-01T24:00:00Z", false),
        ("2026-01-01T00:00:00", false),
        ("2026-01-01T00:00Z", false),
        ("2026-01-01T00:00:00.Z", false),
        ("2026-01-01T00:00:00,5Z", false),
        ("2026-01-01T00:00:00+0530", false),
        ("2026-01-01T00:00:00+24:00", false),
        ("2026-01-01T00:00:00+05:3", false),
        ("2026-01-01T00:00:00++5:30", false),
        ("2026-01-01 00:00:00Z", false),
        ("20260101T000000Z", false),
        ("2026-01-01T00:00:00Z[UTC]", false),
        ("+02026-01-01T00:00:00Z", false),
        ("2026-01-01T00:00:0\u{e4}Z", false),
        ("1767225600", false),
    ] {
        assert_eq!(is_time(text), want, "{text}");
    }
}

#[test]
fn headers_have_one_order() {
    let mut headers = vec![
        ("ce-zone", "z"),
        ("content-encoding", "br"),
        ("ce-time", "2026-01-01T00:00:00Z"),
        ("ce-app", "a"),
        ("ce-source", "s"),
        ("ce-type", "t"),
        ("content-type", "x/y"),
        ("ce-id", "1"),
    ];
    for _ in 0..2 {
        headers.reverse();
        let event = read(&rule(None, None), &headers, "").unwrap();
        let names: Vec<_> = event.headers.keys().map(|name| name.as_str().trim_start_matches("ce-")).collect();
        let want = ["content-type", "content-encoding", "specversion", "id", "source", "type", "time", "app", "zone"];
        assert_eq!(names, want);
    }
}

/// Which content types say structured mode (HTTP binding, 3; NATS binding, 3), and which formats of it can be read.
#[test]
fn modes_table() {
    const JSON: &str = r#"{"type":"t.b"}"#;
    for (headers, want) in [
        (&[("content-type", "application/cloudevents+json")][..], Ok((true, "t.b"))),
        (&[("Content-Type", "APPLICATION/CloudEvents+JSON ; charset=UTF-8")], Ok((true, "t.b"))),
        (&[("content-type", "application/cloudevents")], Ok((true, "t.b"))),
        (&[("ce-datacontenttype", "application/cloudevents+json"), ("ce-type", "t.a")], Ok((true, "t.b"))),
        (&[("content-type", "application/cloudevents+json"), ("ce-datacontenttype", "a/b")], Ok((true, "t.b"))),
        (&[("content-type", "application/cloudeventsx"), ("ce-type", "t.a")], Ok((false, "t.a"))),
        (&[("content-type", "application/json"), ("ce-type", "t.a")], Ok((false, "t.a"))),
        (&[("ce-type", "t.a")], Ok((false, "t.a"))),
        (&[("content-type", "application/cloudevents-batch")], Err(Malformed::Batch)),
        (&[("content-type", "application/cloudevents+xml")], Err(Malformed::UnknownFormat)),
    ] {
        let event = read(&rule(None, None), headers, JSON);
        let got = event.as_ref().map(|event| (event.is_structured(), event.event_type.as_str())).map_err(Clone::clone);
        assert_eq!(got, want, "{headers:?}");
        assert!(
            event.is_err() || event.is_ok_and(|event| event.is_structured() != event.headers.contains_key("ce-id"))
        );
    }
}

#[test]
fn a_body_without_a_content_type_is_json_if_it_looks_like_it() {
    for (body, want) in [
        (" {\"a\":1}", "application/json"),
        ("\u{feff}[1]", "application/json"),
        ("\"a\"", "application/json"),
        ("1", "application/octet-stream"),
        ("", "application/octet-stream"),
    ] {
        assert_eq!(header(&read(&rule(None, None), &[], body).unwrap(), "content-type"), want, "{body}");
    }
}

/// A structured event is read only if its type is needed.
#[test]
fn a_structured_event_is_read_as_far_as_routing_needs() {
    let structured = [("Content-Type", "Application/CloudEvents"), ("ce-type", "other"), ("ce-id", "%FF")];
    let compressed = [structured[0], ("content-encoding", "gzip")];
    let from_header = Some(EventTypeSource::Header { name: "ce-type".to_owned() });
    for (from, headers, body, want) in [
        (None, &structured[..], r#"{"type":"t.b","data":"\ud83d"}"#, Ok("t.b")),
        (None, &structured, "{}", Ok("shop.events.order.created")),
        (Some(EventTypeSource::CloudEvents), &structured, "{}", Err(Malformed::MissingType)),
        (Some(EventTypeSource::Subject), &structured, "not JSON", Ok("shop.events.order.created")),
        (Some(EventTypeSource::Subject), &compressed, "\u{1f}", Ok("shop.events.order.created")),
        (from_header, &structured, "not JSON", Ok("other")),
        (None, &compressed, "\u{1f}", Err(Malformed::Encoded)),
    ] {
        let event = read(&rule(from.clone(), None), headers, body);
        let got = event.as_ref().map(|event| event.event_type.as_str()).map_err(Clone::clone);
        assert_eq!(got, want, "{from:?} {body}");
        assert!(event.is_err() || event.is_ok_and(|event| event.is_structured() && event.body == body));
    }
}

#[test]
fn malformed_table() {
    let structured = [("content-type", "application/cloudevents+json")];
    let twice = |name: &str| Malformed::Twice { name: name.to_owned() };
    for (headers, body, want) in [
        (&structured[..], "[]", Malformed::NotAnObject),
        (&structured, "[", Malformed::NotAnObject),
        (&structured, r#"{"type":1}"#, Malformed::InvalidType),
        (&[("content-type", "application/cloudevents-batch+json")], "[]", Malformed::Batch),
        (&[("content-type", "application/cloudevents+avro")], "[]", Malformed::UnknownFormat),
        (&[("content-type", "a/b"), ("Content-Type", "a/c")], "", twice("content-type")),
        (&[("ce-type", "a b")], "{}", Malformed::InvalidType),
        (&[("ce-type", "")], "{}", Malformed::InvalidType),
        (&[("ce-type", "a"), ("Ce-Type", "b")], "{}", twice("ce-type")),
        (&[("ce-type", "a"), ("ce-type", "a")], "{}", twice("ce-type")),
        (&[("ce-type", "order.%C0%A0x")], "{}", Malformed::NotUtf8 { name: "ce-type".to_owned() }),
        (&[("ce-subject", "a%FF")], "{}", Malformed::NotUtf8 { name: "ce-subject".to_owned() }),
        (&[("ce-time", "yesterday")], "{}", Malformed::InvalidTime),
        (&[("ce-time", "2026-01-01T00:00:00")], "{}", Malformed::InvalidTime),
        (&[("ce-time", "2026-01-01 00:00:00Z")], "{}", Malformed::InvalidTime),
        (&[("ce-time", "2026-01-01T00:00:00Z[UTC]")], "{}", Malformed::InvalidTime),
        (&[("content-type", "a/\u{1}")], "", Malformed::ControlCharacters { name: "content-type" }),
        (&[("ce-datacontenttype", "a/b%0D%0Ax: y")], "", Malformed::ControlCharacters { name: "content-type" }),
        (&[("content-encoding", "\u{1}")], "", Malformed::ControlCharacters { name: "content-encoding" }),
    ] {
        assert_eq!(read(&rule(None, None), headers, body).unwrap_err(), want, "{headers:?} {body}");
    }
    let unfinished = read(&rule(None, None), &structured, "{").unwrap_err().to_string();
    assert!(unfinished.contains("not JSON") && unfinished.contains("EOF"), "{unfinished}");
}
