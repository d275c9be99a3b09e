//! The patterns in the CRDs' schemas. The API server compiles them with Go's `regexp`: they run in linear time, and `$`
//! matches the end of the text. They use only features that ECMA 262 has, too, so that editors understand them.

/// A duration in the form of the Gateway API.
pub(crate) const DURATION: &str = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// An amount of bytes as text: a number with at most three decimals, and a Kubernetes suffix.
pub(crate) const QUANTITY: &str = r"^[0-9]{1,15}(\.[0-9]{1,3})?([kMGTPE]|[KMGTPE]i)?$";

/// A point in time as in RFC 3339; that the day exists is checked as a format.
pub(crate) const DATE_TIME: &str =
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9])$";

/// The name of a Producer: at most 63 characters (checked by length) and no dot.
pub(crate) const PRODUCER_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// The name of a namespace (a DNS label).
pub(crate) const NAMESPACE: &str = PRODUCER_NAME;

/// The value of a label.
pub(crate) const LABEL_VALUE: &str = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

/// The name of a Secret (a DNS subdomain).
pub(crate) const SECRET_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A key within a Secret.
pub(crate) const SECRET_KEY: &str = r"^[-._a-zA-Z0-9]+$";

/// The name of a stream, of characters that NATS, its file store and its subjects all take without quoting.
pub(crate) const STREAM_NAME: &str = r"^[A-Za-z0-9_-]+$";

/// A NATS subject that a stream captures: tokens of printable ASCII, where `*` is a whole token and `>` the last one.
/// The first token is literal and doesn't begin with `$`, because the stream could capture the server's own API
/// subjects otherwise.
pub(crate) const SUBJECT: &str = r"^[!-#%-)+-\-/-=?-~][!-)+-\-/-=?-~]*(\.(\*|[!-)+-\-/-=?-~]+))*(\.>)?$";

/// A pattern over event types: tokens as in [`SUBJECT`], any of which may be a wildcard. An empty text is refused with a
/// message of its own.
pub(crate) const EVENT_TYPE: &str = r"^(|>|(\*|[!-)+-\-/-=?-~]+)(\.(\*|[!-)+-\-/-=?-~]+))*(\.>)?)$";

/// An event type, without wildcards.
pub(crate) const CONCRETE_EVENT_TYPE: &str = r"^[!-)+-\-/-=?-~]+(\.[!-)+-\-/-=?-~]+)*$";

/// A JSON pointer (RFC 6901) to a field.
pub(crate) const JSON_POINTER: &str = r"^(/([^/~]|~[01])*)+$";

/// A media type with parameters, in visible ASCII and spaces.
pub(crate) const CONTENT_TYPE: &str = r"^[a-zA-Z0-9!#$&^_.+-]+/[a-zA-Z0-9!#$&^_.+-]+(; *[a-zA-Z0-9-]+=[!-:<-~]+)*$";

/// The name of a CloudEvents attribute.
pub(crate) const ATTRIBUTE_NAME: &str = r"^[a-z0-9]+$";

/// The version of an event schema.
pub(crate) const SCHEMA_VERSION: &str = r"^[0-9]{1,9}(\.[0-9]{1,9}){0,2}$";

/// The major version of an event schema.
pub(crate) const MAJOR_VERSION: &str = r"^[0-9]{1,9}$";

/// Visible ASCII characters.
pub(crate) const VISIBLE: &str = r"^[!-~]+$";

/// The prefix of subjects: literal tokens, each with a dot after it.
pub(crate) const SUBJECT_PREFIX: &str = r"^([!-)+-\-/-=?-~]+\.)+$";

/// A header name: an RFC 9110 token.
pub(crate) const HEADER_NAME: &str = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

/// A header value: visible ASCII, space and tab.
pub(crate) const HEADER_VALUE: &str = r"^[\t -~]*$";

/// The path and query of a URL, in ASCII.
pub(crate) const PATH: &str = r#"^/[!"$-\[\]-~]*$"#;

/// An HTTP URL in ASCII: scheme, host name or address, optional port, optional path and query. No userinfo, no
/// fragment, no backslash.
pub(crate) const URL: &str = concat!(
    r"^https?://",
    r"(\[[0-9A-Fa-f:.]+\]|",
    r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?)",
    r"(:[0-9]{1,5})?",
    r#"([/?][!"$-\[\]-~]*)?$"#,
);
