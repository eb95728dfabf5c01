//! `completions` and `man`: what the command line can say of itself.

use clap::CommandFactory;

use super::Cli;
use super::output::{Context, Outcome};

/// What `completions` is told.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  waxseal completions bash > /usr/share/bash-completion/completions/waxseal"
)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// What `man` is told.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  waxseal man | man -l -\n  waxseal man queue list > waxseal-queue-list.1"
)]
pub struct ManArgs {
    /// The verb; without it the page of waxseal itself.
    pub verb: Vec<String>,
}

pub(super) fn completions(context: &Context, args: CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "waxseal", &mut script);
    context.print_bytes(&script)
}

pub(super) fn man(context: &Context, args: ManArgs) -> Outcome {
    let mut command = Cli::command();
    command.build();
    let mut found = &command;
    for verb in &args.verb {
        found = found
            .find_subcommand(verb)
            .ok_or_else(|| super::Failure::NotFound(format!("there is no verb {}", args.verb.join(" "))))?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(found.clone()).render(&mut page)?;
    context.print_bytes(&page)
}
