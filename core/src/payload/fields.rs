//! The choice of fields of a JSON document. The document is taken apart only along the pointers; everything else keeps
//! its text, so numbers, the order of names and repeated names stay as they were published.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::pointer::Pointer;
use crate::event::structured::Members;

/// Fields of a document, as a tree of the names and positions on the way to them.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    /// What goes on from here. A field whose way ends here has nothing.
    next: BTreeMap<String, Fields>,
    ends: bool,
}

impl Fields {
    pub(super) fn of(pointers: &[Pointer]) -> Self {
        let mut root = Self::default();
        for pointer in pointers {
            let mut at = &mut root;
            for token in pointer.tokens() {
                at = at.next.entry(token).or_default();
            }
            at.ends = true;
        }
        root
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// How often a part of a document is read at most: once on each level.
    pub(super) fn depth(&self) -> usize {
        self.next.values().map(|field| 1 + field.depth()).max().unwrap_or(0)
    }

    /// The document without these fields. An element that is left out of an array moves those after it.
    pub(super) fn left_out(&self, document: &RawValue) -> Box<RawValue> {
        let mut out = String::with_capacity(document.get().len());
        self.write(document, Choice::All, &mut out);
        raw(out)
    }

    /// The document with nothing but these fields.
    pub(super) fn picked(&self, document: &RawValue) -> Box<RawValue> {
        let mut out = String::new();
        if !self.write(document, Choice::None, &mut out) {
            out.push_str("null");
        }
        raw(out)
    }

    /// Writes what is chosen of a value. `others` is what becomes of fields that these don't name. Returns whether
    /// anything was written.
    fn write(&self, value: &RawValue, others: Choice, out: &mut String) -> bool {
        let text = value.get();
        match text.as_bytes().first() {
            Some(b'{') => {
                let Ok(Members(members)) = serde_json::from_str(text) else { return false };
                let named = |name| self.next.get(&*decoded(name)?);
                let members = members.into_iter().map(|(name, value)| (named(name), Some(name), value));
                write_all(members, others, ('{', '}'), out);
            }
            Some(b'[') => {
                let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) else { return false };
                let next = self.next.iter();
                let positions: BTreeMap<usize, &Self> =
                    next.filter_map(|(token, field)| Some((position(token)?, field))).collect();
                let elements = elements.into_iter().enumerate();
                let elements = elements.map(|(i, value)| (positions.get(&i).copied(), None, value));
                write_all(elements, others, ('[', ']'), out);
            }
            _ if others == Choice::None => return false,
            _ => out.push_str(text),
        }
        true
    }
}

/// Writes what is chosen of the parts of a value, each with the fields that begin with it.
fn write_all<'a>(
    parts: impl Iterator<Item = (Option<&'a Fields>, Option<&'a RawValue>, &'a RawValue)>,
    others: Choice,
    (open, close): (char, char),
    out: &mut String,
) {
    out.push(open);
    let start = out.len();
    for (field, name, value) in parts {
        let before = out.len();
        if before > start {
            out.push(',');
        }
        if let Some(name) = name {
            out.push_str(name.get());
            out.push(':');
        }
        let written = match field {
            None => others.write(value, out),
            Some(field) if field.ends => others.opposite().write(value, out),
            Some(field) => field.write(value, others, out),
        };
        if !written {
            out.truncate(before);
        }
    }
    out.push(close);
}

/// The position that a token stands for in an array: digits without a zero before them.
fn position(token: &str) -> Option<usize> {
    let is_plain = token == "0" || token.starts_with(|c: char| matches!(c, '1'..='9'));
    token.parse().ok().filter(|_| is_plain)
}

/// What becomes of fields that nothing was said about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    All,
    None,
}

impl Choice {
    fn opposite(self) -> Self {
        match self {
            Self::All => Self::None,
            Self::None => Self::All,
        }
    }

    fn write(self, value: &RawValue, out: &mut String) -> bool {
        if self == Self::All {
            out.push_str(value.get());
        }
        self == Self::All
    }
}

/// A name without its escapes. A name that is not Unicode has none, and no pointer points to it.
fn decoded(name: &RawValue) -> Option<Cow<'_, str>> {
    let plain = serde_json::from_str::<&str>(name.get()).map(Cow::Borrowed);
    plain.or_else(|_| serde_json::from_str::<String>(name.get()).map(Cow::Owned)).ok()
}

