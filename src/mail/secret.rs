//! Secrets: a type that cannot be printed, wiped when dropped.

pub use secrecy::{ExposeSecret, SecretString};
