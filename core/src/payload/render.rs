//! Makes a webhook of an event.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::data::Data;
use super::failure::{Forbidden, InvalidPayload, NotRendered, RenderFailure, RenderProblem};
use super::fields::Fields;
use super::limits::{MAX_HEADERS, MOST, MOST_READ, QUICK, QUICKLY_READ};
use super::mode::Mode;
use super::parts::Parts;
use super::transform::CompiledTransform;
use super::{Payload, PayloadPolicy, Transform};
use crate::event::{Event, attribute_value};
use crate::expression::{Cost, Variables};
use crate::select::filter::{Filters, Verdict};

/// Makes webhooks of events, as a Subscription and its Producer want them. It is prepared once for each record.
#[derive(Debug, Default)]
pub struct Renderer {
    mode: Option<Mode>,
    /// What the Producer withholds, by which Subscriptions are told apart that see an event differently.
    policy: PayloadPolicy,
    filters: Filters,
    withheld: Fields,
    include: Fields,
    exclude: Fields,
    /// How often a part of the data is read at most, to choose fields.
    levels: usize,
    transform: Option<CompiledTransform>,
    /// The headers that take their values from attributes.
    headers: Vec<(HeaderName, String)>,
}

/// A webhook.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The event in the form that is sent.
    pub event: Arc<Event>,
    /// Whether the Producer's policy has withheld all of the data, because it isn't JSON.
    pub withheld: bool,
}

impl Renderer {
    /// Prepares a payload. `headers` are names of headers, each with the attribute that it takes its value from.
    ///
    /// # Errors
    /// If the transform or a filter of the Producer doesn't compile.
    pub fn new(
        payload: &Payload,
        policy: PayloadPolicy,
        headers: Vec<(HeaderName, String)>,
    ) -> Result<Self, InvalidPayload> {
        let fields = [&policy.exclude, &payload.include, &payload.exclude].map(|pointers| Fields::of(pointers));
        let levels = fields.iter().map(Fields::depth).sum();
        let [withheld, include, exclude] = fields;
        Ok(Self {
            mode: payload.mode,
            filters: Filters::compile_all(&policy.filters)?,
            withheld,
            policy,
            include,
            exclude,
            levels,
            transform: payload.transform.as_ref().map(Transform::compile).transpose()?,
            headers,
        })
    }

    /// Makes the webhook of an event, if the Producer's filters let the event through.
    ///
    /// # Errors
    /// If they don't, or the payload can't be made of this event. That is no fault of the endpoint's.
    pub fn render(&self, event: &Arc<Event>) -> Result<Rendered, NotRendered> {
        if self.has_filters() {
            self.permits(&Variables::of(event)).map_err(NotRendered::Forbidden)?;
        }
        let rendered = self.made(event)?;
        let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        if rendered.event.headers.iter().map(length).sum::<usize>() > MAX_HEADERS {
            return Err(RenderFailure::at("payload.mode")(RenderProblem::AttributesTooLarge).into());
        }
        Ok(rendered)
    }

    /// Whether the Producer's filters let an event through. One that can't be judged isn't let through.
    ///
    /// # Errors
    /// If they don't.
    pub fn permits(&self, variables: &Variables<'_>) -> Result<(), Forbidden> {
        if self.filters.is_empty() {
            return Ok(());
        }
        if self.filters.cost(variables) > MOST {
            return Err(Forbidden { failed: true });
        }
        match self.filters.evaluate(variables) {
            Verdict::Matches => Ok(()),
            Verdict::FilteredOut { error, .. } => Err(Forbidden { failed: error.is_some() }),
        }
    }

    /// The cost of [`Self::permits`].
    #[must_use]
    pub fn cost_of_policy(&self, variables: &Variables<'_>) -> Cost {
        if self.filters.is_empty() { Cost::default() } else { self.filters.cost(variables).min(MOST) }
    }

    /// Whether the Producer has filters for the Subscription.
    #[must_use]
    pub fn has_filters(&self) -> bool {
        !self.filters.is_empty()
    }

    /// Whether a filter of the Producer looks at the data.
    #[must_use]
    pub fn filters_look_at_data(&self) -> bool {
        self.filters.look_at_data()
    }

    /// Whether something looks at the event's JSON when a webhook is made.
    #[must_use]
    pub fn parses(&self) -> bool {
        self.has_filters() || self.transform.is_some()
    }

    /// Whether the Producer withholds the same from both.
    #[must_use]
    pub fn shares_policy(&self, other: &Self) -> bool {
        self.policy == other.policy
    }

