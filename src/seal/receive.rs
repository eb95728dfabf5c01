//! What a receiver computes of a message that came to it: SPF, every DKIM signature, and what DMARC makes of both. The
//! sandbox's exchanger, a probe that comes back and the look at a platform's own signatures ask this.

use std::net::IpAddr;

use mail_auth::common::crypto::Algorithm;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{AuthenticatedMessage, DkimOutput, DkimResult, DmarcResult, MessageAuthenticator, SpfResult};
use serde::{Deserialize, Serialize};

use crate::dns::Resolver;

/// Signatures of a message that are looked at as it comes: each costs a lookup (DK8 of the fault catalogue).
pub const SIGNATURES: usize = 10;
/// The same as it leaves, ours among them.
const SIGNATURES_MAX: usize = 2 * SIGNATURES;
/// Octets of one of them. Real ones have under 1,500; reading the names that it covers takes time by the square of their number.
const SIGNATURE_MAX: usize = 8 * 1024;

/// How a message came.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// Who brought it.
    pub peer: IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// The reverse-path; empty for `<>`.
    pub from: &'a str,
    /// The receiver's own name.
    pub host: &'a str,
}

/// What a receiver finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `pass`, `fail`, `softfail`, `neutral`, `none`, `temperror`, `permerror` (RFC 8601 section 2.7.2).
    pub spf: String,
    /// The best of all signatures: `pass`, `fail`, `none`, `temperror`, `permerror`.
    pub dkim: String,
    /// Whether a passing identity is aligned with the From domain.
    pub dmarc: String,
}

/// One signature, verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// `d=`; empty where the field could not be read.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// `a=`.
    pub algorithm: String,
    /// As in `Verdict::dkim`.
    pub result: String,
    /// Why it does not pass; empty where it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Verdict {
    /// Whether all three pass.
    #[must_use]
    pub fn passes(&self) -> bool {
        [&self.spf, &self.dkim, &self.dmarc].iter().all(|result| *result == "pass")
    }
}

/// What verifies, asking this resolver.
#[must_use]
pub fn verifier(resolver: &Resolver) -> MessageAuthenticator {
    MessageAuthenticator(resolver.hickory().clone())
}

/// SPF of the reverse-path (of EHLO for `<>`), every signature, and DMARC.
pub async fn verify(
    verifier: &MessageAuthenticator,
    message: &[u8],
    hop: Hop<'_>,
) -> (Verdict, Vec<Signature>) {
    let Some(parsed) = parse(message, usize::MAX) else {
        let verdict = Verdict { spf: "none".into(), dkim: "permerror".into(), dmarc: "permerror".into() };
        return (verdict, Vec::new());
    };
    let dkim = verifier.verify_dkim(&parsed).await;
    let parameters = if hop.from.is_empty() {
        SpfParameters::verify_ehlo(hop.peer, hop.helo, hop.host)
    } else {
        SpfParameters::verify_mail_from(hop.peer, hop.helo, hop.host, hop.from)
    };
    let spf = verifier.verify_spf(parameters).await;
    let domain = hop.from.rsplit_once('@').map_or(hop.helo, |(_, domain)| domain);
    let dmarc = verifier.verify_dmarc(DmarcParameters::new(&parsed, &dkim, domain, &spf)).await;
    let aligned = [dmarc.dkim_result(), dmarc.spf_result()];
    let verdict = Verdict {
        spf: spf_word(spf.result()).into(),
        dkim: best(dkim.iter().map(DkimOutput::result)).into(),
        dmarc: dmarc_word(&aligned).into(),
    };
    (verdict, dkim.iter().map(signature).collect())
}

/// The signatures alone; of a message with more than `SIGNATURES_MAX`, none.
pub async fn signatures(verifier: &MessageAuthenticator, message: &[u8]) -> Vec<Signature> {
    let Some(parsed) = parse(message, SIGNATURES_MAX) else { return Vec::new() };
    verifier.verify_dkim(&parsed).await.iter().map(signature).collect()
}

