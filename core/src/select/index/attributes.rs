//! The attributes of an event, as the index looks at them.

use std::borrow::Cow;

use crate::expression::{Attribute, Variables};

/// The attributes by whose values entries are found.
pub trait Attributes {
    /// A number that the names are no more than.
    fn count(&self) -> usize;

    /// The names that the event may have, each once.
    fn names(&self) -> Vec<&str>;

    /// The value of an attribute, if the event has it.
    fn value(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl Attributes for Variables<'_> {
    fn count(&self) -> usize {
        Variables::count(self)
    }

    fn names(&self) -> Vec<&str> {
        Variables::names(self)
    }

    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.attribute(name).map(Attribute::into_text)
    }
}

/// No attributes.
impl Attributes for () {
    fn count(&self) -> usize {
        0
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }

    fn value(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}
