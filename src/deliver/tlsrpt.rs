//! TLS reports (RFC 8460): who wants them, what they say, and how they leave: by mail, sealed by the relay's identity, or by
//! HTTPS.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::{Method, Uri};
use mail_auth::report::tlsrpt::{
    DateRange, FailureDetails, Policy, PolicyDetails, PolicyType, ResultType, Summary, TlsReport,
};
use mail_parser::DateTime;

use super::Deliverer;
use super::bounce::{RELAY, Unsent};
use super::https::{Asked, HTTPS, Https};
use super::protect::Trust;
use super::tally::{Against, Count, Failure, Problem, Tally};
use crate::config::Config;
use crate::dns::Silent;
use crate::mail::address::{Address, Domain};
use crate::mail::envelope::{Envelope, Notify, Recipient};
use crate::mail::id::Id;
use crate::mail::message::{Facts, Kind, Lane, Message, Needs, TlsNeed};
use crate::mail::time::Time;
use crate::queue::store::{Accept, Destination};
use crate::seal::{self, Keyring};

/// Places that one domain's report goes to at most.
const PLACES_MAX: usize = 4;
/// Octets of an answer to a report that are read: only its status counts.
const ANSWER_MAX: usize = 16 * 1024;
/// Seconds of a day.
const DAY: u64 = 86_400;

/// Where a report goes (RFC 8460 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// By mail.
    Mail(Address),
    /// By POST.
    Web {
        /// The host.
        host: String,
        /// Its port.
        port: u16,
        /// Path and query.
        path: String,
    },
}

impl Place {
    /// As the log names it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Mail(address) => format!("mailto:{address}"),
            Self::Web { host, port, path } => format!("https://{host}:{port}{path}"),
        }
    }
}

/// The places in the record at `_smtp._tls.`; none: the domain wants no reports. Of records that claim to be one there must be
/// exactly one (section 3).
#[must_use]
pub fn places(records: &[String]) -> Vec<Place> {
    let mut claims = records.iter().filter_map(|record| {
        let rest = record.strip_prefix("v=TLSRPTv1")?.trim_start_matches([' ', '\t']);
        rest.strip_prefix(';')
    });
    let (Some(fields), None) = (claims.next(), claims.next()) else { return Vec::new() };
    let mut fields = fields.split(';').filter_map(|field| field.split_once('='));
    let Some((_, listed)) = fields.find(|(key, _)| key.trim() == "rua") else { return Vec::new() };
    listed.split(',').filter_map(|place| read(place.trim())).take(PLACES_MAX).collect()
}

fn read(place: &str) -> Option<Place> {
    let (scheme, rest) = place.split_once(':')?;
    if scheme.eq_ignore_ascii_case("mailto") {
        return Some(Place::Mail(unescaped(rest.split('?').next()?)?.parse().ok()?));
    }
    let uri: Uri = place.parse().ok()?;
    // A name: what stands in a certificate, and what DNS answers for.
    let host: Domain = uri.host().filter(|host| host.parse::<IpAddr>().is_err())?.parse().ok()?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let web = Place::Web { host: host.to_string(), port: uri.port_u16().unwrap_or(HTTPS), path };
    scheme.eq_ignore_ascii_case("https").then_some(web)
}

/// RFC 6068 section 2: what an address may hold and a URI may not stands there in percent.
fn unescaped(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut octets = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        octets.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(octets).ok()
}

/// A report of one domain's day.
#[must_use]
pub fn report(tally: &Tally, config: &Config) -> TlsReport {
    let seconds = |day: u64| i64::try_from(day.saturating_mul(DAY)).unwrap_or(i64::MAX);
    TlsReport {
        organization_name: Some(config.relay.domain.to_string()),
        date_range: DateRange {
            start_datetime: DateTime::from_timestamp(seconds(tally.day)),
            end_datetime: DateTime::from_timestamp(seconds(tally.day.saturating_add(1)) - 1),
        },
        contact_info: Some(format!("postmaster@{}", config.relay.domain)),
        report_id: format!("{}-{}@{}", tally.day, tally.domain, config.hostname),
        policies: tally.counts.iter().map(|(against, count)| policy(tally, *against, count)).collect(),
    }
}

