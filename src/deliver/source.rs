//! From which of our addresses a connection is made, and what name it greets with. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use crate::config::Delivery;
use crate::mail::address::Domain;

/// In the words of who reads the log.
const NO_FAMILY: &str = "delivery.sources has no address of its family";

/// One address, its name, and whose mail leaves from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The address; `None`: the system chooses.
    pub(super) address: Option<IpAddr>,
    /// What it greets with: the name that its reverse record has.
    pub(super) hostname: String,
    tenants: Vec<String>,
    classes: Vec<String>,
}

/// Whose mail it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose<'a> {
    /// The tenant.
    pub(super) tenant: &'a str,
    /// The class, if it has one.
    pub(super) class: Option<&'a str>,
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    list: Vec<Source>,
    any: Source,
}

impl Sources {
    /// As configured: `delivery.sources`, those of `[[delivery.source]]` with what is said of them.
    pub(super) fn new(delivery: &Delivery, hostname: &Domain) -> Self {
        let plain = |address| Source {
            address,
            hostname: hostname.as_str().to_owned(),
            tenants: Vec::new(),
            classes: Vec::new(),
        };
        let list = delivery.sources.iter().map(|address| {
            match delivery.source.iter().find(|named| named.address == *address) {
                Some(named) => Source {
                    address: Some(*address),
                    hostname: named.hostname.as_str().to_owned(),
                    tenants: named.tenants.clone(),
                    classes: named.classes.clone(),
                },
                None => plain(Some(*address)),
            }
        });
        Self { list: list.collect(), any: plain(None) }
    }

    /// One for what is not mail, to a host of this address; `None`: the system chooses.
    ///
    /// # Errors
    /// There are some, and none is of that family.
    pub(super) fn of_family(&self, to: IpAddr) -> Result<Option<IpAddr>, &'static str> {
        let mut addresses = self.list.iter().filter_map(|source| source.address);
        match addresses.find(|ours| ours.is_ipv4() == to.is_ipv4()) {
            Some(address) => Ok(Some(address)),
            None if self.list.is_empty() => Ok(None),
            None => Err(NO_FAMILY),
        }
    }

    /// The one for this mail to a host of this address. A source that names the tenant or the class serves them before those that
    /// name nobody, and serves nobody else; of several that are equally good a tenant always has the same, so that its
    /// reputation stays in one place.
    ///
    /// # Errors
    /// None of its sources is of the host's family: another would leave from an address that SPF does not name.
    pub(super) fn choose(&self, whose: Whose<'_>, to: IpAddr) -> Result<&Source, &'static str> {
        if self.list.is_empty() {
            return Ok(&self.any);
        }
        let of = |own: bool| self.list.iter().filter(move |source| source.serves(whose) == Some(own));
        let own = of(true).next().is_some();
        let family = |source: &&Source| source.address.is_some_and(|ours| ours.is_ipv4() == to.is_ipv4());
        let fit: Vec<&Source> = of(own).filter(family).collect();
        let mut hasher = DefaultHasher::new();
        whose.tenant.hash(&mut hasher);
        let at = hasher.finish() % u64::try_from(fit.len().max(1)).unwrap_or(1);
        let chosen = usize::try_from(at).ok().and_then(|at| fit.get(at).copied());
        chosen.ok_or(NO_FAMILY)
    }
}

impl Source {
    /// Whether it serves this mail: as its own, as anybody's, or not at all.
    fn serves(&self, whose: Whose<'_>) -> Option<bool> {
        let named = |list: &[String], name: &str| list.iter().any(|one| one == name);
        if self.tenants.is_empty() && self.classes.is_empty() {
            return Some(false);
        }
        let tenant = self.tenants.is_empty() || named(&self.tenants, whose.tenant);
        let class = self.classes.is_empty() || whose.class.is_some_and(|class| named(&self.classes, class));
        (tenant && class).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn sources(named: &[(&str, &[&str], &[&str])]) -> Sources {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let source: Vec<config::Source> = named
            .iter()
            .map(|(address, tenants, classes)| config::Source {
                address: address.parse().unwrap(),
                hostname: format!("host-{}.test", address.replace([':', '.'], "-")).parse().unwrap(),
                tenants: texts(tenants),
                classes: texts(classes),
            })
            .collect();
        let sources = source.iter().map(|source| source.address).collect();
        let delivery = Delivery { sources, source, ..Delivery::default() };
        Sources::new(&delivery, &"relay.test".parse().unwrap())
    }

    #[test]
    fn who_leaves_from_where() {
        let some = sources(&[
            ("192.0.2.1", &[], &[]),
            ("2001:db8::1", &[], &[]),
            ("192.0.2.2", &["acme"], &[]),
            ("192.0.2.3", &[], &["password_reset"]),
            ("192.0.2.4", &["acme"], &["w9"]),
        ]);
        let rows = [
            ("blue", None, "198.51.100.1", Ok("192.0.2.1"), "nobody's own: the one that names nobody"),
            ("blue", None, "2001:db8::9", Ok("2001:db8::1"), "the same of the other family"),
            ("acme", None, "198.51.100.1", Ok("192.0.2.2"), "the tenant's own"),
            ("acme", None, "2001:db8::9", Err(()), "its own are IPv4 only: never from somebody else's"),
            ("blue", Some("password_reset"), "198.51.100.1", Ok("192.0.2.3"), "the class's own"),
            ("blue", Some("w9"), "198.51.100.1", Ok("192.0.2.1"), "that one is another tenant's"),
        ];
        for (tenant, class, to, expected, why) in rows {
            let chosen = some.choose(Whose { tenant, class }, to.parse().unwrap());
            let chosen = chosen.map(|source| source.address.unwrap().to_string()).map_err(drop);
            assert_eq!(chosen, expected.map(str::to_owned), "{why}");
        }
    }

    #[test]
    fn tenants_are_spread_and_each_stays_where_it_is() {
        let some = sources(&[("192.0.2.1", &[], &[]), ("192.0.2.2", &[], &[])]);
        let to = "198.51.100.1".parse().unwrap();
        let of = |n: usize| {
            let name = format!("tenant{n}");
            some.choose(Whose { tenant: &name, class: None }, to).unwrap().hostname.clone()
        };
        let all: std::collections::BTreeSet<String> = (0..50).map(of).collect();
        assert_eq!(all.len(), 2, "both are used");
        assert!((0..50).all(|n| of(n) == of(n)), "and the same tenant always has the same");
    }

    #[test]
    fn without_any_the_system_chooses() {
        let none = Sources::new(&Delivery::default(), &"relay.test".parse().unwrap());
        let chosen =
            none.choose(Whose { tenant: "acme", class: None }, "2001:db8::9".parse().unwrap()).unwrap();
        assert_eq!((chosen.address, chosen.hostname.as_str()), (None, "relay.test"));
    }
}
