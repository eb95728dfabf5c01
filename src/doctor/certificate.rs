//! The certificates that platforms are shown: whether a client that verifies would go on. JavaMail and the platforms' own
//! tests do verify, and tell the person who presses Connect very little.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{WebPkiServerVerifier, danger::ServerCertVerifier, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, GeneralName};
use x509_parser::public_key::PublicKey;

use super::Scope;
use crate::config::ListenerTls;
use crate::mail::address::Domain;
use crate::mail::time::Time;
use crate::seal::judge::Finding;

const CHECK: &str = "certificate";
/// Days before the end from which it is worth a word: authorities' clients renew 30 days before.
const DAYS_LEFT: u64 = 21;
const DAY: u64 = 86_400;
/// What TLS clients take; a smaller RSA key is refused by many.
const RSA_BITS_MIN: usize = 2048;

pub(super) fn look(scope: &Scope) -> Vec<Finding> {
    let Some(tls) = &scope.config.tls else {
        let says = "there is no certificate: passwords and mail come in clear text";
        let fix = "set [tls] in waxseal.toml, and tls = \"starttls\" or \"implicit\" at the listeners";
        return vec![Finding::warning(CHECK, says, fix)];
    };
    let roots = match roots(scope.ca_file.as_deref()) {
        Ok(roots) => roots,
        Err(why) => return vec![Finding::error(CHECK, why, "correct --ca-file")],
    };
    let more = tls.more.iter().map(|(certificate, _)| certificate);
    let files: Vec<_> = std::iter::once(&tls.certificate).chain(more).collect();
    let mut findings: Vec<Finding> = files.iter().map(|file| of_file(file, &roots, scope.now)).collect();
    findings.extend(named(&files, &scope.config.hostname));
    if scope.config.listeners.iter().all(|listener| listener.tls == ListenerTls::None) {
        let says = "there is a certificate, but every listener says tls = \"none\"";
        findings.push(Finding::warning(
            CHECK,
            says,
            "set tls = \"starttls\" or \"implicit\" at the listeners",
        ));
    }
    findings
}

