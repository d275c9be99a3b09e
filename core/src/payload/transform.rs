//! Transforms: what makes a new body of an event's attributes and data.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use minijinja::Value;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::data::{Data, is_json};
use super::expression::Expression;
use super::failure::{InvalidTransform, RenderFailure, RenderProblem};
use super::limits::{MAX_TEMPLATE, QUICKLY_READ, SMALL};
use super::parts::Parts;
use super::template::Template;
use crate::event::Event;
use crate::expression::{CompileError, Given, GivenData, Parsed};

const JSON: &str = "application/json";

/// What makes a new body of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transform {
    /// What is done.
    pub program: Program,
    /// The content type of the body. `None`: JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// A program, in the language that it is written in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Program {
    /// A template.
    Template(String),
    /// A JMESPath expression, whose value is the body.
    Jmespath(String),
    /// A CEL expression, whose value is the body.
    Cel(String),
}

/// A transform that was compiled.
#[derive(Debug)]
pub(super) struct CompiledTransform {
    program: Compiled,
    content_type: String,
    is_json: bool,
}

#[derive(Debug)]
enum Compiled {
    Template { template: Template, may_take_long: bool },
    Expression { expression: Expression, place: &'static str },
}

impl Program {
    /// Whether the program is an expression.
    pub(crate) fn is_expression(&self) -> bool {
        match self {
            Self::Template(_) => false,
            Self::Jmespath(_) | Self::Cel(_) => true,
        }
    }

    fn compile(&self, is_json: bool) -> Result<Compiled, InvalidTransform> {
        let invalid = |place: String, problem: String| InvalidTransform { place, problem };
        let expression = |expression: Result<Expression, CompileError>, field: &str, place| match expression {
            Ok(expression) => Ok(Compiled::Expression { expression, place }),
            Err(error) => Err(invalid(field.to_owned(), error.to_string())),
        };
        match self {
            Self::Template(text) if text.len() > MAX_TEMPLATE => {
                Err(invalid("template".to_owned(), "it is longer than 16 KiB".to_owned()))
            }
            Self::Template(text) => match Template::compile(text, is_json) {
                Ok(template) => Ok(Compiled::Template { template, may_take_long: may_take_long(text) }),
                Err((Some(line), problem)) => Err(invalid(format!("template, line {line}"), problem)),
                Err((None, problem)) => Err(invalid("template".to_owned(), problem)),
            },
            Self::Jmespath(text) => expression(Expression::jmespath(text), "jmespath", "payload.transform.jmespath"),
            Self::Cel(text) => expression(Expression::cel(text), "cel", "payload.transform.cel"),
        }
    }
}

impl Transform {
    /// Compiles the transform.
    ///
    /// # Errors
    /// If the program doesn't compile or is too long, or the content type is none.
    pub fn check(&self) -> Result<(), InvalidTransform> {
        self.compile().map(drop)
    }

    pub(super) fn compile(&self) -> Result<CompiledTransform, InvalidTransform> {
        let content_type = self.content_type.clone().unwrap_or_else(|| JSON.to_owned());
        if HeaderValue::from_str(&content_type).is_err() || !content_type.contains('/') {
            let (place, problem) = ("contentType".to_owned(), "it is not a content type".to_owned());
            return Err(InvalidTransform { place, problem });
        }
        let is_json = is_json(&content_type);
        Ok(CompiledTransform { program: self.program.compile(is_json)?, content_type, is_json })
    }
}

impl CompiledTransform {
    /// Whether the transform of an event may take more than a fraction of a millisecond.
    pub(super) fn is_costly(&self, event: &Event) -> bool {
        match &self.program {
            Compiled::Template { may_take_long, .. } => *may_take_long || event.body.len() > SMALL,
            Compiled::Expression { expression, .. } => event.body.len() > QUICKLY_READ || expression.is_costly(event),
        }
    }

    /// Replaces the data by what the program makes of the event.
    pub(super) fn apply(&self, parts: &mut Parts<'_>) -> Result<(), RenderFailure> {
        let body = self.body(&parts.given())?;
        parts.encoding = None;
        parts.content_type = Some(Cow::Owned(self.content_type.clone()));
        parts.data = if self.is_json {
            Data::Json(Cow::Owned(json(body).map_err(RenderFailure::at(self.place()))?))
        } else {
            Data::of(Cow::Owned(body), Some(&self.content_type))
        };
        Ok(())
    }

    fn place(&self) -> &'static str {
        match self.program {
            Compiled::Template { .. } => "payload.transform.template",
            Compiled::Expression { place, .. } => place,
        }
    }

    fn body(&self, given: &Given<'_>) -> Result<Vec<u8>, RenderFailure> {
        let place = self.place();
        match &self.program {
            Compiled::Template { template, .. } => {
                let variables = variables(given).map_err(RenderFailure::at(place))?;
                template.render(variables).map_err(|(line, problem)| match line {
                    Some(line) => RenderFailure { place: format!("{place}, line {line}"), problem },
                    None => RenderFailure { place: place.to_owned(), problem },
                })
            }
            Compiled::Expression { expression, .. } => {
                expression.make(given, self.is_json).map_err(RenderFailure::at(place))
            }
        }
    }
}

/// Whether a template may take more than a fraction of a millisecond for a small event: it has a block, makes much out of
/// little, or does very many things.
fn may_take_long(template: &str) -> bool {
    let makes_much = ["{%", "*", "range", "replace", "indent", "format"].iter().any(|sign| template.contains(sign));
    makes_much || template.matches(['|', '~']).count() > 32
}

/// The body as JSON.
fn json(body: Vec<u8>) -> Result<Box<RawValue>, RenderProblem> {
    let text = String::from_utf8(body).map_err(|_| RenderProblem::ResultNotJson)?;
    let trimmed = text.trim();
    let text = if trimmed.len() == text.len() { text } else { trimmed.to_owned() };
    RawValue::from_string(text).map_err(|_| RenderProblem::ResultNotJson)
}

/// The variables of a template: each attribute that the event has, and `data`, which is `null` if it is neither JSON nor
/// text.
fn variables(given: &Given<'_>) -> Result<Value, RenderProblem> {
    let data = match given.data {
        GivenData::None | GivenData::Bytes => Value::from(()),
        GivenData::Text(text) => Value::from(text),
        GivenData::Json(raw) => of_json(&serde_json::from_str(raw.get()).or(Err(RenderProblem::NotJson))?),
        GivenData::Whole(_, event) => {
            let parsed = Parsed::of(event);
            let made = parsed.other.get::<Value>().map_or_else(
                || {
                    let made = Arc::new(of_json(parsed.data().or(Err(RenderProblem::NotJson))?));
                    parsed.other.put(Arc::clone(&made));
                    Ok(made)
                },
                Ok,
            );
            Value::clone(&*made?)
        }
    };
    let attributes = given.attributes.iter().map(|(name, value)| ((*name).to_owned(), of_json(&value.to_json())));
    Ok(attributes.chain([("data".to_owned(), data)]).collect::<BTreeMap<String, Value>>().into())
}

fn of_json(json: &serde_json::Value) -> Value {
    Value::from(Serde(json))
}
