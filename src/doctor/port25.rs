//! The way out: port 25 to a reference domain's exchanger, from every address of ours. Many clouds close it until asked.

use std::net::IpAddr;

use super::{Egress, Scope};
use crate::deliver::reach::{From, Reach, Reached, Tried, Unreached};
use crate::mail::address::Domain;
use crate::seal::judge::{Finding, Level};

const CHECK: &str = "port25";

/// From where it is tried: each source address; without any, each family that receivers see us by.
pub(super) fn ways(scope: &Scope, egress: &Egress) -> Vec<From> {
    if scope.reference.is_none() {
        return Vec::new();
    }
    let sources = &scope.config.delivery.sources;
    if !sources.is_empty() {
        return sources.iter().map(|source| From::Source(*source)).collect();
    }
    let six = egress.addresses.iter().any(IpAddr::is_ipv6);
    let four = !six || egress.addresses.iter().any(IpAddr::is_ipv4);
    four.then_some(From::AnyV4).into_iter().chain(six.then_some(From::AnyV6)).collect()
}

/// Greets the reference domain's exchanger.
pub(super) async fn look(scope: Scope, from: From) -> Vec<Finding> {
    let Some(reference) = &scope.reference else { return Vec::new() };
    let greeted = Reach::new(&scope.config, scope.resolver.clone()).greet(reference, from).await;
    let mut finding = judge(reference, from, &greeted);
    if !scope.direct && finding.level == Level::Error {
        finding.level = Level::Warning;
        finding
            .says
            .push_str("; every tenant's mail leaves through an upstream, only the relay's own does not");
    }
    vec![finding]
}

/// What it means.
#[must_use]
pub fn judge(reference: &Domain, from: From, greeted: &Result<Reached, Unreached>) -> Finding {
    let way = way(from);
    match greeted {
        Ok(Reached { host, address, tls: Tried::Works(version) }) => {
            Finding::ok(CHECK, format!("{host} ({}) greets us{way}, with STARTTLS ({version})", address.ip()))
        }
        Ok(Reached { host, tls: Tried::NotOffered, .. }) => {
            let says = format!(
                "{host} greets us{way} without STARTTLS: if {reference} offers it elsewhere, something on the way takes it out"
            );
            let fix = "look for SMTP inspection (\"fixup\", \"ESMTP inspection\") in firewalls between here and there; Gmail wants TLS";
            Finding::warning(CHECK, says, fix)
        }
        Ok(Reached { host, tls: Tried::Failed(why), .. }) => {
            let says = format!("{host} greets us{way}, but TLS fails: {why}");
            Finding::warning(
                CHECK,
                says,
                "look for something on the way that meddles with TLS; Gmail wants TLS",
            )
        }
        Err(Unreached::NoConnection(why)) => {
            let says = format!("no connection to port 25{way}: {why}");
            let fix = "many clouds and providers close port 25 outwards: ask them to open it, or give the tenants an upstream";
            Finding::error(CHECK, says, fix)
        }
        Err(Unreached::Refused(why)) => {
            let says = format!("an exchanger of {reference} answers, and does not want us{way}: {why}");
            let fix = "its words say why: often a blocklist or a missing reverse name; or somebody on the way answers in its place";
            Finding::error(CHECK, says, fix)
        }
        Err(Unreached::Nobody(why)) => {
            let says = format!("nobody could be greeted{way}: {why}");
            Finding::warning(CHECK, says, "choose another domain with --reference, or look at the resolver")
        }
    }
}

fn way(from: From) -> String {
    match from {
        From::Source(address) => format!(" from {address}"),
        From::AnyV4 => String::new(),
        From::AnyV6 => " over IPv6".to_owned(),
    }
}
