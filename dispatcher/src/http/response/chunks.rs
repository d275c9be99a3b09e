//! The end of a chunked body.

use super::Malformed;

/// Finds the end of a chunked body (RFC 9112, 7.1).
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Chunks {
    #[default]
    Begin,
    Size(u64),
    Extension(u64),
    Data(u64),
    AfterData,
    TrailerBegin,
    Trailer,
}

impl Chunks {
    /// Reads on. Returns how many bytes follow the end, if it was reached.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        while let Some((&byte, rest)) = bytes.split_first() {
            let digit = char::from(byte).to_digit(16).map(u64::from);
            *self = match (*self, byte) {
                (Self::Begin, _) => Self::Size(digit.ok_or(Malformed)?),
                (Self::Size(0) | Self::Extension(0), b'\n') => Self::TrailerBegin,
                (Self::Size(size) | Self::Extension(size), b'\n') => Self::Data(size),
                (Self::Size(size), b';' | b' ' | b'\t' | b'\r') => Self::Extension(size),
                (Self::Size(size), _) => {
                    let size = size.checked_mul(16).and_then(|size| size.checked_add(digit?));
                    Self::Size(size.ok_or(Malformed)?)
                }
                (Self::Extension(size), _) => Self::Extension(size),
                (Self::Data(size), _) => {
                    let read = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[read..];
                    *self = if size == read as u64 { Self::AfterData } else { Self::Data(size - read as u64) };
                    continue;
                }
                (Self::AfterData | Self::TrailerBegin, b'\r') => *self,
                (Self::AfterData, b'\n') => Self::Begin,
                (Self::AfterData, _) => return Err(Malformed),
                (Self::TrailerBegin, b'\n') => return Ok(Some(rest.len())),
                (Self::TrailerBegin | Self::Trailer, byte) => {
                    if byte == b'\n' {
                        Self::TrailerBegin
                    } else {
                        Self::Trailer
                    }
                }
            };
            bytes = rest;
        }
        Ok(None)
    }
}
