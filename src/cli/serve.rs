//! `serve`: the daemon in the foreground, and what signals mean to it.

use std::io::IsTerminal;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::output::{Context, Failure, Outcome, note};
use crate::config::Config;
use crate::daemon::{Daemon, StartError};
use crate::failpoint::{self, Failpoint};

/// What blocking work (password hashes, a last sync) may still take when everything else has ended.
const LAST: Duration = Duration::from_secs(2);

/// What `serve` is told.
#[derive(clap::Args, Debug)]
#[command(after_help = "Says READY on standard error (and to systemd) when all listeners accept.\n\
SIGTERM: nothing new is taken, what is in flight gets 30 s, the rest stays queued; a second one ends at once.\n\
SIGHUP: takes over changed files and opens the mail log again.\n\
WAXSEAL_LOG=debug says more.\n\nExample:\n  waxseal serve --config /etc/waxseal/waxseal.toml")]
pub struct Args {}

/// Runs it.
pub(super) fn run(context: &Context, _args: Args) -> Outcome {
    let config = context.load_config()?;
    if let Ok(place) = std::env::var(failpoint::VARIABLE) {
        failpoint::arm(&place).map_err(Failure::Config)?;
    }
    tell_on_stderr();
    more_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(config));
    runtime.shutdown_timeout(LAST);
    outcome
}

/// Operational messages: standard error, where systemd's journal and containers look.
fn tell_on_stderr() {
    let filter = EnvFilter::try_from_env("WAXSEAL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal();
    let set =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr);
    // A second subscriber is refused; the first one then goes on.
    let _ = set.try_init();
}

/// A connection is a descriptor: as many as the system lets us have.
fn more_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

async fn serve(config: Config) -> Outcome {
    let mut signals = Signals::new()?;
    let daemon = Daemon::start(config).await.map_err(refused)?;
    let addresses: Vec<String> = daemon.addresses().iter().map(ToString::to_string).collect();
    note(format_args!("READY listening on {}", addresses.join(" ")));
    tell_systemd(&[NotifyState::Ready]);
    loop {
        tokio::select! {
            error = daemon.failed() => {
                daemon.log().flush();
                // Nothing that runs here can be trusted to end well: the journal is the truth, and the next start reads it.
                note(format_args!("waxseal: {error}; the next start recovers"));
                std::process::exit(1);
            }
            () = signals.end.asked() => break,
            () = daemon.drain_asked() => break,
            _ = signals.reload.recv() => reload(&daemon).await,
        }
    }
    drain(daemon, signals).await
}

fn refused(error: StartError) -> Failure {
    if error.is_config() { Failure::Config(error.to_string()) } else { Failure::Bad(error.to_string()) }
}

async fn reload(daemon: &Daemon) {
    let mut state = vec![NotifyState::Reloading];
    state.extend(NotifyState::monotonic_usec_now().ok());
    tell_systemd(&state);
    match daemon.reload().await {
        Ok(reloaded) => note(reloaded.words()),
        Err(error) => note(format_args!("reload refused, everything stays as it was: {error}")),
    }
    tell_systemd(&[NotifyState::Ready]);
}

async fn drain(daemon: Daemon, mut signals: Signals) -> Outcome {
    failpoint::pass(Failpoint::DrainBegun);
    note("draining: what is in flight finishes, the rest stays queued");
    tell_systemd(&[NotifyState::Stopping]);
    tokio::select! {
        drained = daemon.drain() => drained.map_err(|error| Failure::Bad(error.to_string())),
        () = signals.end.asked() => {
            // What got its 250 is on disk already; attempts under way are due again at the next start.
            note("ended at once");
            std::process::exit(0);
        }
    }
}

fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// The signals that mean something.
struct Signals {
    end: End,
    reload: Signal,
}

/// Those that end it.
struct End {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            end: End { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? },
            reload: signal(SignalKind::hangup())?,
        })
    }
}

impl End {
    /// Resolves when the process is told to end.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
