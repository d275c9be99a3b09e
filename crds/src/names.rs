//! Names that users write in manifests, and that operator and documentation have to spell alike.

/// The API group of every kind.
pub const GROUP: &str = "hookwright.dev";
/// The API version of every kind.
pub const VERSION: &str = "v1alpha1";
/// The category of all kinds: `kubectl get hookwright` lists them.
pub const CATEGORY: &str = "hookwright";

/// The label that permits Subscriptions to use a Secret, and says for what. Without it, anyone who may create a
/// Subscription could send any Secret of the namespace to a URL of their own.
pub const USE_LABEL: &str = "hookwright.dev/use";
/// The value of [`USE_LABEL`] on a Secret whose values sign webhooks.
pub const USE_SIGNING: &str = "signing";
/// The value of [`USE_LABEL`] on a Secret whose values are sent to an endpoint, in headers.
pub const USE_ENDPOINT: &str = "endpoint";

/// The annotation on a Service that says which other namespaces' Subscriptions may send to it: names with commas between
/// them, or `*`.
pub const ALLOWED_NAMESPACES: &str = "hookwright.dev/allowed-namespaces";

/// The annotation on a Subscription that asks for test deliveries: each new value asks for one.
pub const SEND_TEST: &str = "hookwright.dev/send-test";
/// The annotation of a Subscription that ends its being Inactive: each new value asks for it.
pub const RESUME: &str = "hookwright.dev/resume";

/// The annotation of a Subscription with a generated signing key that replaces the key: each new value asks for a new
/// one.
pub const ROTATE_SIGNING_KEY: &str = "hookwright.dev/rotate-signing-key";

/// The finalizer on a Producer or Subscription that has state in NATS to be removed.
pub const FINALIZER: &str = "hookwright.dev/nats";

/// The key within the Secret that the operator generates for a Subscription without `signing`.
pub const DEFAULT_SIGNING_KEY: &str = "secret";

/// The name of the Secret that the operator generates for a Subscription without `signing`.
///
/// A Subscription's name has at most 63 characters, so the result is always a valid Secret name.
pub fn signing_secret_name(subscription: &str) -> String {
    format!("{subscription}-signing")
}
