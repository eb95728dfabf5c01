//! Cargo.lock holds one TLS provider, one resolver, and none of the versions that are known to be bad.

use std::collections::BTreeMap;

/// Crates of which two versions, or any, would mean two providers in one process.
const AT_MOST_ONE: &[(&str, usize, &str)] = &[
    ("openssl", 0, "rustls is the one TLS"),
    ("rustls", 1, "two would not share configurations"),
    ("hickory-resolver", 1, "mail-auth must share our resolver"),
    ("hickory-proto", 1, "the same"),
    ("mail-parser", 1, "two parsers might read two Froms"),
];

/// The lowest versions free of known advisories.
const AT_LEAST: &[(&str, &[u64], &str)] = &[
    ("hickory-resolver", &[0, 26, 1], "RUSTSEC-2026-0118, RUSTSEC-2026-0119"),
    ("mail-parser", &[0, 11, 5], "CVE-2026-26312"),
    ("rustls", &[0, 23, 18], "RUSTSEC-2024-0399"),
    ("quick-xml", &[0, 41, 0], "advisories of 2026"),
    ("crossbeam-epoch", &[0, 9, 20], "advisory of 2026"),
];

fn locked() -> BTreeMap<String, Vec<String>> {
    let text = include_str!("../../Cargo.lock");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("name = ") {
            let version = lines.next().unwrap().strip_prefix("version = ").unwrap();
            found
                .entry(name.trim_matches('"').to_owned())
                .or_default()
                .push(version.trim_matches('"').to_owned());
        }
    }
    found
}

#[test]
fn one_provider_and_one_resolver() {
    let locked = locked();
    for (name, most, why) in AT_MOST_ONE {
        let versions = locked.get(*name).cloned().unwrap_or_default();
        assert!(versions.len() <= *most, "{name}: {versions:?}, but {why}");
    }
}

/// Cargo.lock names ring for a feature that nothing turns on; what is compiled says the tree.
#[test]
fn aws_lc_rs_is_the_only_provider_compiled() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = std::process::Command::new(cargo)
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.lines().any(|line| line.starts_with("aws-lc-rs ")), "no tree to judge:\n{tree}");
    let twice = "aws-lc-rs is the one provider: twice as fast at RSA, and one thing to audit";
    assert!(!tree.lines().any(|line| line.starts_with("ring ")), "ring is compiled, but {twice}");
}

#[test]
fn no_version_with_a_known_advisory() {
    let locked = locked();
    for (name, least, why) in AT_LEAST {
        for version in locked.get(*name).into_iter().flatten() {
            let numbers: Vec<u64> =
                version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect();
            assert!(numbers.as_slice() >= *least, "{name} {version} is below {least:?}: {why}");
        }
    }
}
