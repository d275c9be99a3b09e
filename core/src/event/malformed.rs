//! Why a message is not an event.

/// Why a message is not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The content type says structured CloudEvent, but the body isn't a JSON object.
    #[error("the body is not a JSON object, as application/cloudevents+json has to be")]
    NotAnObject,
    /// The content type says structured CloudEvent, but the body isn't JSON.
    #[error("the body is not JSON, as application/cloudevents+json has to be: {reason}")]
    NotJson {
        /// Why, in the words of the parser.
        reason: String,
    },
    /// The body of a structured CloudEvent is compressed.
    #[error("the body has a content-encoding, so the type of the CloudEvent in it can't be read")]
    Encoded,
    /// The content type says structured CloudEvent in another format.
    #[error("the event format is not JSON: of structured CloudEvents, only application/cloudevents+json can be read")]
    UnknownFormat,
    /// The message is a batch of CloudEvents.
    #[error("a batch of CloudEvents is not supported: publish one event a message")]
    Batch,
    /// The event has more attributes than HTTP receivers take.
    #[error("the event has more than 64 CloudEvents attributes")]
    TooManyAttributes,
    /// The event has two headers of one name, or a structured CloudEvent two members.
    #[error("the event has {name} twice (headers without regard to case)")]
    Twice {
        /// The name; of a header, in lower case.
        name: String,
    },
    /// HTTP can't carry the content type or the content encoding, which say what the body is.
    #[error("{name} has control characters")]
    ControlCharacters {
        /// The name of the HTTP header.
        name: &'static str,
    },
    /// An attribute is not UTF-8 once it is decoded.
    #[error("{name} is not UTF-8 after percent-decoding")]
    NotUtf8 {
        /// The name of the header, in lower case.
        name: String,
    },
    /// The attribute `time` is not one.
    #[error("ce-time is not a time as RFC 3339 has it, such as 2026-03-01T09:30:00Z")]
    InvalidTime,
    /// The event has no type where the Producer says that it is.
    #[error("the event has no type where the Producer's eventType.from says that it is")]
    MissingType,
    /// The type is empty or too long, is not a text in Unicode, or has white space or control characters.
    #[error(
        "the event type is empty, not a text in Unicode, has white space or control characters, or is longer than 255 bytes"
    )]
    InvalidType,
}
