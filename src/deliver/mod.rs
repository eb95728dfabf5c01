//! One attempt: how a message gets to its next hop, and what is said when it does not.

pub mod bounce;
