//! The CloudEvents attributes of a message in binary mode: read by the CloudEvents NATS binding, and written by the HTTP
//! binding. Both have the same rules for values (HTTP binding, 3.1.3.2).

use std::borrow::Cow;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::event::malformed::Malformed;

/// The characters that are percent-encoded in an attribute's value, besides those outside ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The most attributes that an event may have: HTTP servers take about a hundred headers.
const MAX_ATTRIBUTES: usize = 64;

/// The attributes of a message, in the order of their names. Names are in lower case and values decoded.
#[derive(Debug, Default)]
pub(crate) struct Attributes<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Attributes<'a> {
    /// Reads the `ce-*` headers. A header whose name is no valid attribute name is skipped: names have lower-case letters
    /// and digits, without regard to case in a header. An attribute that is empty counts as absent, apart from the type: to
    /// route an event by another one would be a guess. The result and the error are the same in whichever order the
    /// headers come.
    ///
    /// # Errors
    /// If there are too many, two of one name, or a value that is not UTF-8 once decoded.
    pub(crate) fn read(headers: &[(&'a str, &'a str)]) -> Result<Self, Malformed> {
        let mut raw: Vec<(Cow<'a, str>, &'a str)> = Vec::with_capacity(8);
        for (header, value) in headers {
            let Some(name) = name(header) else { continue };
            if raw.len() >= MAX_ATTRIBUTES {
                return Err(Malformed::TooManyAttributes);
            }
            raw.push((name, value));
        }
        raw.sort_unstable();
        if let Some(twice) = raw.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Malformed::Twice { name: format!("ce-{}", twice[0].0) });
        }
        let mut attributes = Vec::with_capacity(raw.len());
        for (name, value) in raw {
            let Some(value) = decoded(value) else {
                return Err(Malformed::NotUtf8 { name: format!("ce-{name}") });
            };
            if !value.is_empty() || name == "type" {
                attributes.push((name, value));
            }
        }
        Ok(Self(attributes))
    }

    /// The value of an attribute.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// The names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

/// The name of the attribute that a header holds. `data` is no attribute in any mode.
pub(crate) fn name(header: &str) -> Option<Cow<'_, str>> {
    let (prefix, name) = header.split_at_checked(3)?;
    let valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !prefix.eq_ignore_ascii_case("ce-") || !valid || name.eq_ignore_ascii_case("data") {
        return None;
    }
    let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) })
}

/// Decodes a value: first the quotes around it, then one round of percent-encoding. A per cent sign that encodes nothing
/// stands for itself, as the binding refuses only what is not UTF-8. `None` if the result is not UTF-8.
pub(crate) fn decoded(value: &str) -> Option<Cow<'_, str>> {
    match unquoted(value.trim_matches([' ', '\t'])) {
        Cow::Borrowed(text) => percent_decode_str(text).decode_utf8().ok(),
        Cow::Owned(text) => Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned().into()),
    }
}

/// Takes the quotes off a quoted string (RFC 9110, 5.6.4). Any other text stays as it is.
fn unquoted(text: &str) -> Cow<'_, str> {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return text.into() };
    let (mut plain, mut chars) = (String::with_capacity(inner.len()), inner.chars());
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some(escaped) => plain.push(escaped),
                // The backslash escapes the last quote, so the string does not end.
                None => return text.into(),
            },
            '"' => return text.into(),
            other => plain.push(other),
        }
    }
    plain.into()
}

/// What HTTP carries of a content type or a content encoding: white space around a value is no part of it (RFC 9110, 5.5).
/// `None` if nothing else is there. So a blank `datacontenttype`, which is no media type either, counts as empty.
pub(crate) fn field_value(text: &str) -> Option<&str> {
    Some(text.trim_matches([' ', '\t'])).filter(|text| !text.is_empty())
}

/// The value of a CloudEvents attribute in its HTTP form, percent-encoded.
#[must_use]
pub fn attribute_value(value: &str) -> HeaderValue {
    ascii(Cow::from(utf8_percent_encode(value, ENCODED)).into_owned())
}