fn policy(tally: &Tally, against: Against, count: &Count) -> Policy {
    let policy_type = match against {
        Against::Tlsa => PolicyType::Tlsa,
        Against::Sts => PolicyType::Sts,
        Against::Nothing => PolicyType::NoPolicyFound,
    };
    Policy {
        policy: PolicyDetails {
            policy_type,
            policy_string: count.policy.clone(),
            policy_domain: tally.domain.to_string(),
            mx_host: count.exchangers.clone(),
        },
        summary: Summary { total_success: count.good, total_failure: count.bad() },
        failure_details: count.failures.iter().map(details).collect(),
    }
}

fn details(failure: &Failure) -> FailureDetails {
    let result_type = match failure.problem {
        Problem::NotSupported => ResultType::StartTlsNotSupported,
        Problem::OtherName => ResultType::CertificateHostMismatch,
        Problem::Expired => ResultType::CertificateExpired,
        Problem::NotTrusted => ResultType::CertificateNotTrusted,
        Problem::Failed => ResultType::ValidationFailure,
        Problem::Tlsa => ResultType::TlsaInvalid,
        Problem::Dnssec => ResultType::DnssecInvalid,
        Problem::StsFetch => ResultType::StsPolicyFetchError,
        Problem::StsInvalid => ResultType::StsPolicyInvalid,
        Problem::StsCertificate => ResultType::StsWebpkiInvalid,
    };
    FailureDetails {
        result_type,
        receiving_mx_hostname: failure.host.clone(),
        receiving_ip: failure.ip,
        failed_session_count: failure.count,
        ..FailureDetails::default()
    }
}

/// The report as a mail, sealed with the relay's key and ready for the queue. It leaves whatever the domain's policies say
/// (section 5.3: `TLS-Required: No`), and is not counted itself.
///
/// # Errors
/// It cannot be sealed.
pub fn mail(
    config: &Config,
    keyring: &Keyring,
    (tally, report): (&Tally, &TlsReport),
    to: &Address,
    (id, now): (Id, Time),
) -> Result<Accept, Unsent> {
    let relay = &config.relay.domain;
    let (from, named) = (format!("postmaster@{relay}"), to.to_string());
    let mut plain = b"TLS-Required: No\r\n".to_vec();
    let domain = tally.domain.as_str();
    // Writing to memory cannot fail.
    let _ =
        report.write_rfc5322(domain, relay.as_str(), from.as_str(), [named.as_str()].into_iter(), &mut plain);
    let mut body = keyring.sign(relay, &plain, now, seal::life(config))?;
    body.extend_from_slice(&plain);
    let facts = facts(config, to, (id, now), body.len());
    let legs = vec![(Destination(to.domain().as_str().into()), vec![0])];
    let message = Arc::new(Message { facts, body: body.into() });
    Ok(Accept { message, legs, held: None, tells: Vec::new() })
}

fn facts(config: &Config, to: &Address, (id, now): (Id, Time), size: usize) -> Facts {
    let never = Notify { success: false, failure: false, delay: false, stated: true };
    Facts {
        id,
        tenant: RELAY.into(),
        login: None,
        header_from: format!("postmaster@{}", config.relay.domain).parse().ok(),
        class: None,
        lane: Lane::Bulk,
        kind: Kind::Notification,
        envelope: Envelope {
            from: None,
            rcpts: vec![Recipient { address: to.clone(), orcpt: None, notify: never }],
            ret: None,
            envid: None,
        },
        received: now,
        // A report that is a day late tells nobody anything new.
        expires: now.after(Duration::from_secs(DAY)),
        return_path: None,
        unsealed: None,
        needs: Needs { tls: TlsNeed::Waived, ..Needs::default() },
        asked: crate::mail::message::Asked::default(),
        priority: crate::mail::priority::Priority::default(),
        deliver_by: None,
        size: u64::try_from(size).unwrap_or(u64::MAX),
    }
}

