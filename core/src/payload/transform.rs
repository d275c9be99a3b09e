//! Transforms: what makes a new body of an event's attributes and data.

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use std::borrow::Cow;

use super::data::{Data, is_json};
use super::failure::{RenderFailure, RenderProblem};
use super::parts::Parts;
use super::template::Template;

/// The largest body that a transform may make, in bytes.
pub(super) const MAX_OUTPUT: usize = 1 << 20;
/// The longest text of a transform, in bytes.
const MAX_TEXT: usize = 16 << 10;

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
}

/// Why a transform can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidTransform {
    /// The line of the program, from 1, if the problem is in one.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
}

/// A transform that was compiled.
#[derive(Debug, Clone)]
pub struct CompiledTransform {
    template: Template,
    content_type: String,
    is_json: bool,
    may_loop: bool,
}

impl Transform {
    /// Compiles the transform.
    ///
    /// # Errors
    /// If the program doesn't compile or is too long, or the content type is none.
    pub fn compile(&self) -> Result<CompiledTransform, InvalidTransform> {
        let invalid = |problem: &str| InvalidTransform { line: None, problem: problem.to_owned() };
        let content_type = self.content_type.clone().unwrap_or_else(|| JSON.to_owned());
        if HeaderValue::from_str(&content_type).is_err() || !content_type.contains('/') {
            return Err(invalid("the content type is not one"));
        }
        let is_json = is_json(&content_type);
        let Program::Template(text) = &self.program;
        if text.len() > MAX_TEXT {
            return Err(invalid("it is longer than 16 KiB"));
        }
        let may_loop = text.contains("{%");
        Ok(CompiledTransform { template: Template::compile(text, is_json)?, content_type, is_json, may_loop })
    }
}

impl CompiledTransform {
    /// Whether the program may go round and round.
    pub(super) fn may_loop(&self) -> bool {
        self.may_loop
    }

    /// Replaces the data by what the program makes of the event.
    pub(super) fn apply(&self, parts: &mut Parts<'_>) -> Result<(), RenderFailure> {
        let at = |place: &str, problem| RenderFailure { place: place.to_owned(), problem };
        let place = "payload.transform.template";
        let variables = variables(parts).map_err(|problem| at(place, problem))?;
        let body = self.template.render(&variables).map_err(|(line, problem)| match line {
            Some(line) => at(&format!("{place}, line {line}"), problem),
            None => at(place, problem),
        })?;
        parts.encoding = None;
        parts.content_type = Some(Cow::Owned(self.content_type.clone()));
        parts.data = if self.is_json {
            let text = String::from_utf8(body).map_err(|_| at(place, RenderProblem::ResultNotJson))?;
            let raw = RawValue::from_string(text.trim().to_owned());
            Data::Json(Cow::Owned(raw.map_err(|_| at(place, RenderProblem::ResultNotJson))?))
        } else {
            Data::of(Cow::Owned(body), Some(&self.content_type))
        };
        Ok(())
    }
}

/// The variables of a program: each attribute, and `data`, which is `null` if it is neither JSON nor text.
fn variables(parts: &Parts<'_>) -> Result<Value, RenderProblem> {
    let attributes = parts.attributes.iter();
    let mut variables: Map<String, Value> =
        attributes.map(|attribute| (attribute.name.to_string(), Value::from(&*attribute.text))).collect();
    let content_type = parts.content_type.as_deref().map(|text| ("datacontenttype".to_owned(), Value::from(text)));
    variables.extend(content_type);
    let data = match &parts.data {
        Data::None | Data::Bytes(_) => Value::Null,
        Data::Json(raw) => serde_json::from_str(raw.get()).map_err(|_| RenderProblem::NotJson)?,
        Data::Text(text) => Value::from(&**text),
    };
    variables.insert("data".to_owned(), data);
    Ok(Value::Object(variables))
}
