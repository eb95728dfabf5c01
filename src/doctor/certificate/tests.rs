//! Certificates of every sort that administrators put in place, made here.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ED25519, date_time_ymd,
};

use super::*;
use crate::seal::judge::Level;

/// 2026-06-01.
const NOW: Time = Time(1_780_272_000_000);

/// An authority, an intermediate below it, and files.
struct House {
    dir: tempfile::TempDir,
    root: CertifiedIssuer<'static, KeyPair>,
    between: CertifiedIssuer<'static, KeyPair>,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = lasting(CertificateParams::new(Vec::new()).unwrap(), 2027, 1);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Until the first of this month.
fn lasting(mut params: CertificateParams, year: i32, month: u8) -> CertificateParams {
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(year, month, 1);
    params
}

fn for_relay() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["relay.acme.com".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "the relay");
    lasting(params, 2026, 9)
}

impl House {
    fn new() -> Self {
        let root = CertifiedIssuer::self_signed(authority("Root"), KeyPair::generate().unwrap()).unwrap();
        let between =
            CertifiedIssuer::signed_by(authority("Between"), KeyPair::generate().unwrap(), &root).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), root, between }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        Arc::new(roots)
    }

    fn file(&self, pems: &[String]) -> PathBuf {
        let path = self.dir.path().join("relay.pem");
        std::fs::write(&path, pems.concat()).unwrap();
        path
    }

    /// A leaf below the intermediate.
    fn leaf(&self, params: &CertificateParams, key: &KeyPair) -> String {
        params.signed_by(key, &self.between).unwrap().pem()
    }

    fn look(&self, pems: &[String]) -> Finding {
        of_file(&self.file(pems), &self.roots(), NOW)
    }
}

#[test]
fn each_sort_of_certificate_is_known_for_what_it_is() {
    let house = House::new();
    let key = KeyPair::generate().unwrap();
    let between = house.between.pem();
    let good = house.leaf(&for_relay(), &key);
    let selfmade = for_relay().self_signed(&key).unwrap().pem();
    let other = CertifiedIssuer::self_signed(authority("Other"), KeyPair::generate().unwrap()).unwrap();
    let foreign = for_relay().signed_by(&key, &other).unwrap().pem();
    let expired = house.leaf(&lasting(for_relay(), 2026, 5), &key);
    let ending = house.leaf(&lasting(for_relay(), 2026, 6), &key);
    let mut soon = for_relay();
    soon.not_after = date_time_ymd(2026, 6, 15);
    let soon = house.leaf(&soon, &key);
    let mut early = for_relay();
    early.not_before = date_time_ymd(2026, 7, 1);
    let early = house.leaf(&early, &key);
    let odd = house.leaf(&for_relay(), &KeyPair::generate_for(&PKCS_ED25519).unwrap());
    let rows: [(&[String], Level, &str, &str); 10] = [
        (&[good.clone(), between.clone()], Level::Ok, "for relay.acme.com, vouched for", "as it should be"),
        (
            &[good],
            Level::Error,
            "the certificate of CN=Between is missing",
            "cert.pem in place of fullchain.pem",
        ),
        (&[selfmade], Level::Error, "signed by itself", "what init made"),
        (
            &[foreign, other.pem()],
            Level::Error,
            "an authority that the system does not know",
            "a house's own",
        ),
        (&[expired, between.clone()], Level::Error, "ended 2026-05-01", "nobody renewed it"),
        (&[ending, between.clone()], Level::Warning, "in 0 days", "the last second counts"),
        (
            &[soon, between.clone()],
            Level::Warning,
            "ends 2026-06-15, in 14 days",
            "renewal has failed, it seems",
        ),
        (&[early, between.clone()], Level::Error, "begins only 2026-07-01", "or the clock is wrong"),
        (&[odd, between], Level::Warning, "neither RSA nor on P-256", "Ed25519"),
        (&["no PEM\n".to_owned()], Level::Error, "no certificate in it", "another file"),
    ];
    for (pems, level, says, why) in rows {
        let found = house.look(pems);
        assert_eq!(found.level, level, "{why}: {found:?}");
        assert!(found.says.contains(says), "{why}: {}", found.says);
        assert_eq!(found.fix.is_empty(), level == Level::Ok, "{why}: whatever is not good says what to do");
    }
}

#[test]
fn a_certificate_for_another_name_is_told_with_its_names() {
    let house = House::new();
    let file = house.file(&[house.leaf(&for_relay(), &KeyPair::generate().unwrap())]);
    let rows = [("relay.acme.com", Level::Ok), ("smtp.acme.com", Level::Warning)];
    for (hostname, level) in rows {
        let found = named(&[&file], &hostname.parse().unwrap()).unwrap();
        assert_eq!(found.level, level, "{found:?}");
        assert!(found.says.contains("relay.acme.com"), "{}", found.says);
    }
}
