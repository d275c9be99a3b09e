//! Encryption ("sealing") of secrets in KV records: ChaCha20-Poly1305 with a key that only operator and dispatchers
//! hold.

use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

/// A secret in the clear. `Debug` doesn't print it.
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

/// An encrypted secret, as a record holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sealed {
    /// The id of the key that sealed the secret.
    key_id: String,
    /// The nonce: base64 of 12 bytes.
    nonce: String,
    /// The base64 of the ciphertext and its authentication tag.
    ciphertext: String,
}

/// The sealing key, with an id that tells it apart from earlier and later keys.
pub struct SealingKey {
    id: String,
    key: LessSafeKey,
}

/// The keys of a process: it seals with one, and opens what any of them has sealed. So a new key can be made known
/// everywhere before the first secret is sealed with it.
#[derive(Debug)]
pub struct SealingKeys {
    current: SealingKey,
    accepted: Vec<SealingKey>,
}

/// Why a secret can't be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The text is not a sealing key.
    #[error("a sealing key is the base64 of 32 random bytes (openssl rand -base64 32)")]
    InvalidKey,
    /// The secret was sealed with a key that this process doesn't have.
    #[error("the secret was sealed with key {0:?}, which this process doesn't have")]
    UnknownKey(String),
    /// The ciphertext was altered or moved, or another key of the same id sealed it. Also: the secret is too long to
    /// seal.
    #[error("a sealed value doesn't open: it was altered, moved, or sealed with another key of the same id")]
    Broken,
    /// Two keys of a process have the same id.
    #[error("two sealing keys have the id {0:?}")]
    DuplicateId(String),
}

impl SealingKeys {
    /// Takes the key that seals, and the others that open.
    ///
    /// # Errors
    /// If two keys have the same id.
    pub fn new(current: SealingKey, accepted: Vec<SealingKey>) -> Result<Self, SealError> {
        let mut ids = HashSet::from([current.id.as_str()]);
        if let Some(twice) = accepted.iter().find(|key| !ids.insert(&key.id)) {
            return Err(SealError::DuplicateId(twice.id.clone()));
        }
        Ok(Self { current, accepted })
    }

    /// Seals a secret with the current key; see [`SealingKey::seal`].
    ///
    /// # Errors
    /// If the secret is too long for the cipher (256 GiB).
    pub fn seal(&self, secret: &Secret, place: &SecretPlace<'_>, nonce: [u8; 12]) -> Result<Sealed, SealError> {
        self.current.seal(secret, place, nonce)
    }

    /// Opens a secret that one of the keys sealed for this place.
    ///
    /// # Errors
    /// If none of the keys sealed it, or the sealed value was altered or moved.
    pub fn open(&self, sealed: &Sealed, place: &SecretPlace<'_>) -> Result<Secret, SealError> {
        let key = std::iter::once(&self.current).chain(&self.accepted).find(|key| key.id == sealed.key_id);
        key.unwrap_or(&self.current).open(sealed, place)
    }

    /// Returns whether the current key sealed this secret.
    #[must_use]
    pub fn is_current(&self, sealed: &Sealed) -> bool {
        sealed.key_id == self.current.id
    }
}

