//! docs/configuration.md names every key that the parsers know, with the sample's default.

use waxseal::config::Config;
use waxseal::tenant;

const PAGE: &str = include_str!("../../docs/configuration.md");
const SERVER: &str = "waxseal.toml";
const TENANT: &str = "A tenant's file";
const SAMPLES: [(&str, &str); 2] = [
    (SERVER, include_str!("../../config/waxseal.toml")),
    (TENANT, include_str!("../../config/tenants/example.toml.sample")),
];

/// The page's row of a key, as its cells. The first table of a file has no name.
fn row(file: &str, table: &str, key: &str) -> Option<Vec<&'static str>> {
    let table = if table.is_empty() { "before the first table" } else { table };
    let section = PAGE.split(&format!("## {file}: {table}\n")).nth(1)?.split("\n## ").next()?;
    let row = section.lines().find(|line| line.starts_with(&format!("| `{key}` |")))?;
    Some(row.trim_matches('|').split(" | ").map(str::trim).collect())
}

/// An unknown key is answered with the known ones.
fn known(error: &str) -> Vec<String> {
    let known = error.split("known here: ").nth(1).unwrap_or_else(|| panic!("{error}"));
    known.split(", ").map(|key| key.trim_matches('`').to_owned()).collect()
}

fn known_to_the_server(table: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("waxseal.toml");
    std::fs::write(&path, format!("{table}\nqqqqqqqq = 1\n")).unwrap();
    known(&Config::load_with(Some(&path), &|_| None).unwrap_err().to_string())
}

fn known_to_a_tenant(table: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new("relay.test".parse().unwrap(), dir.path());
    std::fs::create_dir(&config.tenants).unwrap();
    std::fs::write(config.tenants.join("a.toml"), format!("{table}\nqqqqqqqq = 1\n")).unwrap();
    known(&tenant::load(&config).unwrap_err().to_string())
}

/// The tables that a file's first level leads to; each has a section of its own.
fn is_table(file: &str, key: &str) -> bool {
    [format!("\n## {file}: [{key}]\n"), format!("\n## {file}: [[{key}]]\n")]
        .iter()
        .any(|heading| PAGE.contains(heading))
}

#[test]
fn the_page_has_every_key_and_no_other() {
    let sections: Vec<_> =
        PAGE.lines().filter_map(|line| line.strip_prefix("## ")?.split_once(": ")).collect();
    assert_eq!(sections.len(), 25, "{sections:?}");
    for (file, heading) in sections {
        let table = if heading.starts_with('[') { heading } else { "" };
        let keys = if file == SERVER { known_to_the_server(table) } else { known_to_a_tenant(table) };
        for key in &keys {
            let named = row(file, table, key).is_some() || (table.is_empty() && is_table(file, key));
            assert!(named, "{file} {table}: `{key}` is not in docs/configuration.md");
        }
        let section = PAGE.split(&format!("## {file}: {heading}\n")).nth(1).unwrap();
        let rows = section.split("\n## ").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `"));
        for written in rows.filter_map(|row| row.split('`').next()) {
            assert!(keys.iter().any(|key| key == written), "{file} {heading}: no parser knows `{written}`");
        }
    }
}

#[test]
fn defaults_are_the_samples() {
    let mut compared = 0;
    for (file, sample) in SAMPLES {
        let mut table = String::new();
        for line in sample.lines() {
            let option = line.strip_prefix("# ").unwrap_or(line);
            if option.starts_with('[') {
                table = option.split(" #").next().unwrap().trim().to_owned();
                continue;
            }
            let Some((key, rest)) = option.split_once(" = ") else { continue };
            if !key.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                continue;
            }
            let (value, comment) = rest.split_once(" #").unwrap_or((rest, ""));
            let cells = row(file, &table, key).unwrap_or_else(|| panic!("{file} {table} {key}"));
            let shown = cells[1];
            let sound = match line.starts_with("# ") {
                false => shown == "required",
                // An example of what may stand there.
                true if comment.contains("unset by default") => shown == "unset",
                true if ["unset", "required", "as `hostname`"].contains(&shown) => {
                    comment.contains("default: ") || file == TENANT
                }
                true => shown.starts_with(&format!("`{}`", value.trim())),
            };
            assert!(
                sound,
                "{file} {table}: `{key}` is {} in the sample and {shown} in the page",
                value.trim()
            );
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared}: the samples were not read");
}
