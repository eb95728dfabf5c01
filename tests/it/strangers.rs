//! Programs that others wrote, fetched below target/strangers by `make strangers`. A test that needs one that could not be
//! had does not pass in silence: the fetch lists it in target/strangers/absent, and `make test` ends with that list.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where scripts/strangers.sh puts what it fetches.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/strangers")
}

/// Whether the fetch says that this one could not be had here. Otherwise its absence is a failure.
pub fn absent(name: &str) -> bool {
    let listed = std::fs::read_to_string(root().join("absent")).unwrap_or_default();
    let gone = listed.lines().any(|line| line.split_whitespace().next() == Some(name));
    if gone {
        println!("not run: {name} could not be had on this machine");
    }
    gone
}

/// The path of a program, fetched or the machine's own.
pub fn program(name: &str) -> PathBuf {
    let fetched = ["bin", "usr/bin", "usr/sbin", "sbin"].map(|dir| root().join("root").join(dir).join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path).map(|dir| dir.join(name));
    fetched
        .into_iter()
        .chain(own)
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not here: run `make strangers` first"))
}

/// A fetched program as a command, with the libraries it was fetched with.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    let perl =
        ["usr/share/perl5", "usr/lib/x86_64-linux-gnu/perl5/5.36", "usr/lib/x86_64-linux-gnu/perl-base"];
    let perl = perl.map(|dir| root().join("root").join(dir).display().to_string()).join(":");
    command.env("LD_LIBRARY_PATH", library_path()).env("PERL5LIB", perl);
    command
}

/// Where fetched programs find fetched libraries.
pub fn library_path() -> String {
    let root = root().join("root");
    let dirs = [
        "usr/lib/postfix",
        "usr/lib",
        "usr/lib/x86_64-linux-gnu",
        "usr/lib/aarch64-linux-gnu",
        "lib/x86_64-linux-gnu",
    ];
    dirs.map(|dir| root.join(dir).display().to_string()).join(":")
}

/// The Python that has dkimpy.
pub fn python() -> PathBuf {
    let python = root().join("venv/bin/python");
    assert!(python.is_file(), "the venv with dkimpy is not here: run `make strangers` first");
    python
}