/// `None`: it cannot be read, or has more signatures, or larger ones, than are verified.
fn parse(message: &[u8], most: usize) -> Option<AuthenticatedMessage<'_>> {
    if is_bearable(message, most) { AuthenticatedMessage::parse(message) } else { None }
}

fn is_bearable(message: &[u8], most: usize) -> bool {
    let (mut count, mut octets) = (0, None);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line == b"\r\n" || line == b"\n" {
            break;
        }
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|octet| *octet == b':').next().unwrap_or_default();
            octets = name.trim_ascii_end().eq_ignore_ascii_case(b"DKIM-Signature").then_some(0);
            count += usize::from(octets.is_some());
        }
        octets = octets.map(|before| before + line.len());
        if count > most || octets.is_some_and(|octets| octets > SIGNATURE_MAX) {
            return false;
        }
    }
    true
}

fn signature(output: &DkimOutput<'_>) -> Signature {
    let (domain, selector, algorithm) = output.signature().map_or_else(Default::default, |field| {
        let algorithm = match field.a {
            Algorithm::RsaSha1 => "rsa-sha1",
            Algorithm::RsaSha256 => "rsa-sha256",
            Algorithm::Ed25519Sha256 => "ed25519-sha256",
        };
        (field.d.clone(), field.s.clone(), algorithm.to_owned())
    });
    let why = match output.result() {
        DkimResult::Pass | DkimResult::None => String::new(),
        DkimResult::Fail(error)
        | DkimResult::Neutral(error)
        | DkimResult::TempError(error)
        | DkimResult::PermError(error) => error.to_string(),
    };
    Signature { domain, selector, algorithm, result: dkim_word(output.result()).into(), why }
}

fn spf_word(result: SpfResult) -> &'static str {
    match result {
        SpfResult::Pass => "pass",
        SpfResult::Fail => "fail",
        SpfResult::SoftFail => "softfail",
        SpfResult::Neutral => "neutral",
        SpfResult::TempError => "temperror",
        SpfResult::PermError => "permerror",
        SpfResult::None => "none",
    }
}

fn dkim_word(result: &DkimResult) -> &'static str {
    match result {
        DkimResult::Pass => "pass",
        DkimResult::Fail(_) | DkimResult::Neutral(_) => "fail",
        DkimResult::TempError(_) => "temperror",
        DkimResult::PermError(_) => "permerror",
        DkimResult::None => "none",
    }
}

fn best<'a>(results: impl Iterator<Item = &'a DkimResult>) -> &'static str {
    results.map(dkim_word).min_by_key(|word| *word != "pass").unwrap_or("none")
}

fn dmarc_word(aligned: &[&DmarcResult]) -> &'static str {
    let has = |wanted: fn(&DmarcResult) -> bool| aligned.iter().any(|result| wanted(result));
    match () {
        () if has(|result| matches!(result, DmarcResult::Pass)) => "pass",
        () if has(|result| matches!(result, DmarcResult::TempError(_))) => "temperror",
        () if has(|result| matches!(result, DmarcResult::Fail(_) | DmarcResult::PermError(_))) => "fail",
        () => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bug: one signature that names 65,000 fields as covered kept a worker thread for seconds.
    #[test]
    fn what_is_verified_is_bounded() {
        let signature =
            |octets: usize| format!("Dkim-signature : v=1;\r\n\th={}\r\n", "abc:".repeat(octets / 4));
        let rows = [
            (String::new(), true, "none"),
            (signature(1000).repeat(SIGNATURES_MAX), true, "twenty"),
            (signature(10).repeat(SIGNATURES_MAX + 1), false, "twenty-one"),
            (signature(SIGNATURE_MAX), false, "a large one"),
            (format!("X-Note: {}\r\n {}\r\n", "a".repeat(9000), signature(9000)), true, "another field"),
            (format!("\r\n{}", signature(SIGNATURE_MAX)), true, "in the body"),
        ];
        for (fields, expected, why) in rows {
            let message = format!("From: a@b.test\r\n{fields}\r\nbody\r\n");
            assert_eq!(is_bearable(message.as_bytes(), SIGNATURES_MAX), expected, "{why}");
        }
    }
}
