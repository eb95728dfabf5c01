//! The house rules that clippy does not know: imports point down, every file says what it is for, none grows past its limit.

use std::path::{Path, PathBuf};

/// From left to right: a module may use only what stands strictly to its right. Neighbours in a row may not use each other.
const HOUSE: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["sandbox"],
    &["daemon"],
    &["control"],
    &["listen"],
    &["session"],
    &["admit", "doctor", "inbound", "schedule", "unsubscribe"],
    &["deliver"],
    &["suppress"],
    &["seal", "queue", "maillog"],
    &["tenant", "dns"],
    &["config"],
    &["metrics", "clock", "fsx", "failpoint", "memory"],
    &["mail"],
];

/// Lines of a source file. A longer one holds a second thing: find it and give it a file. Tables of test cases are excepted.
const LINES_MAX: usize = 400;

fn rank(module: &str) -> Option<usize> {
    HOUSE.iter().position(|row| row.contains(&module))
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "tests", "benches"] {
        if root.join(dir).is_dir() {
            sources(&root.join(dir), &mut files);
        }
    }
    files.sort();
    files
        .into_iter()
        .map(|path| (path.strip_prefix(root).unwrap().to_owned(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

/// The module of the house that a file below src/ belongs to; `None` for lib.rs, which names them all.
fn module_of(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").ok()?.components().next()?.as_os_str().to_str()?.to_owned();
    let name = first.strip_suffix(".rs").unwrap_or(&first).to_owned();
    (name != "lib").then_some(name)
}

/// Every module named behind `crate::` (or `waxseal::` in main.rs), groups included.
fn uses(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 1 && (c.is_alphanumeric() || c == '_') {
                    word.push(c);
                } else if !word.is_empty() {
                    named.push(std::mem::take(&mut word));
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            named.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    named
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (path, text) in all_sources() {
        let Some(from) = module_of(&path) else { continue };
        let Some(mine) = rank(&from) else {
            wrong.push(format!("{}: module `{from}` has no place in the house yet", path.display()));
            continue;
        };
        for to in uses(&text) {
            let Some(theirs) = rank(&to) else { continue };
            if to != from && theirs <= mine {
                wrong.push(format!(
                    "{}: `{from}` uses `{to}`, which does not stand to its right",
                    path.display()
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "A message's path must be readable from left to right, and a room testable without the rooms before it:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_file_says_what_it_is_for_and_stays_small() {
    let mut wrong = Vec::new();
    for (path, text) in all_sources() {
        if !text.starts_with("//!") {
            wrong.push(format!("{}: does not open with `//!` and what it is for", path.display()));
        }
        let lines = text.lines().count();
        let table = path.components().any(|part| part.as_os_str() == "tables");
        if lines > LINES_MAX && !table {
            wrong.push(format!("{}: {lines} lines; find the second concept in it", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "A reader should know from the first line whether to go on, and reach the end:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_layering_test_can_fail() {
    assert_eq!(
        uses("use crate::{queue::store, mail};\nlet x = crate::session::Y;"),
        ["queue", "store", "mail", "session"]
    );
    assert!(rank("session") < rank("queue"));
}
