//! The catalogue of attacks and faults as data (catalogue.toml): every row is there, what it names as its proof exists, and
//! docs/faults.md is the same for a person. `WAXSEAL_WRITE_PAGES=1` writes the page.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use crate::dialogue::cases;

/// Rows of each group.
const GROUPS: [(&str, usize, &str); 15] = [
    ("SM", 11, "End of data, framing, smuggling"),
    ("TL", 9, "TLS and STARTTLS"),
    ("AU", 9, "AUTH and tenancy"),
    ("RE", 10, "Relay control and addresses"),
    ("CM", 18, "Commands, limits, slow and early clients"),
    ("BD", 7, "BDAT"),
    ("ID", 7, "Message identity"),
    ("DK", 8, "DKIM"),
    ("DN", 12, "DNS, SPF, DMARC"),
    ("OB", 8, "Outbound policy"),
    ("RM", 12, "Remote server misbehaviour"),
    ("QU", 9, "Queue, loops, notifications"),
    ("FA", 18, "Machine faults"),
    ("MP", 6, "What a sender asks of the whole way: MT-PRIORITY"),
    ("DB", 8, "What a sender asks of the whole way: DELIVERBY"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    /// What goes in.
    what: String,
    /// What comes of it.
    #[serde(default)]
    result: String,
    /// What shows it.
    by: Vec<String>,
    /// What is not shown.
    left: Option<String>,
}

fn rows() -> Vec<Row> {
    toml::from_str::<Catalogue>(include_str!("catalogue.toml")).unwrap().row
}

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The row that a dialogue belongs to: its first word, without the letter that tells several of one row apart.
fn number(title: &str) -> &str {
    title.split(' ').next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_lowercase())
}

/// Whether what a row names is there: a dialogue with the row's number, a test, or a module of tests.
fn exists(row: &Row, by: &str) -> bool {
    if by == "dialogue" {
        return cases().iter().any(|case| number(&case.title) == row.id);
    }
    let (module, test) = by.split_once("::").unwrap_or((by, ""));
    let path = if module.ends_with(".rs") { module.to_owned() } else { format!("tests/it/{module}.rs") };
    let text = file(&path);
    if test.is_empty() {
        text.contains("#[test]") || text.contains("#[tokio::test") || text.contains("proptest!")
    } else {
        text.contains(&format!("fn {test}("))
    }
}

fn page(rows: &[Row]) -> String {
    let mut page = "# Attacks and faults: what goes in, and what comes of it\n\n\
        Written from `tests/it/catalogue.toml`, which a test holds to what exists. `dialogue` means the numbered cases of\n\
        `tests/it/dialogues`, played whole, octet by octet and at random, over clear text, STARTTLS and implicit TLS. What is not shown\n\
        stands last.\n"
        .to_owned();
    for (group, _, title) in GROUPS {
        let _ = write!(
            page,
            "\n## {title}\n\n| id | what | result | shown by | not shown |\n|---|---|---|---|---|\n"
        );
        for row in rows.iter().filter(|row| row.id.starts_with(group)) {
            let by: Vec<_> = row.by.iter().map(|by| format!("`{by}`")).collect();
            let (by, left) = (by.join(", "), row.left.as_deref().unwrap_or_default());
            let _ = writeln!(page, "| {} | {} | {} | {by} | {left} |", row.id, row.what, row.result);
        }
    }
    page
}

#[test]
fn every_row_of_the_catalogue_is_there_and_what_shows_it_exists() {
    let rows = rows();
    let expected: Vec<String> = GROUPS
        .iter()
        .flat_map(|(group, count, _)| (1..=*count).map(move |number| format!("{group}{number}")))
        .collect();
    assert_eq!(rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>(), expected);
    for row in &rows {
        assert!(row.what.len() > 3, "{}: says nothing", row.id);
        assert!(
            !row.by.is_empty() || row.left.is_some(),
            "{}: shown by nothing, without a word on it",
            row.id
        );
        assert!(row.by.is_empty() || !row.result.is_empty(), "{}: no result", row.id);
        for by in &row.by {
            assert!(exists(row, by), "{}: there is no {by}", row.id);
        }
    }
}

#[test]
fn a_dialogue_with_a_number_is_in_the_catalogue() {
    let rows = rows();
    for case in cases() {
        let number = number(&case.title);
        let Some(row) = rows.iter().find(|row| row.id == number) else { continue };
        assert!(row.by.iter().any(|by| by == "dialogue"), "{number}: its dialogue is not named");
    }
}

#[test]
fn the_page_of_faults_is_the_catalogue() {
    let page = page(&rows());
    if std::env::var_os("WAXSEAL_WRITE_PAGES").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md"), &page).unwrap();
    }
    assert_eq!(file("docs/faults.md"), page, "WAXSEAL_WRITE_PAGES=1 writes it");
}
