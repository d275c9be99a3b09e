//! Sources that may bring nothing, and what a Producer is told of them.

use hookwright_crds::Reason;
use jiff::Timestamp;

use crate::refusal::Refusal;

/// A source of which it can't be known what it brings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unknown {
    /// No stream of this name exists.
    Missing(String),
    /// The stream of this name is in another account or domain, or too many streams away.
    Elsewhere(String),
    /// The stream of this name is to bring nothing before this.
    Later(String, Begin),
}

/// With what a source begins, if it has yet to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Begin {
    /// What was stored at this time or later.
    Time(Timestamp),
    /// The message of this sequence.
    Sequence(u64),
}

impl Unknown {
    /// Whether a filter or a transform of what the source brings says what is there. Nothing comes of a source that doesn't
    /// exist or begins later, whether it is filtered or not.
    pub(super) fn ends_with_a_filter(&self) -> bool {
        matches!(self, Self::Elsewhere(_))
    }

    /// Returns why the stream `name` may get no event of this subject.
    pub(crate) fn told(&self, name: &str, subject: &str) -> Refusal {
        match self {
            Self::Missing(source) => Refusal::new(
                Reason::SourceNotFound,
                format!(
                    "Stream {name:?} is filled from {source:?}, which doesn't exist, so it may get no event of subject \
                     {subject:?}. Create that stream, or read another one."
                ),
            ),
            Self::Elsewhere(source) => Refusal::new(
                Reason::SourceElsewhere,
                format!(
                    "Stream {name:?} is filled from {source:?}, in another account or domain or by way of many streams, \
                     so it can't be known whether it stores subject {subject:?}. If no events come, compare with what it \
                     stores (nats stream subjects {name}). This ends once that source has a filter_subject or \
                     subject_transforms."
                ),
            ),
            Self::Later(source, begin) => Refusal::new(
                Reason::SourceInFuture,
                match begin {
                    Begin::Time(time) => format!(
                        "Nothing is to come from {source:?} to stream {name:?} before {time} (opt_start_time), so it may get \
                         no event of subject {subject:?} until then."
                    ),
                    Begin::Sequence(sequence) => format!(
                        "Nothing is to come from {source:?} to stream {name:?} before message {sequence} of it \
                         (opt_start_seq), and it is not there yet, so the stream may get no event of subject {subject:?} \
                         until then."
                    ),
                },
            ),
        }
    }
}
