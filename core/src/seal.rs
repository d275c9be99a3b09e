//! Sealing of secrets in KV records: ChaCha20-Poly1305 under a key that only operator and dispatchers hold.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

/// A secret in the clear. It never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A secret as it stands in a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sealed {
    /// Which key sealed it.
    key_id: String,
    /// Base64 of 12 bytes.
    nonce: String,
    /// Base64 of the ciphertext and its tag.
    ciphertext: String,
}

/// The sealing key, with the id that tells it from those before and after it.
pub struct SealingKey {
    id: String,
    key: LessSafeKey,
}

/// Sealing or opening failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key file does not hold a key.
    #[error("a sealing key is the base64 of 32 random bytes (openssl rand -base64 32)")]
    InvalidKey,
    /// Sealed under a key that is not here.
    #[error("sealed with key {0:?}, which this process does not have")]
    UnknownKey(String),
    /// The ciphertext, its place or the key is another.
    #[error("a sealed value does not open: it was altered, moved, or sealed with another key of the same id")]
    Broken,
}

impl SealingKey {
    /// Takes the base64 text of 32 random bytes; white space around it is ignored.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn parse(id: &str, text: &str) -> Result<Self, SealError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| SealError::InvalidKey)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| SealError::InvalidKey)?;
        Ok(Self { id: id.to_owned(), key: LessSafeKey::new(key) })
    }

    /// Seals a secret for one place: it opens nowhere else. `nonce` is 12 fresh random bytes.
    ///
    /// # Errors
    /// If the secret is too long for the cipher (256 GiB).
    pub fn seal(&self, secret: &Secret, place: &Place<'_>, nonce: [u8; 12]) -> Result<Sealed, SealError> {
        let mut bytes = secret.expose().as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place.aad(), &mut bytes)
            .map_err(|_| SealError::Broken)?;
        Ok(Sealed { key_id: self.id.clone(), nonce: STANDARD.encode(nonce), ciphertext: STANDARD.encode(bytes) })
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// If another key sealed it, or it was altered or moved.
    pub fn open(&self, sealed: &Sealed, place: &Place<'_>) -> Result<Secret, SealError> {
        if sealed.key_id != self.id {
            return Err(SealError::UnknownKey(sealed.key_id.clone()));
        }
        let nonce = STANDARD.decode(&sealed.nonce).map_err(|_| SealError::Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| SealError::Broken)?;
        let mut bytes = STANDARD.decode(&sealed.ciphertext).map_err(|_| SealError::Broken)?;
        let clear = self.key.open_in_place(nonce, place.aad(), &mut bytes).map_err(|_| SealError::Broken)?;
        Ok(Secret(String::from_utf8(clear.to_vec()).map_err(|_| SealError::Broken)?))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}

/// Where a secret stands: bound into the seal, so that a value copied to another object or field does not open.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The uid of the object that the record is of.
    pub uid: &'a str,
    /// The field's path, `signing[0]` or `headers[authorization]`.
    pub field: &'a str,
}

impl Place<'_> {
    fn aad(&self) -> Aad<Vec<u8>> {
        Aad::from(format!("{}/{}", self.uid, self.field).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_in_its_place_and_with_its_key() {
        let key = SealingKey::parse("k1", &STANDARD.encode([1; 32])).unwrap();
        let place = Place { uid: "u1", field: "signing[0]" };
        let sealed = key.seal(&Secret::new("hush".into()), &place, [9; 12]).unwrap();
        assert_eq!(key.open(&sealed, &place).unwrap().expose(), "hush");
        assert!(!serde_json::to_string(&sealed).unwrap().contains("hush"));

        for place in [Place { uid: "u2", field: "signing[0]" }, Place { uid: "u1", field: "signing[1]" }] {
            assert_eq!(key.open(&sealed, &place), Err(SealError::Broken));
        }
        let other = SealingKey::parse("k1", &STANDARD.encode([2; 32])).unwrap();
        assert_eq!(other.open(&sealed, &place), Err(SealError::Broken));
        let renamed = SealingKey::parse("k2", &STANDARD.encode([1; 32])).unwrap();
        assert_eq!(renamed.open(&sealed, &place), Err(SealError::UnknownKey("k1".into())));
        assert!(SealingKey::parse("k1", "short").is_err());
    }
}
