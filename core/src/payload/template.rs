//! Templates, by the crate `minijinja`: they make a body of an event's attributes and data.
//!
//! A template loads nothing and knows no other template. What it may do is bounded by fuel, of which each step and each
//! byte costs some, and by the size of its output. What could do more than its fuel tells is refused when the template is
//! compiled.
//!
//! In a JSON body, each value is written as JSON where a value may stand, and as a part of the text between quotes. So
//! `{"text": {{ data.name }}}` and `{"text": "for {{ data.name }}"}` are both JSON, whatever the name is.

mod allowed;
mod comparing;

use std::cell::Cell;
use std::io;

use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use serde::de::IgnoredAny;

use super::bounded::Bounded;
use super::failure::RenderProblem;
use super::limits::MAX_OUTPUT;
use crate::expression::bounds;

/// How much a template may do: one for each step and for each 64 bytes. It is about 10 ms.
const FUEL: u64 = 100_000;
/// How deep a template may call itself, by loops that do.
const DEPTH: usize = 64;

const NAME: &str = "template";

/// Why a template can't be compiled: the line, if it is known, and what is wrong.
pub(super) type Refusal = (Option<usize>, String);

thread_local! {
    /// Whether the body that this thread writes stands between the quotes of a JSON string.
    static QUOTED: Cell<bool> = const { Cell::new(false) };
}

/// A template that was compiled.
#[derive(Debug, Clone)]
pub(super) struct Template(Environment<'static>);

impl Template {
    /// Compiles a template. In a JSON body, values are escaped.
    ///
    /// # Errors
    /// If that is not possible: the line, and what is wrong.
    pub(super) fn compile(text: &str, is_json: bool) -> Result<Self, Refusal> {
        // A long expression is a deep tree.
        let compiled = bounds::apart(|| environment(text, is_json));
        compiled.unwrap_or_else(|failure| Err((None, failure))).map(Self)
    }

    /// Makes a body, and tells where the template failed if it did: the line.
    pub(super) fn render(&self, variables: Value) -> Result<Vec<u8>, (Option<usize>, RenderProblem)> {
        let mut body = Body::default();
        QUOTED.set(false);
        let template = self.0.get_template(NAME).map_err(failed)?;
        let rendered = template.render_captured_to(variables, &mut body).map(drop);
        if body.is_too_large {
            return Err((None, RenderProblem::TooLarge));
        }
        rendered.map_err(failed)?;
        Ok(body.bytes)
    }
}

fn environment(text: &str, is_json: bool) -> Result<Environment<'static>, Refusal> {
    allowed::check(text)?;
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    environment.set_formatter(if is_json { write_json } else { write_text });
    comparing::add(&mut environment);
    environment.add_template_owned(NAME, text.to_owned()).map_err(|error| said(&error))?;
    Ok(environment)
}

/// Where a template is wrong, and why.
fn said(error: &Error) -> Refusal {
    (error.line(), error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))
}

/// What went wrong, without a word of the data.
fn failed(error: Error) -> (Option<usize>, RenderProblem) {
    let problem = match error.kind() {
        ErrorKind::UndefinedError => RenderProblem::Undefined,
        ErrorKind::OutOfFuel => RenderProblem::TooExpensive,
        ErrorKind::WriteFailure => return (None, RenderProblem::TooLarge),
        _ => RenderProblem::InvalidOperation,
    };
    (error.line(), problem)
}

fn write_text(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    defined(value)?;
    if value.as_object().is_some() {
        // A list is gone through to its end, however much was written of it.
        json(value)?;
    }
    write!(out, "{value}").map_err(|_| ErrorKind::WriteFailure.into())
}

fn write_json(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    defined(value)?;
    let text = match value.as_str() {
        Some(text) if !QUOTED.get() && value.is_safe() => {
            // A filter has made JSON of a value. Anything else would not be what it seems to be.
            serde_json::from_str::<IgnoredAny>(text).map_err(|_| Error::from(ErrorKind::InvalidOperation))?;
            text.to_owned()
        }
        _ if !QUOTED.get() => json(value)?,
        Some(text) => within_quotes(&json(&Value::from(text))?),
        None => within_quotes(&json(&Value::from(json(value)?))?),
    };
    out.write_str(&text).map_err(|_| ErrorKind::WriteFailure.into())
}

