//! Parses the command line, runs it, turns an error into one line and an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    waxseal::cli::main()
}