/// Makes a header value of visible ASCII. It can't fail for percent-encoded texts.
fn ascii(text: String) -> HeaderValue {
    let value = HeaderValue::try_from(text);
    debug_assert!(value.is_ok());
    value.unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value as it is read, and as it goes out.
    #[test]
    fn values_table() {
        for (sent, read) in [
            ("order.created", "order.created"),
            // Decoding: percent-encoding, once, in either case, also where it was not needed.
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("%c3%a4", "ä"),
            ("%61%2E", "a."),
            ("%2520", "%20"),
            ("100%", "100%"),
            ("b%zz", "b%zz"),
            ("100% \"sure\" %C3%A4", "100% \"sure\" ä"),
            ("ä", "ä"),
            // Quotes come off first.
            ("\"order.created\"", "order.created"),
            ("\"a \\\"b\\\" \\\\c\"", "a \"b\" \\c"),
            ("\"%22\"", "\""),
            ("\"a\"b\"", "\"a\"b\""),
            ("\"a\\\"", "\"a\\\""),
            ("\"", "\""),
            ("  x y\t", "x y"),
            ("\u{a0}x", "\u{a0}x"),
            ("%20", " "),
            ("a%0D%0Ab", "a\r\nb"),
        ] {
            assert_eq!(decoded(sent).as_deref(), Some(read), "{sent}");
            let written = attribute_value(read);
            assert_eq!(decoded(written.to_str().unwrap()).as_deref(), Some(read), "{sent}");
        }
        for sent in ["%C0%A0", "a%FF", "%ED%A0%80", "\"%C3\""] {
            assert_eq!(decoded(sent), None, "{sent}");
        }
        for (value, written) in [
            ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("\" %", "%22%20%25"),
            ("a\n\u{7f}\u{85}", "a%0A%7F%C2%85"),
            ("!#$&'()*+,-./:;<=>?@[\\]^_`{|}~", "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"),
        ] {
            assert_eq!(attribute_value(value), written);
        }
    }

    #[test]
    fn names_table() {
        for (header, want) in [
            ("ce-type", Some("type")),
            ("CE-Type", Some("type")),
            ("ce-ext1", Some("ext1")),
            ("ce-", None),
            ("ce-my_attribute", None),
            ("ce-my-attribute", None),
            ("ce-ä", None),
            ("ce-data", None),
            ("ce_type", None),
            ("é", None),
        ] {
            assert_eq!(name(header).as_deref(), want, "{header}");
        }
    }

    #[test]
    fn the_order_of_headers_decides_nothing() {
        let headers = [("ce-b", "2"), ("Ce-A", "1"), ("ce-empty", ""), ("ce-c", "%C3%A4"), ("x", "y")];
        let twice = [("ce-id", "1"), ("Ce-Id", "2"), ("ce-type", "%FF"), ("ce-x", "1")];
        let reversed = |headers: &[(&'static str, &'static str)]| headers.iter().rev().copied().collect::<Vec<_>>();
        for headers in [headers.to_vec(), reversed(&headers)] {
            let attributes = Attributes::read(&headers).unwrap();
            assert_eq!(attributes.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2"), ("c", "ä")]);
            assert_eq!((attributes.get("c"), attributes.get("empty"), attributes.get("x")), (Some("ä"), None, None));
        }
        for headers in [twice.to_vec(), reversed(&twice)] {
            assert_eq!(Attributes::read(&headers).unwrap_err(), Malformed::Twice { name: "ce-id".to_owned() });
        }
        assert_eq!(Attributes::read(&[("ce-x", "%FF")]).unwrap_err(), Malformed::NotUtf8 { name: "ce-x".to_owned() });
        let names: Vec<String> = (0..40_000).map(|n| format!("ce-a{n}")).collect();
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        assert_eq!(Attributes::read(&headers).unwrap_err(), Malformed::TooManyAttributes);
        assert!(Attributes::read(&headers[..60]).is_ok());
    }
}
