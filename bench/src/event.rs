//! The events of the bench: JSON of a given size with its own number, its time of publication and a checksum. So the
//! sink can tell of each arrival which event it is, how old it is, and whether it is whole.

use std::hash::{DefaultHasher, Hasher};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

/// `{"n":"<16 hex>","at":"<16 hex>","sum":"<16 hex>","text":"..."}`
const NUMBER: usize = 6;
const TIME: usize = NUMBER + 16 + 8;
const SUM: usize = TIME + 16 + 9;
const TEXT: usize = SUM + 16 + 10;
const HEX: usize = 16;
const END: &str = "\"}";
/// The bytes of an event, except where a scenario is about size.
pub(crate) const SIZE: usize = 1024;
/// The smallest event, in bytes.
pub(crate) const MIN_SIZE: usize = TEXT + END.len();

/// The time now, in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes event `number`, published now, of `size` bytes.
pub(crate) fn write(number: u64, size: usize) -> Bytes {
    let at = now();
    let text: String =
        std::iter::successors(Some(number), |seed| Some(seed.wrapping_mul(6_364_136_223_846_793_005) + 1))
            .map(|seed| char::from(b'a' + (seed >> 59) as u8 % 26))
            .take(size.saturating_sub(MIN_SIZE))
            .collect();
    let sum = checksum(number, at, text.as_bytes());
    Bytes::from(format!(r#"{{"n":"{number:016x}","at":"{at:016x}","sum":"{sum:016x}","text":"{text}{END}"#))
}

/// The number and the time in an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) number: u64,
    /// When the event was published, in nanoseconds since 1970.
    pub(crate) at: u64,
}

/// Reads an event; `None` if it is not as it was written. It may be within another form, which has its fields in any
/// order.
pub(crate) fn read(body: &[u8]) -> Option<Said> {
    let fields = |[number, at, sum]: [Option<&[u8]>; 3], text: &[u8]| {
        let (number, at, sum) = (hex(number?)?, hex(at?)?, hex(sum?)?);
        (checksum(number, at, text) == sum).then_some(Said { number, at })
    };
    let as_written = body.get(TEXT..).and_then(|rest| rest.strip_suffix(END.as_bytes()));
    let read = as_written.and_then(|text| fields([NUMBER, TIME, SUM].map(|at| body.get(at..at + HEX)), text));
    read.or_else(|| {
        let body = body.strip_suffix(b"}")?;
        fields(["n", "at", "sum"].map(|name| named(body, name)), named(body, "text")?)
    })
}

fn hex(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The text of a field.
fn named<'a>(body: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let start = format!("\"{name}\":\"");
    let found = body.windows(start.len()).position(|window| window == start.as_bytes())?;
    let rest = &body[found + start.len()..];
    Some(&rest[..rest.iter().position(|byte| *byte == b'"')?])
}

fn checksum(number: u64, at: u64, text: &[u8]) -> u64 {
    let mut hash = DefaultHasher::new();
    hash.write_u64(number);
    hash.write_u64(at);
    hash.write(text);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_written_and_not_otherwise() {
        for size in [MIN_SIZE, 1024, 900_000] {
            let body = write(77, size);
            assert_eq!(body.len(), size);
            assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
            let said = read(&body).unwrap();
            assert!(said.number == 77 && said.at <= now());
            for at in [NUMBER, TIME + 5, SUM, TEXT, size - 1] {
                let mut broken = body.to_vec();
                broken[at] ^= 1;
                assert_eq!(read(&broken), None, "{size} {at}");
            }
            assert_eq!(read(&body[..size - 1]), None);
            let within = format!("{{\"type\":\"t\",\"data\":{}}}", String::from_utf8(body.to_vec()).unwrap());
            assert_eq!(read(within.as_bytes()), Some(said));
        }
    }
}
