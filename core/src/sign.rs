//! Signatures of webhooks: one module for each scheme.

pub mod hmac;
