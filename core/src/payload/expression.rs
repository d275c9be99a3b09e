//! Transforms by an expression, in JMESPath or CEL: the value of the expression is the body.
//!
//! An expression is compiled and bounded like that of a filter. What it costs at most is known before each evaluation, so
//! one that is too expensive for an event is not evaluated.

use std::io;

use super::bounded::Bounded;
use super::failure::RenderProblem;
use super::limits::{MOST, QUICK};
use crate::event::Event;
use crate::expression::{Cel, CompileError, Cost, Given, Jmespath, Made, RunError, Size, Variables};

/// An expression that was compiled.
#[derive(Debug)]
pub(super) enum Expression {
    Jmespath(Jmespath),
    Cel(Cel),
}

impl Expression {
    pub(super) fn jmespath(text: &str) -> Result<Self, CompileError> {
        Jmespath::compile(text).map(Self::Jmespath)
    }

    pub(super) fn cel(text: &str) -> Result<Self, CompileError> {
        Cel::compile_to_make(text).map(Self::Cel)
    }

    /// Whether an evaluation for this event may take more than a fraction of a millisecond.
    pub(super) fn is_costly(&self, event: &Event) -> bool {
        self.cost(Variables::of(event).size(self.looks_at_data())) > QUICK
    }

    /// Makes a body: the value as JSON or, in a body that is not JSON, a text as it is.
    pub(super) fn make(&self, given: &Given<'_>, is_json: bool) -> Result<Vec<u8>, RenderProblem> {
        if self.cost(given.size(self.looks_at_data())) > MOST {
            return Err(RenderProblem::TooExpensive);
        }
        let made = match self {
            Self::Jmespath(jmespath) => jmespath.make(given),
            Self::Cel(cel) => cel.make(given),
        };
        written(&made.map_err(failed)?, is_json)
    }

    fn looks_at_data(&self) -> bool {
        match self {
            Self::Jmespath(jmespath) => jmespath.looks_at_data(),
            Self::Cel(cel) => cel.looks_at_data(),
        }
    }

    fn cost(&self, size: Size) -> Cost {
        match self {
            Self::Jmespath(jmespath) => jmespath.cost(size),
            Self::Cel(cel) => cel.cost(size),
        }
    }
}

fn written(made: &Made, is_json: bool) -> Result<Vec<u8>, RenderProblem> {
    if made.is_null() {
        return Err(RenderProblem::Undefined);
    }
    let mut body = Bounded::default();
    let written = match made.as_text().filter(|_| !is_json) {
        Some(text) => io::Write::write_all(&mut body, text.as_bytes()).map_err(|_| RenderProblem::TooLarge),
        None => serde_json::to_writer(&mut body, made)
            .map_err(|error| if error.is_io() { RenderProblem::TooLarge } else { RenderProblem::InvalidOperation }),
    };
    written.map(|()| body.0)
}

fn failed(error: RunError) -> RenderProblem {
    match error {
        RunError::MissingAttribute | RunError::NoSuchKey => RenderProblem::Undefined,
        RunError::NoJsonData => RenderProblem::NotJson,
        _ => RenderProblem::InvalidOperation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{Attribute, GivenData};
    use serde_json::value::RawValue;

    fn made(expression: &Expression, data: &str, is_json: bool) -> Result<String, &'static str> {
        let raw: &RawValue = serde_json::from_str(data).unwrap();
        let attributes = vec![("type", Attribute::Text("t".into())), ("n", Attribute::Integer(3))];
        let body = expression.make(&Given { attributes, data: GivenData::Json(raw) }, is_json);
        body.map(|body| String::from_utf8(body).unwrap()).map_err(|problem| problem.name())
    }

    #[test]
    fn the_value_is_the_body() {
        let data = r#"{"id":7,"big":18446744073709551615,"f":1.50,"text":"a\"b","list":[{"x":1},{"x":2}],"none":null}"#;
        for (jmespath, cel, want) in [
            ("{b: data.id, a: type, n: n}", "{'b': data.id, 'a': type, 'n': n}", r#"{"a":"t","b":7,"n":3}"#),
            ("data.list[].x", "data.list.map(e, e.x)", "[1,2]"),
            ("data.text", "data.text", r#""a\"b""#),
            ("[data.big, data.f]", "[data.big, data.f]", "[18446744073709551615,1.5]"),
            ("{none: data.none, s: subject}", "{'none': data.none, 's': subject}", r#"{"none":null,"s":null}"#),
            ("data.list[?x > `1`] | [0]", "data.list.filter(e, e.x > 1)[0]", r#"{"x":2}"#),
        ] {
            let (jmespath, cel) = (Expression::jmespath(jmespath).unwrap(), Expression::cel(cel).unwrap());
            for expression in [&jmespath, &cel] {
                assert_eq!(made(expression, data, true).as_deref(), Ok(want), "{expression:?}");
            }
        }
        for (expression, want) in [
            (Expression::cel("b'a'"), r#""YQ==""#),
            (Expression::cel("{1: 'x', true: 2.0}"), r#"{"1":"x","true":2.0}"#),
        ] {
            assert_eq!(made(&expression.unwrap(), data, true).as_deref(), Ok(want));
        }
        let text = Expression::jmespath("data.text").unwrap();
        assert_eq!(made(&text, data, false).as_deref(), Ok("a\"b"), "text is not escaped");
    }

    #[test]
    fn what_fails_and_why() {
        let large = format!(r#"{{"s":"{}"}}"#, "x".repeat(300_000));
        let larger = format!(r#"{{"s":"{}"}}"#, "x".repeat(400_000));
        let long = format!("[{}0]", "0,".repeat(5_000));
        for (expression, data, want) in [
            (Expression::jmespath("data.no"), "{}", "Undefined"),
            (Expression::jmespath("tenantid"), "{}", "Undefined"),
            (Expression::jmespath("abs(data.a)"), r#"{"a":"x"}"#, "InvalidOperation"),
            (Expression::jmespath("data.s"), r#"{"s":"\ud800"}"#, "NotJson"),
            (Expression::jmespath("[data.s, data.s, data.s, data.s]"), &large, "TooLarge"),
            (Expression::jmespath("join(to_string(data), map(&to_string(@), data))"), &long, "TooExpensive"),
            (Expression::cel("data.no"), "{}", "Undefined"),
            (Expression::cel("tenantid"), "{}", "Undefined"),
            (Expression::cel("null"), "{}", "Undefined"),
            (Expression::cel("data.a + 1"), r#"{"a":"x"}"#, "InvalidOperation"),
            (Expression::cel("1.0 / 0.0"), "{}", "InvalidOperation"),
            (Expression::cel("[data.s, data.s, data.s]"), &larger, "TooLarge"),
            (Expression::cel("data.map(a, data.map(b, a + b))"), &long, "TooExpensive"),
        ] {
            let expression = expression.unwrap();
            assert_eq!(made(&expression, data, true), Err(want), "{expression:?}");
        }
    }

    #[test]
    fn ten_fields_of_a_small_event_are_quick() {
        let fields: Vec<String> = (0..10).map(|n| format!("f{n}: data.field{n}")).collect();
        let cost = Expression::jmespath(&format!("{{{}}}", fields.join(", "))).unwrap();
        assert!(cost.cost(Size { bytes: 2048, values: 100 }) <= QUICK);
    }
}
