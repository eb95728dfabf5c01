//! What is loaded, what is refused, which key signs.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::mail::secret::ExposeSecret;
use crate::seal::keys::{Kind, generate};

struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, pem: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn make(&self, name: &str, kind: Kind) {
        self.put(name, generate(kind).unwrap().pem.expose_secret(), 0o600);
    }

    fn load(&self) -> Result<Keyring, KeyError> {
        Keyring::load(self.0.path())
    }
}

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn sign(ring: &Keyring, message: &str) -> String {
    let fields =
        ring.sign(&domain("acme.example"), message.as_bytes(), Time(1_000_000), Duration::from_secs(60));
    String::from_utf8(fields.unwrap()).unwrap()
}

/// Keys as OpenSSL writes them, which is how administrators bring them; `None` where there is no openssl.
fn openssl(arguments: &[&str]) -> Option<String> {
    let out = Command::new("openssl").args(arguments).output().ok()?;
    out.status.success().then(|| String::from_utf8(out.stdout).unwrap())
}

#[test]
fn a_key_others_may_read_is_refused_with_the_command_that_helps() {
    let keys = Keys::new();
    keys.put("acme.example/a.pem", generate(Kind::Ed25519).unwrap().pem.expose_secret(), 0o640);
    let error = keys.load().unwrap_err().to_string();
    assert!(error.contains("0640") && error.contains("chmod 600"), "{error}");
}

#[test]
fn what_is_no_key_is_an_error_and_not_an_unsigned_domain() {
    for (name, pem, why) in [
        ("acme.example/a.pem", "", "an empty file"),
        (
            "acme.example/a.pem",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "a torn key",
        ),
        ("acme.example/a b.pem", "", "no selector"),
        ("not a domain/a.pem", "", "no domain"),
    ] {
        let keys = Keys::new();
        keys.put(name, pem, 0o600);
        assert!(keys.load().is_err(), "{why}");
    }
}

#[test]
fn without_a_key_nothing_is_signed() {
    let ring = Keys::new().load().unwrap();
    let refused =
        ring.sign(&domain("acme.example"), b"From: a@acme.example\r\n\r\n", Time(0), Duration::ZERO);
    assert!(matches!(refused, Err(SealError::NoKey(_))));
}

#[test]
fn of_two_rsa_keys_the_first_selector_signs_and_ed25519_signs_beside_it() {
    let keys = Keys::new();
    keys.make("acme.example/wx10.pem", Kind::Rsa2048);
    keys.make("acme.example/wx9.pem", Kind::Rsa2048);
    keys.make("acme.example/ed.pem", Kind::Ed25519);
    let fields = sign(&keys.load().unwrap(), "From: a@acme.example\r\n\r\nhi\r\n");
    assert_eq!(fields.matches("DKIM-Signature:").count(), 2);
    assert!(fields.contains("a=rsa-sha256; s=wx9; d=acme.example; c=relaxed/relaxed;"), "{fields}");
    assert!(fields.contains("a=ed25519-sha256; s=ed;"), "{fields}");
}

#[test]
fn a_signature_oversigns_expires_and_has_no_length() {
    let keys = Keys::new();
    keys.make("acme.example/a.pem", Kind::Rsa2048);
    let message = "From: a@acme.example\r\nList-Unsubscribe: <https://x.example>\r\n\
                   List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nhi\r\n";
    let fields = sign(&keys.load().unwrap(), message).replace("\r\n\t", "");
    let tag = |name: &str| {
        fields.split(';').find_map(|tag| tag.trim().strip_prefix(name)).unwrap_or_default().to_owned()
    };
    let names = tag("h=").to_lowercase();
    assert!(names.starts_with("from:from:to:cc:subject:date:"), "{names}");
    assert!(names.ends_with("list-unsubscribe:list-unsubscribe-post"), "{names}");
    assert_eq!((tag("t=").as_str(), tag("x=").as_str(), tag("l=").as_str()), ("1000", "1060", ""));
}

#[test]
fn keys_from_openssl_are_read_in_each_form_they_come_in() {
    let pkcs1 = ["genrsa", "-traditional", "2048"];
    let Some(rsa) = openssl(&pkcs1) else { return };
    let ed25519 = openssl(&["genpkey", "-algorithm", "ed25519"]).unwrap();
    let keys = Keys::new();
    assert!(rsa.contains("BEGIN RSA PRIVATE KEY"));
    let path = keys.put("acme.example/a.pem", &rsa, 0o600);
    keys.put("acme.example/b.pem", &ed25519, 0o600);
    let ring = keys.load().unwrap();
    assert_eq!(sign(&ring, "From: a@acme.example\r\n\r\n").matches("DKIM-Signature:").count(), 2);
    let public = openssl(&["rsa", "-in", path.to_str().unwrap(), "-pubout"]).unwrap();
    let published = public.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let key = &ring.keys(&domain("acme.example"))[0];
    assert_eq!(key.public.record(), format!("v=DKIM1; k=rsa; p={published}"));
}

#[test]
fn rsa_below_2048_bits_warns_and_below_1024_is_refused() {
    let Some(small) = openssl(&["genrsa", "1024"]) else { return };
    let keys = Keys::new();
    keys.put("acme.example/a.pem", &small, 0o600);
    let ring = keys.load().unwrap();
    assert!(ring.warnings()[0].contains("1024 bits"), "{:?}", ring.warnings());
    assert!(sign(&ring, "From: a@acme.example\r\n\r\n").contains("a=rsa-sha256"));
    for bits in ["512", "1016"] {
        keys.put("acme.example/a.pem", &openssl(&["genrsa", bits]).unwrap(), 0o600);
        let error = keys.load().unwrap_err().to_string();
        assert!(error.contains(bits) && error.contains("key generate"), "{error}");
    }
    let curve = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    keys.put("acme.example/a.pem", &openssl(&curve).unwrap(), 0o600);
    assert!(keys.load().unwrap_err().to_string().contains("neither an RSA nor an Ed25519 key"));
}
