//! The addresses that mail leaves from: each has a reverse name that leads back to it, chosen and not made up by a
//! provider, and it is the name that we greet with.

use std::fmt::Write as _;
use std::net::{IpAddr, UdpSocket};

use hickory_resolver::proto::rr::Name;

use super::{Egress, Scope};
use crate::dns::Failure;
use crate::mail::address::Domain;
use crate::seal::judge::Finding;

const PTR: &str = "ptr";
const EHLO: &str = "ehlo";
const EGRESS: &str = "egress";

/// What DNS says of one address.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The address.
    pub address: IpAddr,
    /// Its reverse names.
    pub names: Result<Vec<String>, Failure>,
    /// The addresses of each of these names.
    pub back: Vec<Result<Vec<IpAddr>, Failure>>,
    /// The addresses of our name.
    pub own: Result<Vec<IpAddr>, Failure>,
}

/// Whether we know our addresses, and whether the system would send from others.
pub(super) async fn stated(scope: Scope, egress: Egress, own: Result<Vec<IpAddr>, Failure>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !egress.stated {
        let hostname = &scope.config.hostname;
        let instead = match own {
            Ok(_) => format!("those of {hostname} are looked at instead, and SPF is unknown"),
            Err(Failure::Transient(_)) => format!("and DNS does not say those of {hostname}"),
            Err(Failure::NoSuchName | Failure::NoRecords) => {
                format!("and {hostname} has none: SPF and reverse names cannot be judged")
            }
        };
        let says = format!("the addresses that receivers see are not stated, {instead}");
        let fix = "set delivery.public_addresses in waxseal.toml to the addresses that receivers see";
        findings.push(Finding::warning(EGRESS, says, fix));
    }
    if scope.config.delivery.sources.is_empty() && scope.direct {
        findings.extend(system_v6().and_then(|chosen| unlisted(chosen, &egress)));
    }
    findings
}

