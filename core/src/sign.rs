//! Signatures of webhooks, a file for each scheme.

pub mod hmac;
