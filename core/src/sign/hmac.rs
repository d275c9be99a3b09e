//! Signatures by the Standard Webhooks specification 1.0.0, symmetric scheme `v1`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// The prefix of every signing secret.
pub const SECRET_PREFIX: &str = "whsec_";

/// The length of one signature in characters: `v1,` and the base64 of 32 bytes.
const SIGNATURE: usize = 3 + 44;

/// A key of the scheme `HmacSha256`, whose HMAC state is prepared once.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

/// Why a text is not a signing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// The prefix is missing.
    #[error("a signing secret starts with whsec_")]
    Prefix,
    /// The text after the prefix is not base64.
    #[error("a signing secret is whsec_ followed by base64")]
    Base64,
    /// The secret has fewer than 24 or more than 64 bytes.
    #[error("a signing secret has 24 to 64 random bytes, this one has {0}")]
    Length(usize),
}

impl SigningKey {
    /// Reads a secret of the form `whsec_<base64 of 24 to 64 bytes>`; white space around it is ignored.
    ///
    /// # Errors
    /// If the text has another form.
    pub fn parse(secret: &str) -> Result<Self, InvalidSecret> {
        let encoded = secret.trim().strip_prefix(SECRET_PREFIX).ok_or(InvalidSecret::Prefix)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidSecret::Base64)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(InvalidSecret::Length(bytes.len()));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [id, ".", timestamp, "."] {
            context.update(part.as_bytes());
        }
        context.update(body);
        context.sign()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

/// The value of the header `webhook-signature`: one signature for each key, with spaces between them. `id` is the value
/// of `webhook-id`, `timestamp` the time of this attempt in seconds since 1970, and `body` the exact bytes that are
/// sent.
#[must_use]
pub fn signature_header(keys: &[SigningKey], id: &str, timestamp: i64, body: &[u8]) -> String {
    let mut seconds = itoa::Buffer::new();
    let seconds = seconds.format(timestamp);
    // The capacity is exactly the length of the text, so that the text becomes the header without a copy.
    let mut header = String::with_capacity((keys.len() * (SIGNATURE + 1)).saturating_sub(1));
    for key in keys {
        header.push_str(if header.is_empty() { "v1," } else { " v1," });
        STANDARD.encode_string(key.sign(id, seconds, body), &mut header);
    }
    header
}

/// The text of a new signing secret made of 32 random bytes.
#[must_use]
pub fn secret_text(random: &[u8; 32]) -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The test vector of the Standard Webhooks libraries.
    #[test]
    fn published_vector() {
        let key = SigningKey::parse(SECRET).unwrap();
        let want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signature_header(std::slice::from_ref(&key), ID, 1_614_265_330, BODY), want);
        let two = signature_header(&[key.clone(), key], ID, 1_614_265_330, BODY);
        assert_eq!((two.capacity(), two), (2 * SIGNATURE + 1, format!("{want} {want}")));
    }

    #[test]
    fn refused_secrets() {
        for (text, want) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", InvalidSecret::Prefix),
            ("whsec_***", InvalidSecret::Base64),
            ("whsec_AAAA", InvalidSecret::Length(3)),
        ] {
            assert_eq!(SigningKey::parse(text).unwrap_err(), want, "{text}");
        }
        assert!(SigningKey::parse(&secret_text(&[7; 32])).is_ok());
        assert!(SigningKey::parse(&format!("{SECRET}\n")).is_ok());
    }
}
