//! docs/decisions.md says of every dependency why it is here, and of none that is not.

use std::collections::BTreeSet;

/// The names below `[dependencies]` and `[dev-dependencies]`.
fn declared() -> BTreeSet<String> {
    let manifest: toml::Table = toml::from_str(include_str!("../../Cargo.toml")).unwrap();
    ["dependencies", "dev-dependencies"]
        .iter()
        .flat_map(|table| manifest[*table].as_table().unwrap().keys().cloned())
        .collect()
}

/// The names of the list: `- name: why`.
fn reasoned() -> BTreeSet<String> {
    let text = include_str!("../../docs/decisions.md");
    text.lines()
        .filter_map(|line| line.strip_prefix("- ")?.split_once(": "))
        .filter(|(_, why)| !why.trim().is_empty())
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let (declared, reasoned) = (declared(), reasoned());
    let unexplained: Vec<_> = declared.difference(&reasoned).collect();
    let gone: Vec<_> = reasoned.difference(&declared).collect();
    assert!(
        unexplained.is_empty() && gone.is_empty(),
        "Each crate is code that somebody must trust. No reason given: {unexplained:?}; no longer there: {gone:?}"
    );
}
