//! `key`: its verbs.

use super::output::{Context, Failure, Outcome};

/// The verbs of `key`.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {}

/// Runs it.
pub(super) fn run(_context: &Context, _verb: Verb) -> Outcome {
    Err(Failure::Bad("not built yet".to_owned()))
}
