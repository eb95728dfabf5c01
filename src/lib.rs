//! Waxseal: an SMTP relay that seals mail so that receivers believe it, and loses none of it.
//!
//! The modules below stand in the order a message travels. A module may use only what stands to its right in
//! `cli > sandbox > daemon > control > listen > session > { admit, doctor, inbound, schedule, unsubscribe } >
//! deliver > suppress > { seal, queue, maillog } > { tenant, dns } > config > { metrics, clock, fsx, failpoint, memory } >
//! mail`;
//! `tests/it/layering.rs` holds the house to it.

pub mod admit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod deliver;
pub mod dns;
pub mod doctor;
pub mod failpoint;
pub mod fsx;
pub mod inbound;
pub mod listen;
pub mod mail;
pub mod maillog;
pub mod memory;
pub mod metrics;
pub mod queue;
pub mod sandbox;
pub mod schedule;
pub mod seal;
pub mod session;
pub mod suppress;
pub mod tenant;
pub mod unsubscribe;