/// The report's JSON, compressed (section 5.1).
///
/// # Errors
/// None in practice: it is written to memory.
fn compressed(report: &TlsReport) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(report.to_json().as_bytes())?;
    Ok(encoder.finish()?.into())
}

impl Deliverer {
    /// Where a domain wants its reports.
    ///
    /// # Errors
    /// DNS did not say.
    pub async fn report_places(&self, domain: &Domain) -> Result<Vec<Place>, Silent> {
        let text = self.resolver.text(&format!("_smtp._tls.{domain}")).await?;
        Ok(places(&text.value.records))
    }

    /// Hands a report in by HTTPS (section 5.4: a 2xx is success).
    ///
    /// # Errors
    /// Why not.
    pub async fn post_report(&self, report: &TlsReport, place: (&str, u16, &str)) -> Result<(), String> {
        let settings = self.settings.load_full();
        let https = Https { resolver: &self.resolver, settings: &settings, metrics: &self.metrics };
        let (host, port, path) = place;
        let body = compressed(report).map_err(|error| error.to_string())?;
        let asked = Asked {
            method: Method::POST,
            host,
            port,
            path,
            accept: "*/*",
            body: Some(("application/tlsrpt+gzip", body)),
            most: ANSWER_MAX,
            trust: &Trust::Verified(None),
        };
        let answered = Box::pin(https.ask(asked)).await.map_err(|why| why.to_string())?;
        if (200..300).contains(&answered.status) {
            Ok(())
        } else {
            Err(format!("it answers {}", answered.status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_reports() {
        let one = |text: &str| vec![text.to_owned()];
        let mail = |to: &str| Place::Mail(to.parse().unwrap());
        let web = |port, path: &str| Place::Web { host: "r.test".to_owned(), port, path: path.to_owned() };
        let rows = [
            (one("v=TLSRPTv1; rua=mailto:tls@b.test"), vec![mail("tls@b.test")], "by mail"),
            (one("v=TLSRPTv1; rua=mailto:tls%2Brpt@b.test"), vec![mail("tls+rpt@b.test")], "in percent"),
            (
                one("v=TLSRPTv1; rua=mailto:tls%2@b.test, mailto:%0D%0A@b.test"),
                vec![],
                "neither is an address",
            ),
            (one("v=TLSRPTv1;rua=https://r.test/v1/tls"), vec![web(443, "/v1/tls")], "by HTTPS"),
            (
                one("v=TLSRPTv1; rua=mailto:a@b.test, https://r.test:8443/x?y=1"),
                vec![mail("a@b.test"), web(8443, "/x?y=1")],
                "both",
            ),
            (one("v=TLSRPTv1; rua=http://r.test/"), vec![], "clear text is no way"),
            (one("v=TLSRPTv1; rua=https://127.0.0.1/"), vec![], "a host has a name"),
            (one("v=TLSRPTv1; rua=ftp://r.test/, mailto:@"), vec![], "neither is a place"),
            (one("v=TLSRPTv1"), vec![], "no place"),
            (one("v=TLSRPTv2; rua=mailto:a@b.test"), vec![], "another version"),
            (
                vec![
                    "v=TLSRPTv1; rua=mailto:a@b.test".to_owned(),
                    "v=TLSRPTv1; rua=mailto:c@b.test".to_owned(),
                ],
                vec![],
                "two records",
            ),
        ];
        for (records, expected, why) in rows {
            assert_eq!(places(&records), expected, "{why}");
        }
        let many = format!("v=TLSRPTv1; rua={}", ["mailto:a@b.test"; 9].join(","));
        assert_eq!(places(&[many]).len(), PLACES_MAX, "bounded");
    }
}
