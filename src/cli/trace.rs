//! `trace`: what became of one message.

use super::output::{Context, Failure, Outcome};

/// What `trace` is told.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs it.
pub(super) fn run(_context: &Context, _args: Args) -> Outcome {
    Err(Failure::Bad("not built yet".to_owned()))
}
