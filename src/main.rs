//! Parses the command line, runs it, turns an error into one line and an exit code.

fn main() {}
