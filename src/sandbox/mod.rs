//! The whole world in one process: a DNS zone, an exchanger that verifies what arrives, a platform. For newcomers, and the
//! world that tests live in.

pub mod client;
pub mod exchanger;
pub mod journey;
mod run;
pub mod world;
pub mod zone;

pub use run::{Sight, run};
