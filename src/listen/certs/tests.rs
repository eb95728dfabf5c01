//! Pairs are read, chosen and replaced; a bad one changes nothing.

use std::path::PathBuf;

use super::*;

fn pair(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

#[test]
fn a_mismatched_pair_is_refused_and_the_old_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = pair(dir.path(), "a.test");
    let (_, other) = pair(dir.path(), "b.test");
    let mut tls = Tls { certificate, key, more: Vec::new() };
    let certificates = Certificates::load(&tls).unwrap();
    let before = certificates.pairs.load_full();
    tls.key = other;
    let error = certificates.reload(&tls).unwrap_err().to_string();
    assert!(error.contains("b.test.key") && error.contains("not a key for"), "{error}");
    assert!(Arc::ptr_eq(&before, &certificates.pairs.load_full()));
}

#[test]
fn a_pair_is_known_by_the_names_in_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = pair(dir.path(), "a.test");
    let tls = Tls { certificate, key, more: vec![pair(dir.path(), "b.test")] };
    let pairs = read_all(&tls).unwrap();
    let name = |text: &str| ServerName::try_from(text.to_owned()).unwrap();
    assert!(bears(&pairs[1], &name("b.test")));
    assert!(!bears(&pairs[0], &name("b.test")));
}

#[test]
fn a_file_without_a_certificate_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_, key) = pair(dir.path(), "a.test");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let error = Certificates::load(&Tls { certificate: empty, key, more: Vec::new() }).unwrap_err();
    assert!(error.to_string().contains("empty.pem"));
}
