//! The fuzz targets on their corpora, as plain tests: what a fuzzer once found stays found. `make fuzz` goes on from there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/targets.rs"]
mod targets;
use targets::TARGETS;

fn below(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
}

fn corpus(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(below("corpus").join(name))
        .unwrap_or_else(|error| panic!("the target {name} has no corpus: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn every_corpus_passes() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(files.len() >= 4, "{name}: too few to start from");
        for file in files {
            let octets = std::fs::read(&file).unwrap();
            // A target that hangs or panics names its file.
            println!("{}", file.display());
            target(&octets);
            // A cut or a flip in the middle of something meaningful is where parsers go wrong.
            for at in (0..octets.len()).step_by(1 + octets.len() / 32) {
                target(&octets[..at]);
                let mut flipped = octets.clone();
                flipped[at] ^= 1 << (at % 8);
                target(&flipped);
            }
        }
    }
}

/// The fuzzer's package builds the same targets under the same names, and no corpus is left behind.
#[test]
fn the_fuzzers_package_lists_every_target() {
    let manifest: toml::Table =
        toml::from_str(&std::fs::read_to_string(below("Cargo.toml")).unwrap()).unwrap();
    let built: BTreeSet<_> = manifest["bin"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin["name"].as_str().unwrap().to_owned())
        .collect();
    let named: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let kept: BTreeSet<_> = std::fs::read_dir(below("corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!((&built, &kept), (&named, &named));
    assert_eq!(
        TARGETS.map(|(name, _)| targets::named(name) as usize),
        TARGETS.map(|(_, target)| target as usize)
    );
}