/// What was written is JSON, because it is made of parts of JSON. Should it not be, nothing goes out.
fn raw(text: String) -> Box<RawValue> {
    let raw = RawValue::from_string(text);
    debug_assert!(raw.is_ok());
    raw.unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pointers: &[&str]) -> Fields {
        Fields::of(&pointers.iter().map(|text| Pointer::parse(text).unwrap()).collect::<Vec<_>>())
    }

    fn chosen(pick: bool, pointers: &[&str], document: &str) -> String {
        let (fields, document) = (fields(pointers), serde_json::from_str::<&RawValue>(document).unwrap());
        let chosen = if pick { fields.picked(document) } else { fields.left_out(document) };
        chosen.get().to_owned()
    }

    #[test]
    fn what_is_left_out() {
        for (pointers, document, want) in [
            (&["/a"][..], r#"{"a":1,"b":2}"#, r#"{"b":2}"#),
            (&["/b"], r#"{"a":1,"b":2}"#, r#"{"a":1}"#),
            (&["/a", "/b"], r#" { "a" : 1 , "b":{"c":[1, 2]} } "#, "{}"),
            (&["/a/b"], r#"{"a":{"b":1,"c": [ 2 ] },"b":3}"#, r#"{"a":{"c":[ 2 ]},"b":3}"#),
            // What isn't touched keeps its text.
            (
                &["/x"],
                r#"{"n":12345678901234567890123,"e":1e999,"s":"\ud83d","z":0.10}"#,
                r#"{"n":12345678901234567890123,"e":1e999,"s":"\ud83d","z":0.10}"#,
            ),
            // A name that is there twice goes each time, however it is written.
            (&["/a"], r#"{"a":1,"\u0061":2,"b":3,"b":4}"#, r#"{"b":3,"b":4}"#),
            (&["/a/b"], r#"{"a":{"b":1},"a":{"b":2,"c":3}}"#, r#"{"a":{},"a":{"c":3}}"#),
            (&["/\u{e4}~1~0"], "{\"\\u00e4\\/~\":1,\"\\ud800\":2}", "{\"\\ud800\":2}"),
            // Positions are those of the document, whatever else is left out.
            (&["/l/0", "/l/2"], r#"{"l":[1,2,3]}"#, r#"{"l":[2]}"#),
            (&["/1/a"], r#"[{"a":1},{"a":2,"b":3}]"#, r#"[{"a":1},{"b":3}]"#),
            (&["/l/00", "/l/-", "/l/+1", "/l/9"], r#"{"l":[1,2]}"#, r#"{"l":[1,2]}"#),
            (&["/a/b/c"], r#"{"a":"b"}"#, r#"{"a":"b"}"#),
            (&["/a"], "\"a\"", "\"a\""),
            (&["/a", "/a/b"], r#"{"a":{"c":1}}"#, "{}"),
        ] {
            assert_eq!(chosen(false, pointers, document), want, "{pointers:?} {document}");
        }
    }

    #[test]
    fn what_is_picked() {
        for (pointers, document, want) in [
            (&["/a"][..], r#"{"a":1,"b":2}"#, r#"{"a":1}"#),
            (&["/b", "/a"], r#"{"a":{"x": 1},"b":2,"c":3}"#, r#"{"a":{"x": 1},"b":2}"#),
            (&["/a/b", "/c/d"], r#"{"a":{"b":1,"c":2},"c":"no object","e":5}"#, r#"{"a":{"b":1}}"#),
            (&["/a/b"], r#"{"a":{"c":1}}"#, r#"{"a":{}}"#),
            (&["/l/2", "/l/0/a"], r#"{"l":[{"a":1,"b":2},3,4]}"#, r#"{"l":[{"a":1},4]}"#),
            (&["/x"], r#"{"a":1}"#, "{}"),
            (&["/x"], "[1,2]", "[]"),
            (&["/x"], "3", "null"),
            (&["/a", "/a/b"], r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"b":1,"c":2}}"#),
        ] {
            assert_eq!(chosen(true, pointers, document), want, "{pointers:?} {document}");
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(chosen(false, &["/0/0/1"], &deep), deep);
        let pointers = ["/0".repeat(32)];
        let pointers: Vec<&str> = pointers.iter().map(String::as_str).collect();
        assert_eq!(chosen(false, &pointers, &deep), format!("{}{}", "[".repeat(32), "]".repeat(32)));
    }

    #[test]
    fn how_often_a_document_is_read() {
        for (pointers, want) in [(&[][..], 0), (&["/a"], 1), (&["/a/b", "/c"], 2), (&["/a", "/a/b/0"], 3)] {
            assert_eq!(fields(pointers).depth(), want, "{pointers:?}");
        }
    }
}
