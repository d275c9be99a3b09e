//! The receiver of all webhooks. It is a process of its own, so that its CPU time is counted apart.
//!
//! An endpoint is a path, `/<number>/<behaviour>`. The sink notes each arrival with its time; `POST /receipts` returns
//! the notes.

mod behaviour;
mod handle;
mod server;

pub(crate) use behaviour::Behaviour;
pub(crate) use handle::{SINK, Sink};
pub(crate) use server::serve;

/// A webhook that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) endpoint: u32,
    /// The number of the event.
    pub(crate) number: u64,
    /// When the event was published, in nanoseconds since 1970.
    pub(crate) published: u64,
    /// When the webhook arrived, in nanoseconds since 1970.
    pub(crate) at: u64,
    /// Whether the webhook was answered with 200.
    pub(crate) accepted: bool,
    /// Whether the event is as it was written.
    pub(crate) whole: bool,
}

impl Receipt {
    const SIZE: usize = 4 + 8 + 8 + 8 + 1;
    const ACCEPTED: u8 = 1;
    const WHOLE: u8 = 2;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.endpoint.to_le_bytes());
        for field in [self.number, self.published, self.at] {
            to.extend(field.to_le_bytes());
        }
        let flags = u8::from(self.accepted) * Self::ACCEPTED + u8::from(self.whole) * Self::WHOLE;
        to.push(flags);
    }

    /// Reads a receipt that [`Self::write`] wrote; `None` if the bytes end too early.
    fn read(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let (endpoint, rest) = bytes.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (published, rest) = rest.split_first_chunk()?;
        let (at, flags) = rest.split_first_chunk()?;
        let flags = *flags.first()?;
        Some(Self {
            endpoint: u32::from_le_bytes(*endpoint),
            number: u64::from_le_bytes(*number),
            published: u64::from_le_bytes(*published),
            at: u64::from_le_bytes(*at),
            accepted: flags & Self::ACCEPTED != 0,
            whole: flags & Self::WHOLE != 0,
        })
    }

    /// Reads several receipts, one after the other.
    fn read_all(bytes: &[u8]) -> Vec<Self> {
        bytes.as_chunks().0.iter().filter_map(Self::read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_read_as_they_were_written() {
        let one = Receipt { endpoint: 7, number: 1 << 40, published: 5, at: 6, accepted: true, whole: false };
        let two = Receipt { accepted: false, whole: true, ..one };
        let mut bytes = Vec::new();
        one.write(&mut bytes);
        two.write(&mut bytes);
        assert_eq!(Receipt::read_all(&bytes), [one, two]);
    }
}