/// The system's, and those of a file.
fn roots(ca_file: Option<&Path>) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca_file {
        let more = read(file)?;
        roots.add_parsable_certificates(more);
    }
    Ok(Arc::new(roots))
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match chain {
        Ok(chain) if chain.is_empty() => Err(format!("{}: no certificate in it", file.display())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

/// One file: what a client that verifies says of it.
#[must_use]
pub fn of_file(file: &Path, roots: &Arc<RootCertStore>, now: Time) -> Finding {
    let chain = match read(file) {
        Ok(chain) => chain,
        Err(why) => {
            return Finding::error(CHECK, why, "PEM is expected: the certificate first, then who signed it");
        }
    };
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .filter_map(|der| X509Certificate::from_der(der).ok())
        .map(|(_, parsed)| parsed)
        .collect();
    let (Some((leaf, signers)), Some((parsed_leaf, parsed_signers))) =
        (chain.split_first(), parsed.split_first())
    else {
        return Finding::error(CHECK, format!("{}: not X.509", file.display()), "make a new one");
    };
    let shown = Shown { file, leaf: parsed_leaf, signers: parsed_signers, now: now.0 / 1000 };
    if let Some(finding) = shown.dates().or_else(|| shown.key()) {
        return finding;
    }
    match vouched(leaf, signers, roots, now) {
        Ok(()) => shown.good(),
        Err(why) => shown.untrusted(&why),
    }
}

/// Whether the roots vouch for it, whatever its names.
fn vouched(
    leaf: &CertificateDer<'_>,
    signers: &[CertificateDer<'_>],
    roots: &Arc<RootCertStore>,
    now: Time,
) -> Result<(), Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider)
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    let any = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    match verifier.verify_server_cert(leaf, signers, &any, &[], now) {
        // The chain is looked at first, and the names are another finding.
        Ok(_)
        | Err(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A certificate as it is shown to clients.
struct Shown<'a> {
    file: &'a Path,
    leaf: &'a X509Certificate<'a>,
    signers: &'a [X509Certificate<'a>],
    /// Seconds since the epoch.
    now: u64,
}

impl Shown<'_> {
    /// Expired, or not yet valid: the certificate, or one of those that signed it.
    fn dates(&self) -> Option<Finding> {
        let file = self.file.display();
        std::iter::once(self.leaf).chain(self.signers).find_map(|one| {
            let (from, until) = validity(one);
            let whose = one.subject().to_string();
            if until < self.now {
                let says =
                    format!("{file}: the certificate of {whose} ended {}: clients refuse it", day(until));
                return Some(Finding::error(
                    CHECK,
                    says,
                    "renew it, put it in place, and run `waxseal reload`",
                ));
            }
            if from > self.now {
                let says = format!(
                    "{file}: the certificate of {whose} begins only {}: clients refuse it",
                    day(from)
                );
                return Some(Finding::error(
                    CHECK,
                    says,
                    "put one in place that is valid; is the clock right?",
                ));
            }
            None
        })
    }

    fn key(&self) -> Option<Finding> {
        let file = self.file.display();
        let fix = "have a certificate made with an RSA key of 2048 bits or more, or with ECDSA on P-256";
        match self.leaf.public_key().parsed() {
            Ok(PublicKey::RSA(key)) if key.key_size() < RSA_BITS_MIN => {
                let says = format!("{file}: an RSA key of {} bits: clients refuse it", key.key_size());
                Some(Finding::error(CHECK, says, fix))
            }
            Ok(PublicKey::RSA(_)) => None,
            // The sizes of P-256 and P-384; others are refused by Java and by browsers' libraries.
            Ok(PublicKey::EC(point)) if matches!(point.key_size(), 256 | 384) => None,
            Ok(_) | Err(_) => {
                let says =
                    format!("{file}: a key that is neither RSA nor on P-256: many clients do not know it");
                Some(Finding::warning(CHECK, says, fix))
            }
        }
    }

    fn good(&self) -> Finding {
        let file = self.file.display();
        let (_, until) = self.soonest();
        let left = until.saturating_sub(self.now) / DAY;
        let whose = names(self.leaf).join(", ");
        if left < DAYS_LEFT {
            let says = format!("{file}: for {whose}, ends {}, in {left} days", day(until));
            return Finding::warning(CHECK, says, "renew it, put it in place, and run `waxseal reload`");
        }
        Finding::ok(CHECK, format!("{file}: for {whose}, vouched for by the roots, until {}", day(until)))
    }

    /// Of the whole chain, the validity that ends first.
    fn soonest(&self) -> (u64, u64) {
        let all = std::iter::once(self.leaf).chain(self.signers).map(validity);
        all.min_by_key(|(_, until)| *until).unwrap_or_default()
    }

    /// Why the roots do not vouch for it.
    fn untrusted(&self, why: &Error) -> Finding {
        let file = self.file.display();
        let own = |one: &X509Certificate<'_>| one.issuer() == one.subject();
        let last = self.signers.last().unwrap_or(self.leaf);
        if own(self.leaf) {
            let says = format!("{file}: signed by itself: platforms that verify refuse it");
            let fix = "put a certificate of a public authority in its place (ACME clients such as certbot get one), and run `waxseal reload`";
            return Finding::error(CHECK, says, fix);
        }
        if !matches!(why, Error::InvalidCertificate(CertificateError::UnknownIssuer)) {
            let says = format!("{file}: clients that verify refuse it: {why}");
            return Finding::error(CHECK, says, "have a new one made");
        }
        if own(last) {
            let says = format!(
                "{file}: signed by {}, an authority that the system does not know: platforms refuse it unless they do",
                last.subject()
            );
            let fix = "use a public authority; or give the platform this one's root, and --ca-file here";
            return Finding::error(CHECK, says, fix);
        }
        let says =
            format!("{file}: the chain is not complete: the certificate of {} is missing", last.issuer());
        let fix = "put the intermediate certificates into the file, below the first (ACME clients call it fullchain.pem)";
        Finding::error(CHECK, says, fix)
    }
}

/// Whether any of the certificates bears our name, which the README tells people to enter.
fn named(files: &[&std::path::PathBuf], hostname: &Domain) -> Option<Finding> {
    let name = ServerName::try_from(hostname.as_str().to_owned()).ok()?;
    let leaves: Vec<CertificateDer<'_>> =
        files.iter().filter_map(|file| read(file).ok()?.into_iter().next()).collect();
    if leaves.is_empty() {
        return None;
    }
    let bears = |leaf: &CertificateDer<'_>| {
        ParsedCertificate::try_from(leaf).is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
    };
    if leaves.iter().any(bears) {
        return Some(Finding::ok(CHECK, format!("{hostname} is among its names")));
    }
    let theirs: Vec<String> = leaves
        .iter()
        .filter_map(|leaf| X509Certificate::from_der(leaf).ok())
        .flat_map(|(_, leaf)| names(&leaf))
        .collect();
    let says = format!(
        "{hostname} is not among its names ({}): platforms that connect to it by that name refuse it",
        theirs.join(", ")
    );
    let fix = "have it made for the hostname too; or see that platforms are told one of its names";
    Some(Finding::warning(CHECK, says, fix))
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let extension = leaf.subject_alternative_name().ok().flatten();
    let general = extension.iter().flat_map(|extension| &extension.value.general_names);
    general
        .filter_map(
            |name| if let GeneralName::DNSName(name) = name { Some((*name).to_owned()) } else { None },
        )
        .collect()
}

/// From when until when, in seconds since the epoch.
fn validity(one: &X509Certificate<'_>) -> (u64, u64) {
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or_default();
    (seconds(one.validity().not_before), seconds(one.validity().not_after))
}

fn day(seconds: u64) -> String {
    Time(seconds.saturating_mul(1000)).utc().to_string().chars().take(10).collect()
}

#[cfg(test)]
mod tests;
