//! The signing of webhooks.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretKeyRef;
use crate::schema::plain_enum;

/// How webhooks are signed, by the Standard Webhooks specification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Signing {
    /// The signing keys, one to three. Every webhook has a signature by each of them. To replace a key, add the new
    /// one, let the receiver learn it, then remove the old one. No two entries may name the same Secret and key.
    #[schemars(length(min = 1, max = 3))]
    #[x_kube(validation = (
        "self.all(a, self.exists_one(b, b.secretKeyRef == a.secretKeyRef))",
        "two keys name the same Secret and key"
    ))]
    pub keys: Vec<SigningKey>,
}

/// One signing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SigningKey {
    /// How this key signs: HmacSha256 (HMAC-SHA256, a `v1,` signature). Default: HmacSha256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<SigningScheme>,
    /// The key of a Secret that holds the signing key: `whsec_` followed by the base64 of 24 to 64 random bytes. A
    /// change of the Secret takes effect within 30 seconds.
    pub secret_key_ref: SecretKeyRef,
}

/// A signature scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = plain_enum)]
pub enum SigningScheme {
    /// HMAC-SHA256 with a shared secret; the signature's prefix is `v1,`.
    #[default]
    HmacSha256,
}
