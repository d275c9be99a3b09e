//! What it means that the API server doesn't do what it was asked for.

use std::error::Error;
use std::fmt;

use hookwright_runtime::logging;
use kube::core::Status;

/// What a failed request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The object doesn't exist.
    Gone,
    /// The object has changed since it was read, or another one has its name.
    Changed,
    /// The API server has too much to do, or is about to start or end.
    Busy,
    /// The API server, or a policy or a webhook in it, refuses the request.
    Refused,
    /// There was no answer.
    Unanswered,
}

/// Returns what the error of a request means.
pub(crate) fn meaning(error: &kube::Error) -> Meaning {
    let kube::Error::Api(status) = error else { return Meaning::Unanswered };
    match status.code {
        _ if status.is_not_found() => Meaning::Gone,
        409 => Meaning::Changed,
        _ if is_failed_test(status) => Meaning::Changed,
        429 | 503 | 504 => Meaning::Busy,
        _ => Meaning::Refused,
    }
}

/// Returns whether a test within a JSON patch has failed: the object has changed meanwhile. The API server (1.36) answers
/// so with the code of an invalid object, and this text.
fn is_failed_test(status: &Status) -> bool {
    status.is_invalid() && status.message.starts_with("the server rejected our request due to an error in our request")
}

/// Returns what the API server says, or why it says nothing.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.is_empty() => format!("the API server answers {}", status.code),
        kube::Error::Api(status) => status.message.clone(),
        other => logging::chain(other),
    }
}

/// A request to the API server failed. It is shown with the words of the answer, and without all else that is in it.
#[derive(Debug)]
pub(crate) struct ApiError(Box<kube::Error>);

impl ApiError {
    pub(crate) fn meaning(&self) -> Meaning {
        meaning(&self.0)
    }

    /// Returns whether the right to do this is missing.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(&*self.0, kube::Error::Api(status) if status.is_forbidden())
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(&self.0))
    }
}

// The words have the causes in them.
impl Error for ApiError {}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the error of a request with that answer.
    pub(crate) fn error(code: u16, reason: &str, message: &str) -> kube::Error {
        let status = Status { code, reason: reason.into(), message: message.into(), ..Status::default() };
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn a_refusal_is_told_from_a_change_meanwhile() {
        let test = "the server rejected our request due to an error in our request";
        let policy = "subscriptions \"a\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no";
        for (code, reason, message, want) in [
            (404, "NotFound", "gone", Meaning::Gone),
            (409, "Conflict", "changed", Meaning::Changed),
            (409, "", "admission webhook \"w\" denied the request: later", Meaning::Changed),
            (409, "AlreadyExists", "there", Meaning::Changed),
            (422, "Invalid", test, Meaning::Changed),
            (422, "Invalid", policy, Meaning::Refused),
            (403, "Forbidden", "no", Meaning::Refused),
            (500, "InternalError", "failed calling webhook", Meaning::Refused),
            (429, "TooManyRequests", "later", Meaning::Busy),
            (503, "ServiceUnavailable", "not ready", Meaning::Busy),
            (504, "Timeout", "too late", Meaning::Busy),
        ] {
            assert_eq!(meaning(&error(code, reason, message)), want, "{code} {reason} {message}");
        }
        let unanswered = kube::Error::Service("no route".into());
        assert_eq!(meaning(&unanswered), Meaning::Unanswered);
    }

    #[test]
    fn an_answer_is_shown_by_its_words() {
        let shown = |error: kube::Error| ApiError::from(error).to_string();
        assert_eq!(shown(error(422, "Invalid", "no")), "no");
        assert_eq!(shown(error(500, "", "")), "the API server answers 500");
        assert_eq!(shown(kube::Error::Service("no route".into())), "ServiceError: no route");
    }
}
