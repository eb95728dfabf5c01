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

/// `s=` of each signature, from the top, and `h=` of the first.
fn sealed(
    ring: &Keyring,
    only: Option<&[&str]>,
    signing: &Signing,
) -> Result<(Vec<String>, String), SealError> {
    let message = b"From: a@acme.example\r\nDate: now\r\nMessage-ID: <1@acme.example>\r\n\r\nhi\r\n";
    let headers = Headers::parse(message, message.len()).unwrap();
    let only: Option<Vec<String>> = only.map(|only| only.iter().map(|name| (*name).to_owned()).collect());
    let (domain, life) = (domain("acme.example"), Duration::from_secs(60));
    let order = Order { domain: &domain, only: only.as_deref(), signing, now: Time(1_000_000), life };
    let sealed = ring.seal(&order, (&headers, &message[headers.body..]))?;
    let text = String::from_utf8(sealed.fields).unwrap().replace("\r\n\t", "");
    let names = text.split(';').find_map(|tag| tag.trim().strip_prefix("h=")).unwrap_or_default();
    Ok((sealed.by.into_iter().map(|by| by.selector).collect(), names.to_lowercase()))
}

#[test]
fn the_way_of_the_mail_and_what_was_seen_say_which_keys_sign() {
    let keys = Keys::new();
    keys.make("acme.example/wx1.pem", Kind::Rsa2048);
    keys.make("acme.example/wxe1.pem", Kind::Ed25519);
    let ring = keys.load().unwrap();
    let with = |keys| Signing { keys, omit: Vec::new() };
    #[allow(clippy::type_complexity, reason = "a table")]
    let rows: &[(SignWith, Option<&[&str]>, Option<&[&str]>, &str)] = &[
        (SignWith::Both, None, Some(&["wx1", "wxe1"]), "RSA above Ed25519"),
        (SignWith::Rsa, None, Some(&["wx1"]), "an upstream that refuses two signatures"),
        (SignWith::None, None, Some(&[]), "the upstream signs"),
        (SignWith::None, Some(&[]), Some(&[]), "whatever was seen"),
        (SignWith::Both, Some(&["wxe1"]), Some(&["wxe1"]), "RSA is not published yet"),
        (SignWith::Both, Some(&["wx9"]), None, "nothing that may sign: never unsigned"),
        (SignWith::Rsa, Some(&["wxe1"]), None, "what was seen may not sign on this way"),
    ];
    for (policy, only, expected, why) in rows {
        match (sealed(&ring, *only, &with(*policy)), expected) {
            (Ok((selectors, _)), Some(expected)) => assert_eq!(selectors, *expected, "{why}"),
            (Err(SealError::NoneAllowed(_)), None) => {}
            (other, expected) => panic!("{why}: {other:?}, not {expected:?}"),
        }
    }
    let no_keys = Keys::new().load().unwrap();
    assert!(matches!(sealed(&no_keys, None, &with(SignWith::Both)), Err(SealError::NoKey(_))));
    assert!(sealed(&no_keys, None, &with(SignWith::None)).is_ok(), "who does not sign needs no key");
}

#[test]
fn what_an_upstream_writes_anew_is_not_signed_and_from_always_is() {
    let keys = Keys::new();
    keys.make("acme.example/wx1.pem", Kind::Ed25519);
    let ring = keys.load().unwrap();
    let omit = |names: &[&str]| Signing {
        keys: SignWith::Both,
        omit: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let (_, all) = sealed(&ring, None, &omit(&[])).unwrap();
    assert_eq!((all.matches("date").count(), all.matches("message-id").count()), (2, 1), "{all}");
    let (_, some) = sealed(&ring, None, &omit(&["date", "Message-ID", "from"])).unwrap();
    let names: Vec<_> = some.split(':').collect();
    assert!(!names.contains(&"date") && !names.contains(&"message-id"), "{some}");
    assert_eq!(names.iter().filter(|name| **name == "from").count(), 2, "{some}");
}

#[test]
fn while_nothing_is_active_the_first_keys_stand_in_and_rsa_does_so_alone() {
    use Stage::{Active, Pending, Ready, Retired, Retiring};
    let made = |selector: &str, rsa: bool, stage| {
        let pem = generate(Kind::Ed25519).unwrap().pem;
        let (signer, public) = keys::read(pem.expose_secret().as_bytes()).unwrap();
        let algorithm = if rsa { Algorithm::Rsa(2048) } else { Algorithm::Ed25519 };
        let public = Public { algorithm, octets: public.octets };
        Key { selector: selector.to_owned(), public, stage, since: None, replaces: None, signer }
    };
    #[allow(clippy::type_complexity, reason = "a table")]
    let rows: &[(&[(&str, bool, Stage)], &[&str], &str)] = &[
        (&[("a", true, Pending), ("b", true, Ready)], &["a"], "the first that may become active"),
        (&[("a", true, Pending), ("b", true, Active)], &["b"], "the active one"),
        (&[("a", true, Retired), ("b", true, Retiring)], &[], "those never sign again"),
        (&[("a", true, Pending), ("e", false, Pending)], &["a", "e"], "one of each kind"),
        (&[("a", true, Active), ("e", false, Ready)], &["a"], "Ed25519 waits to be seen"),
        (&[("a", true, Pending), ("e", false, Active)], &["a", "e"], "few believe Ed25519 alone"),
        (
            &[("a", true, Retired), ("b", true, Pending), ("e", false, Ready)],
            &["b", "e"],
            "past a retired one",
        ),
    ];
    for (keys, expected, why) in rows {
        let keys = keys.iter().map(|(selector, rsa, stage)| made(selector, *rsa, *stage)).collect();
        let ring = Keyring::of(domain("acme.example"), keys);
        let signs: Vec<_> = ring.signing(&domain("acme.example")).map(|key| key.selector.clone()).collect();
        assert_eq!(signs, *expected, "{why}");
    }
}
