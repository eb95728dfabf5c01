//! `sandbox`: the whole journey of a message in one process.

use super::output::{Context, Failure, Outcome};

/// What `sandbox` is told.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs it.
pub(super) fn run(_context: &Context, _args: Args) -> Outcome {
    Err(Failure::Bad("not built yet".to_owned()))
}