/// A value as JSON, if that is no longer than a body may be.
fn json(value: &Value) -> Result<String, Error> {
    let mut written = Bounded::default();
    serde_json::to_writer(&mut written, value)
        .map_err(|error| if error.is_io() { ErrorKind::WriteFailure } else { ErrorKind::BadSerialization })?;
    String::from_utf8(written.0).map_err(|_| ErrorKind::BadSerialization.into())
}

fn within_quotes(json: &str) -> String {
    json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or_default().to_owned()
}

fn defined(value: &Value) -> Result<(), Error> {
    if value.kind() == ValueKind::Undefined { Err(ErrorKind::UndefinedError.into()) } else { Ok(()) }
}

/// The body that is written.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    is_too_large: bool,
    /// Whether the last byte was a backslash that escapes the next one.
    escapes: bool,
}

impl io::Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT {
            self.is_too_large = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut quoted = QUOTED.get();
        for byte in bytes {
            match byte {
                _ if self.escapes => self.escapes = false,
                b'\\' => self.escapes = quoted,
                b'"' => quoted = !quoted,
                _ => {}
            }
        }
        QUOTED.set(quoted);
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;
    use serde_json::{Value, json};

    use super::*;

    fn rendered(text: &str, is_json: bool, data: &Value) -> Result<String, (Option<usize>, &'static str)> {
        let template = Template::compile(text, is_json).unwrap();
        let variables = json!({ "type": "t", "tenantid": "acme", "data": data });
        let body = template
            .render(minijinja::Value::from(Serde(&variables)))
            .map_err(|(line, problem)| (line, problem.name()))?;
        Ok(String::from_utf8(body).unwrap())
    }

