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
    ("hickory-resolver", &[0, 26, 1], "RUSTSEC-2026-0119"),
    (
        "hickory-net",
        &[0, 26, 2],
        "RUSTSEC-2026-0118, RUSTSEC-2026-0120, RUSTSEC-2026-0505: it has the checks of NSEC3",
    ),
    ("mail-parser", &[0, 11, 5], "CVE-2026-26312"),
    ("rustls", &[0, 23, 45], "RUSTSEC-2024-0399, RUSTSEC-2026-0285"),
    ("rustls-webpki", &[0, 103, 13], "RUSTSEC-2026-0049, RUSTSEC-2026-0104"),
    ("aws-lc-sys", &[0, 39, 0], "RUSTSEC-2026-0044 to 0048"),
    ("bytes", &[1, 11, 1], "RUSTSEC-2026-0007"),
    ("time", &[0, 3, 47], "RUSTSEC-2026-0009"),
    ("lru", &[0, 18, 2], "RUSTSEC-2026-0253"),
    ("quick-xml", &[0, 41, 0], "advisories of 2026"),
    ("crossbeam-epoch", &[0, 9, 20], "RUSTSEC-2026-0204"),
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

/// What is compiled into the program, a crate and its version a line.
fn compiled() -> String {
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
    tree
}

/// What deny.toml bans. Cargo.lock names ring for a feature that nothing turns on; what is compiled says the tree.
#[test]
fn nothing_that_is_banned_is_compiled() {
    let deny: toml::Table = toml::from_str(include_str!("../../deny.toml")).unwrap();
    let bans = deny["bans"]["deny"].as_array().unwrap();
    let banned: Vec<_> = bans.iter().map(|ban| ban["crate"].as_str().unwrap()).collect();
    assert!(banned.contains(&"ring"), "aws-lc-rs is the one provider: twice as fast, and one thing to audit");
    let tree = compiled();
    for name in banned {
        assert!(!tree.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} is compiled");
    }
}

/// An advisory that is accepted is about a crate that is still here, which its reason begins with: a word that outlives its cause
/// would hide the next.
#[test]
fn what_is_accepted_is_still_there() {
    let deny: toml::Table = toml::from_str(include_str!("../../deny.toml")).unwrap();
    let locked = locked();
    for accepted in deny["advisories"]["ignore"].as_array().unwrap() {
        let (id, reason) = (accepted["id"].as_str().unwrap(), accepted["reason"].as_str().unwrap());
        let name = reason.split([' ', '\'']).next().unwrap();
        assert!(locked.contains_key(name), "{id}: {name} is not in Cargo.lock any more");
    }
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
