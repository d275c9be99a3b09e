use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::event::Event;
use crate::expression::bounds::MAX_LENGTH;

fn event(body: &str) -> Event {
    let headers: HeaderMap =
        [(http::header::CONTENT_TYPE, "application/cloudevents+json".parse().unwrap())].into_iter().collect();
    Event::new("com.example.order", headers, Bytes::copy_from_slice(body.as_bytes()))
}

const BODY: &str = r#"{"specversion":"1.0","id":"my id","source":"https://example.com/a","type":"t",
    "hop":"5","ttl":"10","sequence":"10","n":7,"yes":true,"tenantid":"acme","subject":"ß Äb","data":{"secret":1}}"#;

/// What an expression gives: a value as it is written in expressions, and an error.
fn given(text: &str) -> String {
    let event = event(BODY);
    let variables = Variables::of(&event);
    let sql = match Sql::parse(text) {
        Ok(sql) => sql,
        Err(_) => return "parse".into(),
    };
    let Evaluated { value, error } = sql.evaluate(&variables);
    let value = match value {
        Attribute::Text(text) => format!("'{text}'"),
        other => other.into_text().into_owned(),
    };
    error.map_or(value.clone(), |error| format!("{value} {error}"))
}

fn check(table: &[(&str, &str)]) {
    for (text, want) in table {
        assert_eq!(given(text), *want, "{text}");
    }
}