    fn made(&self, event: &Arc<Event>) -> Result<Rendered, RenderFailure> {
        let is_as_published = self.published_mode(event) == self.mode(event);
        let is_whole = self.withheld.is_empty() && self.include.is_empty() && self.exclude.is_empty();
        let is_whole = is_whole && self.transform.is_none();
        if is_as_published && is_whole && self.headers.is_empty() {
            return Ok(Rendered { event: Arc::clone(event), withheld: false });
        }
        if is_as_published && is_whole && event.stand_ins.is_none() {
            let mut rendered = Event::clone(event);
            rendered.headers.extend(self.headers_of(&Parts::bare(event)));
            return Ok(Rendered { event: Arc::new(rendered), withheld: false });
        }
        let (mut parts, withheld) = self.permitted(event)?;
        choose(&mut parts, &self.include, Fields::picked).map_err(RenderFailure::at("payload.include"))?;
        choose(&mut parts, &self.exclude, Fields::left_out).map_err(RenderFailure::at("payload.exclude"))?;
        if let Some(transform) = &self.transform {
            transform.apply(&mut parts)?;
        }
        let more = self.headers_of(&parts);
        let mut rendered = if is_as_published && is_whole {
            Event::clone(event)
        } else {
            let written = self.mode(event).write(parts);
            let (headers, body) = written.map_err(RenderFailure::at("payload.mode"))?;
            Event::new(&*event.event_type, headers, body)
        };
        rendered.headers.extend(more);
        Ok(Rendered { event: Arc::new(rendered), withheld })
    }

    /// The headers that take their values from attributes, encoded as the CloudEvents HTTP binding says. An attribute that
    /// the event lacks makes no header.
    fn headers_of(&self, parts: &Parts<'_>) -> HeaderMap {
        let header = |(name, attribute): &(HeaderName, String)| {
            let text = parts.attribute(attribute).filter(|text| !text.is_empty())?;
            Some((name.clone(), attribute_value(text)))
        };
        self.headers.iter().filter_map(header).collect()
    }

    /// Whether making the webhook of an event may take more than a fraction of a millisecond.
    #[must_use]
    pub fn is_costly(&self, event: &Event) -> bool {
        let is_taken_apart = self.levels > 0 || self.published_mode(event) != self.mode(event);
        let is_read_slowly = is_taken_apart && event.body.len().saturating_mul(1 + self.levels) > QUICKLY_READ;
        let is_made_slowly = self.transform.as_ref().is_some_and(|transform| transform.is_costly(event));
        let is_judged_slowly = || {
            let variables = Variables::of(event);
            variables.cost_of_reading(self.filters_look_at_data()) > QUICK || self.cost_of_policy(&variables) > QUICK
        };
        is_read_slowly || is_made_slowly || self.has_filters() && is_judged_slowly()
    }

    /// The event as the Subscription's tenants may see it, in the form that it was published in: without what its
    /// Producer withholds. `None` if nothing is.
    #[must_use]
    pub fn redacted(&self, event: &Event) -> Option<Event> {
        if self.withheld.is_empty() {
            return None;
        }
        let mode = self.published_mode(event);
        let permitted = self.permitted(event).ok().and_then(|(parts, _)| mode.write(parts).ok());
        let (headers, body) = permitted.or_else(|| mode.write(Parts::bare(event)).ok()).unwrap_or_default();
        Some(Event::new(&*event.event_type, headers, body))
    }

    /// Whether the Producer withholds fields.
    #[must_use]
    pub fn withholds(&self) -> bool {
        !self.withheld.is_empty()
    }

    fn published_mode(&self, event: &Event) -> Mode {
        if event.stand_ins.is_some() { Mode::Structured } else { Mode::Binary }
    }

    fn mode(&self, event: &Event) -> Mode {
        // Without a mode, what a transform makes is the whole body.
        self.mode.unwrap_or_else(|| if self.transform.is_some() { Mode::Binary } else { self.published_mode(event) })
    }

    /// The parts of the event that the Producer lets the Subscription have, and whether that is none of its data.
    fn permitted<'a>(&self, event: &'a Event) -> Result<(Parts<'a>, bool), RenderFailure> {
        let parts = Parts::of(event);
        if self.withheld.is_empty() {
            return Ok((parts.map_err(RenderFailure::at("payload"))?, false));
        }
        // What can't be read can't be let through in part.
        let Ok(mut parts) = parts else { return Ok((Parts::bare(event), true)) };
        let withheld = choose(&mut parts, &self.withheld, Fields::left_out).is_err();
        Ok((
            if withheld { Parts { content_type: None, encoding: None, data: Data::None, ..parts } } else { parts },
            withheld,
        ))
    }
}

/// Replaces the data by a part of it. Data that is not there has no fields.
fn choose(
    parts: &mut Parts<'_>,
    fields: &Fields,
    part: impl FnOnce(&Fields, &serde_json::value::RawValue) -> Box<serde_json::value::RawValue>,
) -> Result<(), RenderProblem> {
    match &parts.data {
        _ if fields.is_empty() => {}
        Data::None => {}
        Data::Json(document) if document.get().len().saturating_mul(fields.depth()) > MOST_READ => {
            return Err(RenderProblem::TooExpensive);
        }
        Data::Json(document) => {
            let chosen = part(fields, document);
            parts.data = Data::Json(Cow::Owned(chosen));
        }
        Data::Text(_) | Data::Bytes(_) => return Err(RenderProblem::NotJson),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
