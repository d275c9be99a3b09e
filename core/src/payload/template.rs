//! Templates, by the crate `minijinja`: they make a body of an event's attributes and data.
//!
//! A template loads nothing and knows no other template. What it may do is bounded by fuel, of which each step and each
//! byte costs some, and by the size of its output.
//!
//! In a JSON body, each value is written as JSON where a value may stand, and as a part of the text between quotes. So
//! `{"text": {{ data.name }}}` and `{"text": "for {{ data.name }}"}` are both JSON, whatever the name is.

use std::cell::Cell;
use std::io;

use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use serde::de::IgnoredAny;

use super::failure::RenderProblem;
use super::limits::MAX_OUTPUT;

/// How much a template may do: one for each step and for each 64 bytes. It is about 10 ms.
const FUEL: u64 = 100_000;
/// How deep a template may call itself, by loops that do.
const DEPTH: usize = 64;

const NAME: &str = "template";

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
    pub(super) fn compile(text: &str, is_json: bool) -> Result<Self, (Option<usize>, String)> {
        if let Some(problem) = unsupported(text) {
            return Err((None, problem));
        }
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.set_formatter(if is_json { write_json } else { write_text });
        environment
            .add_template_owned(NAME, text.to_owned())
            .map_err(|error| (error.line(), error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)))?;
        Ok(Self(environment))
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

/// What a template may not do, as its values could not be escaped by their place.
fn unsupported(text: &str) -> Option<String> {
    for tag in text.split("{%").skip(1) {
        let tag = tag.trim_start_matches(['-', '+']).trim_start();
        let word = tag.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        let target = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.,()".contains(c);
        match word {
            "autoescape" | "filter" => return Some(format!("the block {word} is not supported")),
            "set" if !tag[word.len()..].trim_start_matches(target).starts_with('=') => {
                return Some("set as a block is not supported: use {% set name = value %}".to_owned());
            }
            _ => {}
        }
    }
    None
}

/// What went wrong, without a word of the data.
fn failed(error: Error) -> (Option<usize>, RenderProblem) {
    let problem = match error.kind() {
        ErrorKind::UndefinedError => RenderProblem::Undefined,
        ErrorKind::OutOfFuel => RenderProblem::TooExpensive,
        _ => RenderProblem::InvalidOperation,
    };
    (error.line(), problem)
}

fn write_text(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    defined(value)?;
    write!(out, "{value}").map_err(|_| ErrorKind::WriteFailure.into())
}

fn write_json(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    defined(value)?;
    let json = |value: &Value| serde_json::to_string(value).map_err(|_| Error::from(ErrorKind::BadSerialization));
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
        for (text, data, want) in [
            ("\n{{ data.a }}", json!({}), (Some(2), "Undefined")),
            ("{{ nothing.a }}", json!({}), (Some(1), "Undefined")),
            ("{{ data.a + 1 }}", json!({ "a": "secret" }), (Some(1), "InvalidOperation")),
            ("{{ data.a | safe }}", json!({ "a": "no JSON" }), (Some(1), "InvalidOperation")),
            (&bomb, json!({}), (Some(1), "TooExpensive")),
            (loops, json!({}), (Some(1), "TooExpensive")),
            (r#"{{ "a" * 100000000 }}"#, json!({}), (Some(1), "TooExpensive")),
            ("{{ data }}{{ data }}{{ data }}{{ data }}{{ data }}{{ data }}", json!(big), (None, "TooLarge")),
            ("{% for x in data recursive %}{{ loop([1]) }}{% endfor %}", json!([1]), (Some(1), "InvalidOperation")),
        ] {
            assert_eq!(rendered(text, true, &data), Err(want), "{text:.60}");
        }
    }

    #[test]
    fn what_does_not_compile() {
        for (text, line, says) in [
            ("\n{{ data.", Some(2), ""),
            ("{{ x | nothing }}", None, ""),
            ("{% include 'x' %}", Some(1), ""),
            ("{% macro x() %}{% endmacro %}", Some(1), ""),
            ("{%- set x %}{% endset %}", None, "set as a block"),
            ("{% filter upper %}{% endfilter %}", None, "filter"),
            ("{% autoescape false %}{% endautoescape %}", None, "autoescape"),
        ] {
            match Template::compile(text, true) {
                Err((at, problem)) => {
                    assert_eq!(at, line, "{text} {problem}");
                    assert!(problem.contains(says), "{text} {problem}");
                }
                // An unknown filter is found when it is used.
                Ok(template) => {
                    assert!(template.render(minijinja::Value::from(Serde(json!({ "x": 1 })))).is_err(), "{text}")
                }
            }
        }
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(Template::compile(&deep, true).is_err());
    }
}