#[test]
fn literals_and_attributes() {
    check(&[
        ("0", "0"),
        ("+7", "7"),
        ("2147483647", "2147483647"),
        ("-2147483648", "-2147483648"),
        ("2147483648", "parse"),
        ("tRuE", "true"),
        (r"'a\'b'", "'a'b'"),
        (r#""a\"b""#, "'a\"b'"),
        (r"'a\\'", r"'a\\'"),
        (r"'\a'", r"'\a'"),
        ("''", "''"),
        ("'open", "parse"),
        ("'a''b'", "parse"),
        ("id", "'my id'"),
        ("ID", "'my id'"),
        ("type", "'com.example.order'"),
        ("n", "7"),
        ("yes", "true"),
        ("missing", "false MissingAttribute"),
        ("data", "false MissingAttribute"),
        ("tenant_id", "parse"),
        ("tenant-id", "0 MissingAttribute"),
        ("é", "parse"),
        ("", "parse"),
        ("a b", "parse"),
        ("(1", "parse"),
        ("1)", "parse"),
        ("\t 1\r\n", "1"),
    ]);
}

#[test]
fn operators() {
    check(&[
        ("4 * 2 + 4 / 2", "10"),
        ("4 * (2 + 4) / 2", "12"),
        ("4-1", "3"),
        ("4 - -1", "5"),
        ("--10", "10"),
        ("-'10'", "-10"),
        ("-TRUE", "-1"),
        ("-missing", "0 MissingAttribute"),
        ("-5 / 3", "-1"),
        ("-5 % 3", "-2"),
        ("5 % -3", "2"),
        ("5 / 0", "0 Math"),
        ("5 % 0", "0 Math"),
        ("missing / 0", "0 MissingAttribute"),
        ("2147483647 + 1", "0 Math"),
        ("'5' + '3'", "8"),
        ("5 + TRUE", "6"),
        ("5 + 'x'", "0 Cast"),
        ("1 < 2 AND 2 <= 2 AND 3 > 2 AND 3 >= 3", "true"),
        ("hop < ttl", "true"),
        ("'a' < 'b'", "false Cast"),
        ("1 = '1'", "true"),
        ("true = 'TRUE'", "false"),
        ("'TRUE' = true", "true"),
        ("'abc' <> 'abd'", "true"),
        ("missing != 2", "false MissingAttribute"),
        ("2 = missing", "false MissingAttribute"),
        ("NOT TRUE", "false"),
        ("NOT 'FALSE'", "true"),
        ("NOT 10", "false"),
        ("NOT 'x'", "false Cast"),
        ("NOT missing", "false MissingAttribute"),
        ("TRUE XOR FALSE", "true"),
        ("TRUE XOR TRUE", "false"),
        ("false and (1 != 1 / 0)", "false"),
        ("true and (1 != 1 / 0)", "false Math"),
        ("true or missing", "true"),
        ("false or missing", "false MissingAttribute"),
        ("true OR false AND false", "true"),
        ("false AND false OR true", "true"),
        ("true XOR true OR true", "false"),
        ("EXISTS id AND EXISTS SOURCE AND EXISTS type AND EXISTS specversion", "true"),
        ("EXISTS time", "false"),
        ("NOT EXISTS time", "true"),
        ("EXISTS 'a'", "parse"),
        ("EXISTS in", "parse"),
        ("1 =", "parse"),
        ("AND 1", "parse"),
        ("1 ! 2", "parse"),
    ]);
}

#[test]
fn like_and_in() {
    check(&[
        ("'abc' LIKE 'a%b%c'", "true"),
        ("'azzzbzzzc' LIKE 'a%b%c'", "true"),
        ("'ac' LIKE 'abc'", "false"),
        ("'.ab.cde.' LIKE '.%.%.'", "true"),
        ("'ab.cde' LIKE '.%.%.'", "false"),
        ("'' LIKE '%'", "true"),
        ("'ab' LIKE '_b%'", "true"),
        ("'b' LIKE '_b%'", "false"),
        (r"'a_b' LIKE 'a\_b'", "true"),
        (r"'azb' LIKE 'a\_b'", "false"),
        (r"'abc%' LIKE 'abc\%'", "true"),
        (r"'ab\c' LIKE 'ab\c'", "true"),
        ("subject LIKE '_ Ä_'", "true"),
        ("234 LIKE '23_'", "true"),
        ("TRUE NOT LIKE 'tr%'", "false"),
        ("missing LIKE '%'", "false MissingAttribute"),
        ("'a' LIKE id", "parse"),
        ("'a' LIKE ('a')", "parse"),
        ("1 IN (1, 2)", "true"),
        ("1 NOT IN (1, 2)", "false"),
        ("'1' IN (1, 2)", "true"),
        ("1 IN ('1', 'x')", "false Cast"),
        ("'true' IN ('TRUE')", "false"),
        ("TRUE IN ('true')", "true"),
        ("source IN (id, 'https://example.com/a')", "true"),
        ("1 IN (missing)", "false MissingAttribute"),
        ("1 IN ()", "parse"),
        ("1 IN 1", "parse"),
        ("1 NOT 1", "parse"),
    ]);
}

#[test]
fn functions_and_casts() {
    check(&[
        ("int('1') + INT(TRUE) + Int(1)", "3"),
        ("INT('ABC')", "0 Cast"),
        ("INT('99999999999')", "0 Cast"),
        ("BOOL('TRUE') AND BOOL(-50)", "true"),
        ("BOOL('ABC')", "false Cast"),
        ("STRING(TRUE)", "'true'"),
        ("STRING(-1)", "'-1'"),
        ("IS_INT('5') AND NOT IS_INT('x')", "true"),
        ("IS_BOOL('True') AND NOT IS_BOOL('x')", "true"),
        ("ABS(-10)", "10"),
        ("ABS(-2147483648)", "2147483647 Math"),
        ("LENGTH(subject)", "4"),
        ("LENGTH(TRUE)", "4"),
        ("CONCAT()", "''"),
        ("CONCAT('a', 1, TRUE)", "'a1true'"),
        ("CONCAT_WS(',', 'a', 'b')", "'a,b'"),
        ("CONCAT_WS(',')", "''"),
        ("CONCAT_WS()", "false MissingFunction"),
        ("LOWER('AbÄ')", "'abä'"),
        ("UPPER('abä')", "'ABÄ'"),
        ("TRIM('  a b ')", "'a b'"),
        ("LEFT('abc', 2)", "'ab'"),
        ("LEFT('abc', 10)", "'abc'"),
        ("LEFT('abc', -2)", "'abc' FunctionEvaluation"),
        ("RIGHT('abc', 2)", "'bc'"),
        ("RIGHT('abc', -2)", "'abc' FunctionEvaluation"),
        ("SUBSTRING('abcdef', 2)", "'bcdef'"),
        ("SUBSTRING('Sakila', -3)", "'ila'"),
        ("SUBSTRING('Sakila', -5, 3)", "'aki'"),
        ("SUBSTRING('abcdef', 2, 400)", "'bcdef'"),
        ("SUBSTRING('abc', 0, 1)", "''"),
        ("SUBSTRING('abc', 10)", "'' FunctionEvaluation"),
        ("SUBSTRING('abc', -2147483648)", "'' FunctionEvaluation"),
        ("SUBSTRING('abc', 1, -1)", "'' FunctionEvaluation"),
        ("LENGTH(missing)", "0 MissingAttribute"),
        ("UPPER(missing)", "'' MissingAttribute"),
        ("NOSUCH(1)", "false MissingFunction"),
        ("LEFT('a')", "false MissingFunction"),
        ("A1(1)", "parse"),
        ("NOT(TRUE)", "false"),
        ("(firstname = 'F' AND lastname = 'G') OR subject = 'x'", "false MissingAttribute"),
    ]);
}

#[test]
fn a_filter_matches_only_without_an_error() {
    let event = event(BODY);
    let variables = Variables::of(&event);
    for (text, want) in [
        ("tenantid = 'acme'", Ok(true)),
        ("tenantid = 'other'", Ok(false)),
        ("id", Err(RunError::NotBoolean)),
        ("1", Err(RunError::NotBoolean)),
        ("BOOL('x') OR TRUE", Err(RunError::Cast)),
    ] {
        assert_eq!(Sql::compile(text).unwrap().matches(&variables), want, "{text}");
    }
}

#[test]
fn errors_say_where() {
    for (text, want) in [
        ("tenantid = ", "expected a value, at line 1, column 12:\ntenantid = \n           ^"),
        ("id = 'a' &", "unexpected character '&', at line 1, column 10:\nid = 'a' &\n         ^"),
        ("id LIKE\n  source", "expected a quoted pattern after LIKE, at line 2, column 3:\n  source\n  ^"),
        ("NOSUCH(1)", "there is no function NOSUCH with 1 arguments, at line 1, column 1:\nNOSUCH(1)\n^"),
        (
            "id = '\u{1f600}' AND data = 1",
            "\"data\" is not the name of an attribute: up to 64 lower-case letters and digits, and not \"data\", at line 1, \
             column 14:\nid = '\u{1f600}' AND data = 1\n             ^",
        ),
        ("a AND in", "expected a value, found IN, at line 1, column 7:\na AND in\n      ^"),
    ] {
        assert_eq!(Sql::compile(text).unwrap_err().to_string(), want, "{text}");
    }
}

#[test]
fn equalities_that_have_to_hold() {
    for (text, want) in [
        ("tenantid = 'x'", &[("tenantid", "x")][..]),
        ("(tenantid = 'x' AND hop < 5) AND subject = 's'", &[("tenantid", "x"), ("subject", "s")]),
        ("'t' = type", &[("type", "t")]),
        ("'x' = tenantid", &[]),
        ("tenantid = 'x' OR TRUE", &[]),
        ("NOT (tenantid = 'x')", &[]),
        ("tenantid = 5", &[]),
        ("tenantid != 'x'", &[]),
    ] {
        assert_eq!(Sql::compile(text).unwrap().equalities(), want, "{text}");
    }
}

#[test]
fn hostile_texts_are_refused_and_cost_is_bounded() {
    for text in [
        "(".repeat(MAX_LENGTH),
        "-".repeat(MAX_LENGTH),
        "NOT ".repeat(1000),
        format!("{}1", "1+".repeat(2000)),
        format!("{}1{}", "ABS(".repeat(500), ")".repeat(500)),
        format!("1{}", " IN (1)".repeat(500)),
        "a".repeat(MAX_LENGTH + 1),
    ] {
        assert!(Sql::compile(&text).is_err(), "{}", &text[..20]);
    }
    assert!(Sql::compile(&["id = 'x'"; 200].join(" OR ")).is_ok());
    let size = |bytes| Size { bytes, values: 10 };
    let small = Sql::compile("tenantid = 'acme'").unwrap();
    assert!(small.cost(size(500)) < Cost(2000), "{:?}", small.cost(size(500)));
    let large = Sql::compile(&format!("subject LIKE '{}'", "%a".repeat(1000))).unwrap();
    assert!(large.cost(size(60_000)) > Cost(100_000_000));
    // What no event is small enough for is refused.
    let nested = Sql::compile(&format!("{}id{} = ''", "CONCAT_WS(id,id,id,".repeat(30), ")".repeat(30)));
    let message = nested.unwrap_err().to_string();
    assert!(message.starts_with("the expression would take too long for any event, at line 1"), "{message}");
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in r#"[ a-z0-9'"%_=<>!+*/()\\,-]{0,60}|((NOT|AND|IN|LIKE|id|'a%'|1|\(|\)|=|-|,) ){0,15}"#) {
        given(&text);
    }
}
