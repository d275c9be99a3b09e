//! Signatures of webhooks.

pub mod hmac;
