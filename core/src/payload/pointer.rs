//! JSON pointers (RFC 6901) into an event's data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest pointer, in bytes.
const MAX_LENGTH: usize = 256;
/// The most names and positions in a pointer.
const MAX_TOKENS: usize = 32;

/// A JSON pointer to a field of the data, such as `/customer/email`. It never points to the data as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pointer(String);

/// A text that is not a JSON pointer to a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a JSON pointer to a field: it begins with '/', has at most 256 bytes and 32 tokens, and '~' stands \
     only in '~0' (for '~') and '~1' (for '/')"
)]
pub struct InvalidPointer(String);

impl Pointer {
    /// Reads a pointer from its text.
    ///
    /// # Errors
    /// If the text is not a pointer, points to the data as a whole, or is too long.
    pub fn parse(text: &str) -> Result<Self, InvalidPointer> {
        let is_escape = |rest: &str| rest.starts_with(['0', '1']);
        let is_valid = text.starts_with('/')
            && text.len() <= MAX_LENGTH
            && text.split('/').count() <= MAX_TOKENS + 1
            && text.split('~').skip(1).all(is_escape);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidPointer(text.chars().take(MAX_LENGTH).collect())) }
    }

    /// The pointer as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names and positions on the way to the field.
    pub(super) fn tokens(&self) -> impl Iterator<Item = String> {
        self.0.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"))
    }

    /// Whether this field is the other one, or contains it.
    fn covers(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The first two of these pointers that overlap: the fields are the same, or one contains the other. They are returned by
/// their positions.
#[must_use]
pub fn overlap(these: &[Pointer], those: &[Pointer]) -> Option<(usize, usize)> {
    let pairs = these.iter().enumerate().flat_map(|(i, a)| those.iter().enumerate().map(move |(j, b)| (i, a, j, b)));
    pairs.into_iter().find(|(_, a, _, b)| a.covers(b) || b.covers(a)).map(|(i, _, j, _)| (i, j))
}

impl TryFrom<String> for Pointer {
    type Error = InvalidPointer;
    fn try_from(text: String) -> Result<Self, InvalidPointer> {
        Self::parse(&text)
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> String {
        pointer.0
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pointer_is() {
        for (text, tokens) in [
            ("/a", Some(vec!["a"])),
            ("/a/0/b c", Some(vec!["a", "0", "b c"])),
            ("/", Some(vec![""])),
            ("/a~1b/~0~01", Some(vec!["a/b", "~~1"])),
            ("", None),
            ("a", None),
            ("/a~", None),
            ("/a~2", None),
            ("#/a", None),
            (&"/a".repeat(32), Some(vec!["a"; 32])),
            (&"/a".repeat(33), None),
            (&format!("/{}", "a".repeat(256)), None),
        ] {
            let read = Pointer::parse(text).ok().map(|pointer| pointer.tokens().collect::<Vec<_>>());
            assert_eq!(read, tokens.map(|tokens| tokens.into_iter().map(str::to_owned).collect()), "{text:?}");
        }
    }

    #[test]
    fn what_overlaps() {
        let pointers = |texts: &[&str]| -> Vec<Pointer> { texts.iter().map(|t| Pointer::parse(t).unwrap()).collect() };
        for (these, those, want) in [
            (&["/a"][..], &["/a"][..], Some((0, 0))),
            (&["/x", "/a"], &["/a/b"], Some((1, 0))),
            (&["/a/b"], &["/y", "/a"], Some((0, 1))),
            (&["/a"], &["/ab", "/b/a", "/A"], None),
            (&[], &["/a"], None),
        ] {
            assert_eq!(overlap(&pointers(these), &pointers(those)), want, "{these:?} {those:?}");
        }
    }
}