    #[test]
    fn values_are_escaped_by_their_place() {
        let data = json!({ "name": "a\"b\\\n</script>ä", "n": 1.5, "list": [1, "x"], "none": null, "yes": true });
        for (text, want) in [
            (r#"{"a":{{ data.name }}}"#, json!({ "a": data["name"] })),
            (r#"{"a":"<{{ data.name }}>"}"#, json!({ "a": "<a\"b\\\n</script>ä>" })),
            (r#"{"a":"\"{{ data.name }}\\"}"#, json!({ "a": "\"a\"b\\\n</script>ä\\" })),
            (r#"{"a":"{{ data.n }} {{ data.yes }} {{ data.none }}"}"#, json!({ "a": "1.5 true null" })),
            (r#"[{{ data.n }},{{ data.yes }},{{ data.none }},{{ data.list }}]"#, json!([1.5, true, null, [1, "x"]])),
            (r#"["{{ data.list }}"]"#, json!(["[1,\"x\"]"])),
            (r#"[{{ data.list | tojson }},"{{ data.list | tojson }}"]"#, json!([[1, "x"], "[1, \"x\"]"])),
            (r#"[{% for x in data.list %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}]"#, json!([1, "x"])),
            (r#"{{ {"text": "for " ~ tenantid} }}"#, json!({ "text": "for acme" })),
            (r#"{% set x = data.name %}{"a":{{ x | upper }}}"#, json!({ "a": "A\"B\\\n</SCRIPT>Ä" })),
            (r#"{"a":{{ data.nothing | default("-") }}}"#, json!({ "a": "-" })),
            (r#"{"a":{{ 1 if data.nothing else 2 }}}"#, json!({ "a": 2 })),
        ] {
            let body = rendered(text, true, &data).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&body).unwrap_or_default(), want, "{text}: {body}");
        }
        assert_eq!(rendered("{{ data.name }}: {{ data.n }}\n", false, &data).unwrap(), "a\"b\\\n</script>ä: 1.5");
    }

    #[test]
    fn what_fails_and_where() {
        let big = "x".repeat(200_000);
        let bomb = r#"{% set x = "aaaaaaaaaa" %}{% set x = x ~ x ~ x ~ x ~ x ~ x ~ x ~ x %}"#.to_owned()
            + &"{% set x = x ~ x ~ x ~ x ~ x ~ x ~ x ~ x %}".repeat(10)
            + "{{ x }}";
        let loops = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
        let alike = json!([vec![1; 1000], vec![1; 1000]]);
        for (text, data, want) in [
            ("\n{{ data.a }}", json!({}), (Some(2), "Undefined")),
            ("{{ nothing.a }}", json!({}), (Some(1), "Undefined")),
            ("{{ data.a + 1 }}", json!({ "a": "secret" }), (Some(1), "InvalidOperation")),
            ("{{ data.a | safe }}", json!({ "a": "no JSON" }), (Some(1), "InvalidOperation")),
            (&bomb, json!({}), (Some(1), "TooExpensive")),
            (loops, json!({}), (Some(1), "TooExpensive")),
            (r#"{{ "a" * 100000000 }}"#, json!({}), (Some(1), "TooExpensive")),
            ("{{ data }}{{ data }}{{ data }}{{ data }}{{ data }}{{ data }}", json!(big), (None, "TooLarge")),
            ("{{ [data] * 100000000 }}", json!(big), (None, "TooLarge")),
            (r#"["{{ [0] * 100000000 }}"]"#, json!({}), (None, "TooLarge")),
            (
                "{% for i in range(9000) %}{{ data | sort | length }}{% endfor %}",
                alike.clone(),
                (Some(1), "TooExpensive"),
            ),
            ("{% for i in range(9000) %}{{ data | max | length }}{% endfor %}", alike, (Some(1), "TooExpensive")),
            ("{% for x in data recursive %}{{ loop([1]) }}{% endfor %}", json!([1]), (Some(1), "InvalidOperation")),
        ] {
            assert_eq!(rendered(text, true, &data), Err(want), "{text:.60}");
        }
    }

    #[test]
    fn what_does_not_compile() {
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
        let long = format!("{{{{ 1{} }}}}", "+1".repeat(8_000));
        for (text, line, says) in [
            ("\n{{ data.", Some(2), ""),
            ("\n{{ x | nothing }}", Some(2), "there is no filter nothing"),
            ("{% include 'x' %}", Some(1), ""),
            ("{% macro x() %}{% endmacro %}", Some(1), ""),
            ("{%- set x %}{% endset %}", Some(1), "set as a block"),
            ("{% filter upper %}{% endfilter %}", Some(1), "filter"),
            ("{% autoescape false %}{% endautoescape %}", Some(1), "autoescape"),
            ("{{ [0] * 100000000 == [0] * 100000000 }}", Some(1), "both sides of a comparison"),
            (&deep, Some(1), "recursion"),
            (&long, Some(1), "nested more than 100 deep"),
        ] {
            let (at, problem) = Template::compile(text, true).map(drop).expect_err(text);
            assert_eq!(at, line, "{text:.60} {problem}");
            assert!(problem.contains(says), "{text:.60} {problem}");
        }
    }

    #[test]
    fn what_is_sorted_and_compared() {
        let data =
            json!({ "l": [{ "n": 2, "k": "b" }, { "n": 1, "k": "a" }, { "n": 2, "k": "c" }], "m": { "y": 1, "x": 2 } });
        for (text, want) in [
            ("{{ data.l | sort(attribute='n,k') | map(attribute='k') | join }}", "abc"),
            ("{{ data.l | unique(attribute='n') | map(attribute='k') | join }}", "ba"),
            ("{{ (data.l | min(attribute='n')).k }}{{ (data.l | max(attribute='k')).k }}", "ac"),
            ("{% for k, v in data.m | dictsort %}{{ k }}{{ v }}{% endfor %}", "x2y1"),
            (
                "{% for n, of in data.l | groupby('n') %}{{ n }}:{{ of | map(attribute='k') | join }} {% endfor %}",
                "1:a 2:bc ",
            ),
            ("{{ [2, 1] | sort | join }}{{ 1 in [1, 2] }}{{ data.l[:2] | list | length }}", "12True2"),
        ] {
            assert_eq!(rendered(text, false, &data).as_deref(), Ok(want), "{text}");
        }
    }
}
