//! `status`, `reload`, `drain`: what is asked of the running daemon.

use super::output::{Context, Failure, Outcome};

/// What `status` is told.
#[derive(clap::Args, Debug)]
pub struct StatusArgs {}

/// What `reload` is told.
#[derive(clap::Args, Debug)]
pub struct ReloadArgs {}

/// What `drain` is told.
#[derive(clap::Args, Debug)]
pub struct DrainArgs {}

pub(super) fn status(_context: &Context, _args: StatusArgs) -> Outcome {
    Err(Failure::Bad("not built yet".to_owned()))
}

pub(super) fn reload(_context: &Context, _args: ReloadArgs) -> Outcome {
    Err(Failure::Bad("not built yet".to_owned()))
}

pub(super) fn drain(_context: &Context, _args: DrainArgs) -> Outcome {
    Err(Failure::Bad("not built yet".to_owned()))
}
