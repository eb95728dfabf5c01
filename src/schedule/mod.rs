//! When, and how many at once: claims what is due, has it attempted, settles what was decided, and tells of failures.

pub mod retry;
#[allow(dead_code, reason = "its caller is the next commit")]
mod steady;
