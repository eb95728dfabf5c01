//! The nouns: what a mail server speaks of, as types. No I/O, no clock, no await; everything above uses them.

pub mod address;
pub mod attempt;
pub mod class;
pub mod deliver_by;
pub mod envelope;
pub mod header;
pub mod id;
pub mod mailbox;
pub mod meaning;
pub mod message;
pub mod multipart;
pub mod priority;
pub mod reply;
pub mod return_path;
pub mod secret;
pub mod time;
