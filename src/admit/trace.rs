//! Trace fields: the one we add, and those that show a loop (RFC 5321 sections 4.4 and 6.3).

use std::net::IpAddr;

use jiff::Timestamp;

use super::refusal::Refusal;
use super::{Client, Submission};
use crate::config::Config;
use crate::mail::address::{DOMAIN_MAX, Domain};
use crate::mail::header::{Field, Headers};
use crate::mail::id::Id;
use crate::mail::reply::Enhanced;
use crate::mail::time::Time;

/// How often a message may have passed this relay already: a platform may forward what it got through us, but not for ever.
const OWN_HOPS_MAX: usize = 4;
/// RFC 3463 section 3.5: routing loop detected.
const LOOP: Enhanced = Enhanced(5, 4, 6);

/// Where and when a message was taken.
pub(super) struct Stamp<'a> {
    pub(super) hostname: &'a Domain,
    pub(super) id: Id,
    pub(super) now: Time,
}

/// Refuses a message that has been going round.
pub(super) fn count_hops(headers: &Headers<'_>, config: &Config) -> Result<(), Refusal> {
    let hops = headers.all("Received").count();
    let ours = headers.all("Received").filter(|field| is_ours(field, &config.hostname)).count();
    if hops <= config.limits.hops && ours <= OWN_HOPS_MAX {
        return Ok(());
    }
    let text = format!(
        "the message has passed {hops} servers, this one {ours} times: it goes in a circle. Look where it is forwarded"
    );
    Err(Refusal::new("hops", 554, LOOP, text))
}

fn is_ours(field: &Field<'_>, hostname: &Domain) -> bool {
    let value = field.value();
    let mut words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let by = words.find(|word| word.eq_ignore_ascii_case(b"by")).and_then(|_| words.next());
    by.is_some_and(|name| name.eq_ignore_ascii_case(hostname.as_str().as_bytes()))
}

/// Our own `Received:`, well formed whatever the client said. It names no recipient (a blind copy would show) and no login.
pub(super) fn received(submission: &Submission, stamp: &Stamp<'_>, utf8: bool) -> String {
    let Client { ip, helo, login, tls } = &submission.client;
    let literal = match ip.to_canonical() {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    };
    // RFC 3848, and RFC 6531 section 4.3 for mail that needs SMTPUTF8.
    let with = match (utf8, tls.is_some(), login.is_some()) {
        (false, false, false) => "ESMTP",
        (false, false, true) => "ESMTPA",
        (false, true, false) => "ESMTPS",
        (false, true, true) => "ESMTPSA",
        (true, false, false) => "UTF8SMTP",
        (true, false, true) => "UTF8SMTPA",
        (true, true, false) => "UTF8SMTPS",
        (true, true, true) => "UTF8SMTPSA",
    };
    let Stamp { hostname, id, now } = stamp;
    let (name, date) = (host_like(helo), date(*now));
    // RFC 6710 sections 4.1 and 7: what MAIL said, not what its class has.
    let asked = submission.priority.map(|priority| format!("\r\n\tPRIORITY {priority}")).unwrap_or_default();
    format!(
        "Received: from {name} ({literal})\r\n\tby {hostname} with {with} id {id}{asked};\r\n\t{date}\r\n"
    )
}

/// What a client called itself, if it can stand in a header as it is.
fn host_like(helo: &str) -> &str {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b".-_:[]".contains(&octet);
    let fit = !helo.is_empty() && helo.len() <= DOMAIN_MAX && helo.bytes().all(plain);
    if fit { helo } else { "unknown" }
}

/// RFC 5322 section 3.3, in UTC.
pub(super) fn date(time: Time) -> String {
    let at =
        i64::try_from(time.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}