impl SealingKey {
    /// Reads a key from the base64 text of 32 random bytes; white space around the text is ignored.
    ///
    /// # Errors
    /// If the text has another form.
    pub fn parse(id: &str, text: &str) -> Result<Self, SealError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| SealError::InvalidKey)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| SealError::InvalidKey)?;
        Ok(Self { id: id.to_owned(), key: LessSafeKey::new(key) })
    }

    /// Seals a secret for one place, and it opens nowhere else. `nonce` is 12 fresh random bytes.
    ///
    /// # Errors
    /// If the secret is too long for the cipher (256 GiB).
    pub fn seal(&self, secret: &Secret, place: &SecretPlace<'_>, nonce: [u8; 12]) -> Result<Sealed, SealError> {
        let mut bytes = secret.expose().as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place.aad(), &mut bytes)
            .map_err(|_| SealError::Broken)?;
        Ok(Sealed { key_id: self.id.clone(), nonce: STANDARD.encode(nonce), ciphertext: STANDARD.encode(bytes) })
    }

    /// Opens a secret that was sealed for this place.
    ///
    /// # Errors
    /// If another key sealed the secret, or the sealed value was altered or moved.
    pub fn open(&self, sealed: &Sealed, place: &SecretPlace<'_>) -> Result<Secret, SealError> {
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

/// The object and field that a secret belongs to, and where it is sent. The seal is bound to all of it: a value that is
/// copied to another object or field, or whose record is made to name another server, doesn't open.
#[derive(Debug, Clone, Copy)]
pub struct SecretPlace<'a> {
    /// The uid of the object whose record holds the secret.
    pub uid: &'a str,
    /// The scheme, host and port that the secret is sent to.
    pub origin: &'a str,
    /// The path of the field, such as `signing[0]` or `headers[authorization]`.
    pub field: &'a str,
}

impl SecretPlace<'_> {
    fn aad(&self) -> Aad<Vec<u8>> {
        Aad::from(format!("{}\n{}\n{}", self.uid, self.origin, self.field).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_in_its_place_and_with_its_key() {
        let key = SealingKey::parse("k1", &STANDARD.encode([1; 32])).unwrap();
        let place = |uid, origin, field| SecretPlace { uid, origin, field };
        let (uid, origin, field) = ("u1", "https://a", "signing[0]");
        let there = place(uid, origin, field);
        let sealed = key.seal(&Secret::new("hush".into()), &there, [9; 12]).unwrap();
        assert_eq!(key.open(&sealed, &there).unwrap().expose(), "hush");
        assert!(!serde_json::to_string(&sealed).unwrap().contains("hush"));

        for elsewhere in [
            place("u2", origin, field),
            place(uid, "http://a", field),
            place(uid, "https://b", field),
            place(uid, "https://a:8443", field),
            place(uid, origin, "signing[1]"),
        ] {
            assert_eq!(key.open(&sealed, &elsewhere), Err(SealError::Broken), "{elsewhere:?}");
        }
        let other = SealingKey::parse("k1", &STANDARD.encode([2; 32])).unwrap();
        assert_eq!(other.open(&sealed, &there), Err(SealError::Broken));
        let renamed = SealingKey::parse("k2", &STANDARD.encode([1; 32])).unwrap();
        assert_eq!(renamed.open(&sealed, &there), Err(SealError::UnknownKey("k1".into())));
        assert!(SealingKey::parse("k1", "short").is_err());
    }

    #[test]
    fn what_an_accepted_key_has_sealed_opens_and_the_current_one_seals() {
        let key = |id, byte| SealingKey::parse(id, &STANDARD.encode([byte; 32])).unwrap();
        let place = SecretPlace { uid: "u1", origin: "https://a", field: "signing[0]" };
        let hush = Secret::new("hush".into());
        let before = SealingKeys::new(key("k1", 1), vec![key("k2", 2)]).unwrap();
        let after = SealingKeys::new(key("k2", 2), vec![key("k1", 1)]).unwrap();
        let sealed = before.seal(&hush, &place, [9; 12]).unwrap();
        assert_eq!((before.is_current(&sealed), after.is_current(&sealed)), (true, false));
        assert_eq!(after.open(&sealed, &place), Ok(hush.clone()));
        assert_eq!(before.open(&after.seal(&hush, &place, [8; 12]).unwrap(), &place), Ok(hush.clone()));
        let last = SealingKeys::new(key("k2", 2), Vec::new()).unwrap();
        assert_eq!(last.open(&sealed, &place), Err(SealError::UnknownKey("k1".into())));
        let twice = SealingKeys::new(key("k1", 1), vec![key("k1", 2)]);
        assert_eq!(twice.unwrap_err(), SealError::DuplicateId("k1".into()));
    }
}