/// The address that the system would send from over IPv6. Nothing is sent to find out: a UDP socket only asks the routes.
fn system_v6() -> Option<IpAddr> {
    let socket = UdpSocket::bind("[::]:0").ok()?;
    // a.root-servers.net: as good as any address of the Internet.
    socket.connect("[2001:503:ba3e::2:30]:53").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Global IPv6 addresses are what receivers see; one that nobody thought of has no reverse name and is in no SPF record.
fn unlisted(chosen: IpAddr, egress: &Egress) -> Option<Finding> {
    let IpAddr::V6(six) = chosen else { return None };
    let global = six.segments().first().is_some_and(|first| (0x2000..0x4000).contains(first));
    if !global || egress.addresses.contains(&chosen) {
        return None;
    }
    let says =
        format!("mail to hosts with IPv6 leaves from {chosen}, which is not among the addresses stated");
    let fix = "add it to delivery.public_addresses and give it a reverse name; or list only IPv4 addresses in delivery.sources";
    Some(Finding::warning(EGRESS, says, fix))
}

/// Asks DNS about one address.
pub(super) async fn look(scope: Scope, address: IpAddr, own: Result<Vec<IpAddr>, Failure>) -> Vec<Finding> {
    let names = scope.resolver.names_of(address).await;
    let mut back = Vec::new();
    for name in names.iter().flatten() {
        back.push(scope.resolver.addresses(name).await);
    }
    let hostname = scope.config.delivery.greets(address).unwrap_or(&scope.config.hostname);
    let own = if *hostname == scope.config.hostname {
        own
    } else {
        scope.resolver.addresses(hostname.as_str()).await
    };
    judge(&Seen { address, names, back, own }, hostname)
}

/// What receivers make of it.
#[must_use]
pub fn judge(seen: &Seen, hostname: &Domain) -> Vec<Finding> {
    if let Some(finding) = inside(seen.address) {
        return vec![finding];
    }
    vec![reverse(seen, hostname), greeting(seen, hostname)]
}

/// An address behind a router is not what receivers see.
fn inside(address: IpAddr) -> Option<Finding> {
    let inside = match address {
        IpAddr::V4(four) => four.is_private() || four.is_loopback() || four.is_link_local(),
        IpAddr::V6(six) => six.is_loopback() || six.is_unique_local() || six.is_unicast_link_local(),
    };
    let says = format!("{address} is an address of a network of its own: receivers see another");
    let fix = "set delivery.public_addresses in waxseal.toml to the addresses that receivers see";
    inside.then(|| Finding::warning(EGRESS, says, fix))
}

/// Gmail, Yahoo and Microsoft want a name that leads back to the address.
fn reverse(seen: &Seen, hostname: &Domain) -> Finding {
    let Seen { address, names, back, .. } = seen;
    let names = match names {
        Ok(names) => names,
        Err(Failure::Transient(why)) => {
            let says = format!("DNS did not say the reverse name of {address}: {why}");
            return Finding::warning(PTR, says, "look again later; nothing is decided by silence");
        }
        Err(Failure::NoSuchName | Failure::NoRecords) => {
            let says =
                format!("{address} has no reverse name: large receivers refuse or defer what it sends");
            return Finding::error(PTR, says, set_reverse(*address, hostname));
        }
    };
    let shown = names.join(", ");
    if !back.iter().flatten().flatten().any(|back| back == address) {
        if back.iter().any(|back| matches!(back, Err(Failure::Transient(_)))) {
            let says =
                format!("DNS did not say whether {shown}, the reverse name of {address}, leads back to it");
            return Finding::warning(PTR, says, "look again later; nothing is decided by silence");
        }
        let says =
            format!("the reverse name of {address}, {shown}, does not lead back to it: Gmail refuses that");
        let fix = format!("{}, whose address it is", set_reverse(*address, hostname));
        return Finding::error(PTR, says, fix);
    }
    if let Some(name) = names.iter().find(|name| is_generic(name, *address)) {
        let says = format!(
            "the reverse name of {address}, {name}, looks like one that a provider gives to every customer: receivers mistrust it"
        );
        return Finding::warning(PTR, says, set_reverse(*address, hostname));
    }
    Finding::ok(PTR, format!("{address} is called {shown}, and that leads back to it"))
}

fn set_reverse(address: IpAddr, hostname: &Domain) -> String {
    let whose = "have whoever gave you the address set its reverse name:";
    let record = format!("{} IN PTR {hostname}.", Name::from(address).to_ascii());
    let else_ = if address.is_ipv6() { "; or send over IPv4 only, with delivery.sources" } else { "" };
    format!("{whose} {record}{else_}")
}

/// RFC 5321 section 4.1.4: the EHLO name should lead to the address; and receivers like it to be the reverse name.
fn greeting(seen: &Seen, hostname: &Domain) -> Finding {
    let address = seen.address;
    let kind = if address.is_ipv4() { "A" } else { "AAAA" };
    let record = format!("{hostname}. IN {kind} {address}");
    match &seen.own {
        Err(Failure::Transient(why)) => {
            let says = format!("DNS did not say the addresses of {hostname}: {why}");
            return Finding::warning(EHLO, says, "look again later; nothing is decided by silence");
        }
        Err(Failure::NoSuchName | Failure::NoRecords) => {
            let says =
                format!("{hostname}, the name in EHLO, has no address: many receivers refuse the greeting");
            return Finding::error(EHLO, says, format!("publish {record}"));
        }
        Ok(own) if !own.contains(&address) => {
            let says = format!("{hostname}, the name in EHLO, does not lead to {address}");
            return Finding::warning(EHLO, says, format!("publish {record}"));
        }
        Ok(_) => {}
    }
    let names = seen.names.as_deref().unwrap_or_default();
    if names.iter().any(|name| name.eq_ignore_ascii_case(hostname.as_str())) {
        return Finding::ok(EHLO, format!("{hostname} leads to {address} and is its reverse name"));
    }
    let says = format!("{hostname}, the name in EHLO, leads to {address}, but is not its reverse name");
    let fix = match names.first() {
        Some(name) => {
            format!("{}; or set hostname = \"{name}\" in waxseal.toml", set_reverse(address, hostname))
        }
        None => set_reverse(address, hostname),
    };
    Finding::warning(EHLO, says, fix)
}

/// Whether the name is made out of the address: its numbers in either order, its hex digits, or its nibbles.
fn is_generic(name: &str, address: IpAddr) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let contains = |octets: &[u8]| {
        let hex = octets.iter().fold(String::new(), |mut hex, octet| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{octet:02x}");
            hex
        });
        plain.contains(&hex) || plain.contains(&hex.chars().rev().collect::<String>())
    };
    match address {
        IpAddr::V6(six) => contains(&six.octets()) || contains_groups(name, six.segments()),
        IpAddr::V4(four) => {
            let mut octets = four.octets();
            let padded: String = octets.iter().map(|octet| format!("{octet:03}")).collect();
            let forward = in_a_row(name, octets);
            octets.reverse();
            contains(&four.octets()) || plain.contains(&padded) || forward || in_a_row(name, octets)
        }
    }
}

/// The four numbers, one after the other, whatever stands between them.
fn in_a_row(name: &str, octets: [u8; 4]) -> bool {
    let numbers: Vec<u8> =
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
    numbers.windows(octets.len()).any(|window| window == octets)
}

/// The groups of an IPv6 address as people write them, with hyphens or dots for colons.
fn contains_groups(name: &str, segments: [u16; 8]) -> bool {
    let written: Vec<u16> = name
        .split(['-', '.'])
        .filter(|group| !group.is_empty())
        .map_while(|group| u16::from_str_radix(group, 16).ok())
        .collect();
    let without_zeros: Vec<u16> = segments.into_iter().filter(|segment| *segment != 0).collect();
    written.len() >= 3 && written.into_iter().filter(|group| *group != 0).eq(without_zeros)
}

#[cfg(test)]
mod tests;
