//! Blocklists, asked only where the operator names one: each has its own rules on who may ask, and how often.

use std::net::IpAddr;

use hickory_resolver::proto::rr::Name;

use crate::dns::{Failure, Resolver};
use crate::mail::address::Domain;
use crate::seal::judge::Finding;

const CHECK: &str = "blocklist";

/// RFC 5782 section 2.1: the address reversed, below the list's name; listed if there is an A record.
pub(super) async fn look(resolver: Resolver, zone: Domain, address: IpAddr) -> Vec<Finding> {
    let answer = match question(address, &zone) {
        Some(question) => resolver.addresses(&question).await,
        None => Err(Failure::NoSuchName),
    };
    vec![judge(&zone, address, &answer)]
}

/// What the answer means.
#[must_use]
pub fn judge(zone: &Domain, address: IpAddr, answer: &Result<Vec<IpAddr>, Failure>) -> Finding {
    let codes = match answer {
        Err(Failure::NoSuchName | Failure::NoRecords) => {
            return Finding::ok(CHECK, format!("{address} is not on {zone}"));
        }
        Err(Failure::Transient(why)) => {
            let says = format!("{zone} did not answer about {address}: {why}");
            return Finding::warning(CHECK, says, "look again later");
        }
        Ok(codes) => codes,
    };
    let shown: Vec<String> = codes.iter().map(ToString::to_string).collect();
    let shown = shown.join(", ");
    // RFC 5782 section 2.1 puts answers into 127.0.0.0/8; Spamhaus and others refuse to answer with 127.255.255.0/24.
    let refuses =
        |code: &IpAddr| matches!(code, IpAddr::V4(four) if four.octets().starts_with(&[127, 255, 255]));
    let answers = |code: &IpAddr| matches!(code, IpAddr::V4(four) if four.is_loopback()) && !refuses(code);
    if codes.iter().any(answers) {
        let says = format!("{address} is on {zone} ({shown}): receivers that use the list refuse its mail");
        let fix = format!("find out what it sent, stop it, and ask for removal at the web site of {zone}");
        return Finding::error(CHECK, says, fix);
    }
    let says = format!("{zone} does not tell us about {address} ({shown})");
    let fix =
        "ask through a resolver of your own: lists refuse the large public ones; and check the list's name";
    Finding::warning(CHECK, says, fix)
}

/// The same name as in the reverse zone, with the list's in place of `in-addr.arpa` or `ip6.arpa` (RFC 5782 section 2.4).
fn question(address: IpAddr, zone: &Domain) -> Option<String> {
    let reverse = Name::from(address).to_ascii();
    let plain = reverse.trim_end_matches('.');
    let labels = plain.strip_suffix(".in-addr.arpa").or_else(|| plain.strip_suffix(".ip6.arpa"))?;
    Some(format!("{labels}.{zone}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_the_reversed_address_below_the_list() {
        let zone = "zen.lists.example".parse().unwrap();
        let rows = [
            ("192.0.2.99", "99.2.0.192.zen.lists.example", "RFC 5782 section 2.1"),
            (
                "2001:db8::1",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen.lists.example",
                "section 2.4",
            ),
        ];
        for (address, expected, why) in rows {
            assert_eq!(question(address.parse().unwrap(), &zone).as_deref(), Some(expected), "{why}");
        }
    }

    #[test]
    fn only_an_answer_that_means_listed_is_an_error() {
        use crate::seal::judge::Level;
        let answer = |text: &str| Ok(vec![text.parse().unwrap()]);
        let rows = [
            (Err(Failure::NoSuchName), Level::Ok, "not listed"),
            (answer("127.0.0.2"), Level::Error, "listed"),
            (answer("127.255.255.254"), Level::Warning, "Spamhaus: asked through a public resolver"),
            (answer("203.0.113.1"), Level::Warning, "a parked domain answers everything"),
            (Err(Failure::Transient("timeout".into())), Level::Warning, "silence decides nothing"),
        ];
        for (answer, level, why) in rows {
            let zone = "zen.lists.example".parse().unwrap();
            assert_eq!(judge(&zone, "192.0.2.99".parse().unwrap(), &answer).level, level, "{why}");
        }
    }
}
