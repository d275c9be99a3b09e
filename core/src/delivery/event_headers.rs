//! The event's own headers in a parked delivery or a dead letter. They are in one header, encoded, so that the NATS
//! server doesn't act on them a second time.

use crate::codec::{RecordError, decode_part, encode_header};

/// The header that holds the event's own headers as JSON: `[["name","value"], ...]`, in order, with repeats.
pub const EVENT_HEADERS_HEADER: &str = "Hookwright-Event-Headers";

/// Writes the event's own headers for the value of [`EVENT_HEADERS_HEADER`].
///
/// # Errors
/// Never; `serde_json` can't know that.
pub fn encode_event_headers(headers: &[(&str, &str)]) -> Result<String, RecordError> {
    encode_header(&headers)
}

/// Reads the value of [`EVENT_HEADERS_HEADER`].
///
/// # Errors
/// If it is not the JSON that [`encode_event_headers`] writes.
pub fn decode_event_headers(value: &str) -> Result<Vec<(String, String)>, RecordError> {
    decode_part(value)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_form_is_pairs_in_order() {
        let headers = [("Nats-Msg-Id", "a \"b\", c"), ("x", ""), ("x", "é\t")];
        let text = r#"[["Nats-Msg-Id","a \"b\", c"],["x",""],["x","é\t"]]"#;
        assert_eq!(encode_event_headers(&headers).unwrap(), text);
        for other in ["", "{}", r#"[["x"]]"#, r#"[["x","y","z"]]"#, r#"[["x",1]]"#] {
            assert!(decode_event_headers(other).is_err(), "{other}");
        }
    }

    proptest! {
        /// Headers come back as they were, and their encoding passes through a NATS header unchanged: it has no line
        /// break, and no white space at an end that a reader would trim.
        #[test]
        fn any_headers_round_trip(headers in vec(("[!-9;-~]{1,8}", any::<String>()), 0..8)) {
            let pairs: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let text = encode_event_headers(&pairs).unwrap();
            prop_assert!(!text.contains(['\r', '\n']) && text.starts_with('[') && text.ends_with(']'));
            prop_assert_eq!(decode_event_headers(&text).unwrap(), headers);
        }
    }
}
