//! How a process logs in. The files are read at each connection, so that what they hold can change without a restart.

use std::io;
use std::path::{Path, PathBuf};

use async_nats::{Auth, AuthError, ConnectOptions};
use nkeys::KeyPair;

use super::{NatsError, NatsSettings};

/// One of the ways to log in.
#[derive(Debug, Clone)]
enum Login {
    Nobody,
    Password {
        user: String,
        file: PathBuf,
    },
    /// The file has a JWT and a seed.
    Credentials(PathBuf),
    /// The file has a seed.
    Nkey(PathBuf),
}

/// Returns options that log in as the settings say, with TLS where they say so.
pub(super) async fn options(settings: &NatsSettings) -> Result<ConnectOptions, NatsError> {
    let login = Login::of(settings)?;
    // A file that can't be used is better said now than at each attempt to connect.
    login.auth(&[]).await?;
    let mut options = ConnectOptions::with_auth_callback(move |nonce| {
        let login = login.clone();
        async move { login.auth(&nonce).await.map_err(|error| AuthError::new(crate::logging::chain(&error))) }
    });
    if let Some(path) = &settings.ca_file {
        options = options.add_root_certificates(path.clone());
    }
    let certificate = match (&settings.client_certificate_file, &settings.client_key_file) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err(NatsError::ClientCertificate),
    };
    if let Some((certificate, key)) = certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    // The client leaves it to the server whether there is TLS. An impostor would say no, and be given the password.
    Ok(options.require_tls(settings.ca_file.is_some() || certificate.is_some()))
}

impl Login {
    fn of(settings: &NatsSettings) -> Result<Self, NatsError> {
        let NatsSettings { user, password_file, credentials_file, nkey_file, .. } = settings;
        match (user, password_file, credentials_file, nkey_file) {
            (Some(user), Some(file), None, None) => Ok(Self::Password { user: user.clone(), file: file.clone() }),
            (None, None, Some(file), None) => Ok(Self::Credentials(file.clone())),
            (None, None, None, Some(file)) => Ok(Self::Nkey(file.clone())),
            (None, None, None, None) => Ok(Self::Nobody),
            _ => Err(NatsError::Credentials),
        }
    }

    /// Reads the files and answers the server's nonce.
    async fn auth(&self, nonce: &[u8]) -> Result<Auth, NatsError> {
        let mut auth = Auth::new();
        match self {
            Self::Nobody => {}
            Self::Password { user, file } => {
                auth.username = Some(user.clone());
                auth.password = Some(read(file).await?.trim().to_owned());
            }
            Self::Credentials(file) => {
                let text = read(file).await?;
                let (jwt, seed) = jwt_and_seed(&text).ok_or_else(|| NatsError::Seed { path: file.clone() })?;
                auth.jwt = Some(jwt.to_owned());
                auth.signature = Some(sign(file, seed, nonce)?.1);
            }
            Self::Nkey(file) => {
                let (key, signature) = sign(file, read(file).await?.trim(), nonce)?;
                auth.nkey = Some(key);
                auth.signature = Some(signature);
            }
        }
        Ok(auth)
    }
}

async fn read(path: &Path) -> Result<String, NatsError> {
    let file = |source: io::Error| NatsError::File { path: path.to_owned(), source };
    tokio::fs::read_to_string(path).await.map_err(file)
}

/// Returns the public key of a seed, and the signature of the nonce.
fn sign(path: &Path, seed: &str, nonce: &[u8]) -> Result<(String, Vec<u8>), NatsError> {
    // What nkeys says of a bad seed may quote it.
    let bad = |_| NatsError::Seed { path: path.to_owned() };
    let pair = KeyPair::from_seed(seed).map_err(bad)?;
    Ok((pair.public_key(), pair.sign(nonce).map_err(bad)?))
}

/// Returns what stands below the two lines `-----BEGIN NATS USER JWT-----` and `-----BEGIN USER NKEY SEED-----`.
fn jwt_and_seed(credentials: &str) -> Option<(&str, &str)> {
    let below = |title: &str| {
        let mut lines = credentials.lines().map(str::trim);
        lines.find(|line| line.starts_with("-----BEGIN") && line.contains(title))?;
        lines.find(|line| !line.is_empty())
    };
    Some((below("USER JWT")?, below("NKEY SEED")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(yaml: &str) -> NatsSettings {
        serde_saphyr::from_str(&format!("url: nats://x\ninboxPrefix: _INBOX\n{yaml}")).unwrap()
    }

    #[tokio::test]
    async fn one_way_to_log_in_is_taken_and_half_a_way_is_refused() {
        for yaml in [
            "user: a",
            "passwordFile: /a",
            "credentialsFile: /a\nnkeyFile: /a",
            "user: a\npasswordFile: /a\nnkeyFile: /a",
        ] {
            assert!(matches!(options(&settings(yaml)).await, Err(NatsError::Credentials)), "{yaml}");
        }
        for yaml in ["clientCertificateFile: /a", "clientKeyFile: /a"] {
            assert!(matches!(options(&settings(yaml)).await, Err(NatsError::ClientCertificate)), "{yaml}");
        }
        assert!(matches!(options(&settings("nkeyFile: /nowhere")).await, Err(NatsError::File { .. })));
        assert!(options(&settings("")).await.is_ok());
    }

    #[tokio::test]
    async fn the_nonce_is_signed_with_the_seed_that_the_file_has_now() {
        let path = std::env::temp_dir().join(format!("hookwright-login-{}", std::process::id()));
        for login in [Login::Nkey(path.clone()), Login::Credentials(path.clone())] {
            for _ in 0..2 {
                let pair = KeyPair::new_user();
                let seed = pair.seed().unwrap();
                let file = match login {
                    Login::Nkey(_) => format!("{seed}\n"),
                    _ => format!(
                        "-----BEGIN NATS USER JWT-----\nhead.claims.sum\n------END NATS USER JWT------\n\n\
                         *** IMPORTANT ***\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
                    ),
                };
                std::fs::write(&path, file).unwrap();
                let auth = login.auth(b"nonce").await.unwrap();
                pair.verify(b"nonce", &auth.signature.unwrap()).unwrap();
                match login {
                    Login::Nkey(_) => assert_eq!(auth.nkey, Some(pair.public_key())),
                    _ => assert_eq!(auth.jwt.as_deref(), Some("head.claims.sum")),
                }
            }
            std::fs::write(&path, "SUANOSEED").unwrap();
            let error = login.auth(b"").await.err().unwrap();
            assert!(!crate::logging::chain(&error).contains("NOSEED"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
