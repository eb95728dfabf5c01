//! What every verb shares: where its configuration is, how it prints, and what its exit code means.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::presets;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// How a verb ended.
pub type Outcome = Result<(), Failure>;

/// Why a verb ended badly; each kind has its exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// 1: it was done, and the answer is bad; or it could not be done.
    #[error("{0}")]
    Bad(String),
    /// 2: the command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// 3: no daemon runs.
    #[error("{0}")]
    Absent(String),
    /// 3: the daemon cannot be asked.
    #[error("{0}")]
    Unreachable(String),
    /// 4: there is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// 78: the configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// Whoever read our output went away: nothing is wrong.
    #[error("standard output is closed")]
    Closed,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Bad(error.to_string()) }
    }
}

/// Prints the failure as one line and answers its exit code.
pub(super) fn exit_code(outcome: Outcome) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let code = match failure {
        Failure::Closed => return ExitCode::SUCCESS,
        Failure::Bad(_) => 1,
        Failure::Usage(_) => 2,
        Failure::Absent(_) | Failure::Unreachable(_) => 3,
        Failure::NotFound(_) => 4,
        Failure::Config(_) => 78,
    };
    note(format_args!("waxseal: {failure}"));
    ExitCode::from(code)
}

/// Says something to the person on standard error. That nobody listens is no failure.
pub(super) fn note(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// What the top of the command line said.
#[derive(Clone, Debug)]
pub struct Context {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--json`.
    pub json: bool,
}

impl Context {
    pub(super) fn new(config: Option<PathBuf>, json: bool) -> Self {
        Self { config, json }
    }

    /// Prints one line of data.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn print(&self, line: impl Display) -> Outcome {
        writeln!(anstream::stdout(), "{line}")?;
        Ok(())
    }

    /// Prints octets as they are.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn print_bytes(&self, bytes: &[u8]) -> Outcome {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()?;
        Ok(())
    }

    /// Prints one JSON object on a line of its own.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn print_json(&self, value: &impl Serialize) -> Outcome {
        let text = serde_json::to_string(value).map_err(|error| Failure::Bad(error.to_string()))?;
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(())
    }

    /// Prints a table: plain columns, so that it can be read and cut.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn print_table(&self, header: &[&str], rows: Vec<Vec<String>>) -> Outcome {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header).add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.print(table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
    }

    /// Says something to the person on standard error.
    pub fn note(&self, text: impl Display) {
        note(text);
    }
}
