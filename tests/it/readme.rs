//! README.md stays short, and what it points at is there.

use std::path::Path;

/// Lines that a newcomer reads before trying it.
const LINES_MAX: usize = 120;

#[test]
fn the_readme_is_short_and_its_links_lead_somewhere() {
    let text = include_str!("../../README.md");
    assert!(text.lines().count() <= LINES_MAX, "a newcomer should be trying it by now");
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dead: Vec<_> = targets.filter(|target| !root.join(target).exists()).collect();
    assert!(dead.is_empty(), "README.md points at what is not there: {dead:?}");
}
