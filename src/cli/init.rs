//! `init`: a configuration, a certificate for a start, an empty state directory.

use super::output::{Context, Failure, Outcome};

/// What `init` is told.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs it.
pub(super) fn run(_context: &Context, _args: Args) -> Outcome {
    Err(Failure::Bad("not built yet".to_owned()))
}
