//! What an administrator types. The top of the command line stands here; each family of verbs defines and runs its own in
//! its file. Standard output is data, standard error is progress; `--json` prints one object, or JSON Lines for lists.

mod ask;
mod check;
mod classify;
mod config;
mod disposal;
mod doctor;
mod domain;
mod filter;
mod findings;
mod import;
mod init;
mod key;
mod log;
mod output;
mod pages;
mod probe;
mod publish;
mod queue;
mod rows;
mod sandbox;
mod send;
mod serve;
mod steer;
mod suppress;
mod tenant;
mod tls;
mod trace;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use output::{Context, Failure, Outcome};

/// A relay that seals mail so that receivers believe it, and loses none of it.
#[derive(Debug, Parser)]
#[command(name = "waxseal", version, about, max_term_width = 100, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 the answer is bad, 2 usage, 3 the daemon cannot be reached, 4 not found, 78 bad configuration."
)]
pub struct Cli {
    /// The configuration file [default: ./config/waxseal.toml, then /etc/waxseal/waxseal.toml].
    #[arg(long, global = true, env = "WAXSEAL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON: one object, or one a line for lists.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs, in the order in which a newcomer meets them.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "parsed once at the start")]
pub enum Command {
    /// Show the whole journey of a message inside one process, on loopback.
    Sandbox(sandbox::Args),
    /// Write a configuration, a certificate for a start and an empty state directory.
    Init(init::Args),
    /// Add, list and change tenants and their logins.
    #[command(subcommand)]
    Tenant(tenant::Verb),
    /// Add, list and check From domains and the DNS records they need.
    #[command(subcommand)]
    Domain(domain::Verb),
    /// Make, import and list DKIM keys.
    #[command(subcommand)]
    Key(key::Verb),
    /// Check the configuration.
    #[command(subcommand)]
    Config(config::Verb),
    /// Find out what keeps mail from arriving: this machine, the way out, every domain.
    Doctor(doctor::Args),
    /// Run the relay in the foreground.
    Serve(serve::Args),
    /// Submit a test message through the front door.
    Send(send::Args),
    /// Look after the queue.
    #[command(subcommand)]
    Queue(queue::Verb),
    /// Look after the addresses that a tenant's mail no longer goes to.
    #[command(subcommand)]
    Suppress(suppress::Verb),
    /// Show what is known of how mail must be protected on its way.
    #[command(subcommand)]
    Tls(tls::Verb),
    /// Read the mail log.
    #[command(subcommand)]
    Log(log::Verb),
    /// Tell what became of one message.
    Trace(trace::Args),
    /// Tell which class a message would get, and why.
    Classify(classify::Args),
    /// Tell how the daemon is.
    Status(steer::StatusArgs),
    /// Let the daemon take over changed files.
    Reload(steer::ReloadArgs),
    /// Let the daemon finish what is in flight and end.
    Drain(steer::DrainArgs),
    /// Print a completion script.
    Completions(pages::CompletionsArgs),
    /// Print the manual pages.
    Man(pages::ManArgs),
}

/// Parses the command line, runs it, and turns an error into one line and an exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let context = Context::new(cli.config, cli.json);
    let outcome = run(&context, cli.command);
    output::exit_code(outcome)
}

fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Sandbox(args) => sandbox::run(context, args),
        Command::Init(args) => init::run(context, args),
        Command::Tenant(verb) => tenant::run(context, verb),
        Command::Domain(verb) => domain::run(context, verb),
        Command::Key(verb) => key::run(context, verb),
        Command::Config(verb) => config::run(context, verb),
        Command::Doctor(args) => doctor::run(context, args),
        Command::Serve(args) => serve::run(context, args),
        Command::Send(args) => send::run(context, args),
        Command::Queue(verb) => queue::run(context, verb),
        Command::Suppress(verb) => suppress::run(context, verb),
        Command::Tls(verb) => tls::run(context, verb),
        Command::Log(verb) => log::run(context, verb),
        Command::Trace(args) => trace::run(context, args),
        Command::Classify(args) => classify::run(context, args),
        Command::Status(args) => steer::status(context, args),
        Command::Reload(args) => steer::reload(context, args),
        Command::Drain(args) => steer::drain(context, args),
        Command::Completions(args) => pages::completions(context, args),
        Command::Man(args) => pages::man(context, args),
    }
}
