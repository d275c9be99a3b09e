//! The data of an event, by what it is.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::event::structured::without_mark;

/// The data of an event.
#[derive(Debug, Clone)]
pub(super) enum Data<'a> {
    /// The event has no data.
    None,
    /// JSON, as it was written.
    Json(Cow<'a, RawValue>),
    /// Text that is not JSON.
    Text(Cow<'a, str>),
    /// Anything else.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Data<'a> {
    /// Reads data by its content type.
    pub(super) fn of(bytes: Cow<'a, [u8]>, content_type: Option<&str>) -> Self {
        let kind = content_type.map_or(Kind::Bytes, Kind::of);
        match (kind, bytes) {
            (_, bytes) if bytes.is_empty() => Self::None,
            (Kind::Json, Cow::Borrowed(bytes)) => {
                json(bytes).map_or(Self::Bytes(Cow::Borrowed(bytes)), |raw| Self::Json(Cow::Borrowed(raw)))
            }
            (Kind::Json, Cow::Owned(bytes)) => match json(&bytes).map(ToOwned::to_owned) {
                Some(raw) => Self::Json(Cow::Owned(raw)),
                None => Self::Bytes(Cow::Owned(bytes)),
            },
            (Kind::Text, Cow::Borrowed(bytes)) => {
                std::str::from_utf8(bytes).map_or(Self::Bytes(Cow::Borrowed(bytes)), |text| Self::Text(text.into()))
            }
            (Kind::Text, Cow::Owned(bytes)) => match String::from_utf8(bytes) {
                Ok(text) => Self::Text(Cow::Owned(text)),
                Err(error) => Self::Bytes(Cow::Owned(error.into_bytes())),
            },
            (Kind::Bytes, bytes) => Self::Bytes(bytes),
        }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Json(Cow::Owned(raw)) => Box::<str>::from(raw).into_string().into(),
            Self::Text(Cow::Owned(text)) => text.into(),
            Self::Bytes(Cow::Owned(bytes)) => bytes.into(),
            borrowed => Bytes::copy_from_slice(borrowed.as_bytes()),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Json(raw) => raw.get().as_bytes(),
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

fn json(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(without_mark(bytes)).ok()
}

/// What a content type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Text,
    Bytes,
}

impl Kind {
    fn of(content_type: &str) -> Self {
        let mut parts = content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
        let media_type = parts.next().unwrap_or_default();
        let is_unicode = parts
            .filter_map(|parameter| parameter.strip_prefix("charset=").map(str::to_owned))
            .all(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"));
        let (_, subtype) = media_type.split_once('/').unwrap_or_default();
        let is = |format: &str| subtype == format || subtype.rsplit_once('+').is_some_and(|(_, last)| last == format);
        if is("json") {
            if is_unicode { Self::Json } else { Self::Bytes }
        } else if is_unicode
            && (media_type.starts_with("text/") || is("xml") || is("yaml") || subtype == "x-www-form-urlencoded")
        {
            Self::Text
        } else {
            Self::Bytes
        }
    }
}

/// Whether a content type says JSON.
pub(super) fn is_json(content_type: &str) -> bool {
    Kind::of(content_type) == Kind::Json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_data_is() {
        for (content_type, bytes, want) in [
            ("application/json", &b" {\"a\": 1}\n"[..], "json {\"a\": 1}"),
            ("Application/Vnd.X+JSON; charset=utf-8", b"3", "json 3"),
            ("application/json", b"\xef\xbb\xbf[]", "json []"),
            ("application/json", b"{\"a\":", "bytes"),
            ("application/json", b"\xff\xfe{\x00}\x00", "bytes"),
            ("application/json; charset=utf-16", b"{}", "bytes"),
            ("application/json", b"", "none"),
            ("text/plain", b"{}", "text {}"),
            ("text/csv; charset=\"UTF-8\"", "ä".as_bytes(), "text ä"),
            ("text/plain; charset=iso-8859-1", b"a", "bytes"),
            ("text/plain", b"\xe4", "bytes"),
            ("application/soap+xml", b"<a/>", "text <a/>"),
            ("application/x-www-form-urlencoded", b"a=b", "text a=b"),
            ("application/octet-stream", b"{}", "bytes"),
            ("jsonx", b"{}", "bytes"),
            ("application/jsonp", b"{}", "bytes"),
        ] {
            for bytes in [Cow::Borrowed(bytes), Cow::Owned(bytes.to_vec())] {
                let got = match Data::of(bytes, Some(content_type)) {
                    Data::None => "none".to_owned(),
                    Data::Json(raw) => format!("json {}", raw.get()),
                    Data::Text(text) => format!("text {text}"),
                    Data::Bytes(_) => "bytes".to_owned(),
                };
                assert_eq!(got, want, "{content_type}");
            }
        }
    }
}
