//! Where we may connect to. What DNS or a tenant's file names may be an inside address: the check is made on the address
//! itself, and the address that was checked is the one connected to (DN8, DN10, OB8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::IpNet;

use crate::config;

/// A port to name where nothing is sent (RFC 863).
const DISCARD: u16 = 9;

/// Why an address is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// We listen there ourselves.
    Ourselves,
    /// Loopback, private, link-local, or nobody's.
    Inside,
}

/// Judges addresses.
#[derive(Clone, Debug)]
pub struct Guard {
    own: Vec<SocketAddr>,
    public: Vec<IpAddr>,
    allow_private: bool,
    allowed: Vec<IpNet>,
}

impl Guard {
    /// By the configuration and the addresses that we listen on.
    #[must_use]
    pub fn new(config: &config::Delivery, own: Vec<SocketAddr>) -> Self {
        Self {
            own,
            public: config.public_addresses.clone(),
            allow_private: config.allow_private_destinations,
            allowed: config.allow_destinations.clone(),
        }
    }

    /// Whether this may be connected to.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, to: SocketAddr) -> Result<(), Refusal> {
        if self.is_own(to) {
            return Err(Refusal::Ourselves);
        }
        let plain = embedded(to.ip());
        match reach(plain) {
            Reach::Public => Ok(()),
            Reach::Private if self.allow_private || self.allowed.iter().any(|net| net.contains(&plain)) => {
                Ok(())
            }
            Reach::Private | Reach::Nowhere => Err(Refusal::Inside),
        }
    }

    /// "Self" is an address and port that we listen on, never merely an address. A wildcard listener listens on every
    /// address of this machine, and on those that a router in front forwards to it; one on a private address on the latter too.
    fn is_own(&self, to: SocketAddr) -> bool {
        let ip = to.ip().to_canonical();
        let mut ports = self.own.iter().filter(|own| own.port() == to.port());
        ports.any(|own| match own.ip().to_canonical() {
            listening if listening == ip => true,
            listening if listening.is_unspecified() => is_local(ip) || self.public.contains(&ip),
            listening if !listening.is_loopback() && reach(listening) == Reach::Private => {
                self.public.contains(&ip)
            }
            _ => false,
        })
    }
}

/// Whether an interface of this machine has the address. That a socket can be bound to it proves nothing where the system lets
/// sockets have anybody's address (`ip_nonlocal_bind`, usual beside keepalived). But then too an IPv4 one has no way to
/// anywhere; and of its IPv6 addresses the system prefers the very one that is sent to (RFC 6724 section 5, rule 1).
fn is_local(ip: IpAddr) -> bool {
    let from = if ip.is_ipv4() { ip } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((from, 0))?;
        // Nothing is sent.
        socket.connect((ip, DISCARD))?;
        Ok(socket.local_addr()?.ip())
    };
    ip.is_loopback() || ip.is_unspecified() || source().is_ok_and(|source| source == ip)
}

/// Who can be reached at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Public,
    Private,
    Nowhere,
}

/// The IPv4 address inside an IPv6 one that stands for it: mapped (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = ip.to_canonical() else { return ip.to_canonical() };
    let [a, b, c, d, e, f, g, h] = six.segments();
    let four = match (a, b, c, d, e, f) {
        (0x64, 0xff9b, 0, 0, 0, 0) | (0, 0, 0, 0, 0, 0) if !(six.is_loopback() || six.is_unspecified()) => {
            (g, h)
        }
        (0x2002, ..) => (b, c),
        _ => return ip,
    };
    let [a, b] = four.0.to_be_bytes();
    let [c, d] = four.1.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(four) => reach_v4(four),
        IpAddr::V6(six) => reach_v6(six),
    }
}

/// The special-purpose registry (RFC 6890).
fn reach_v4(ip: Ipv4Addr) -> Reach {
    let [a, b, c, _] = ip.octets();
    match (a, b, c) {
        // "This network", multicast, reserved and broadcast.
        (0 | 224..=255, _, _) => Reach::Nowhere,
        // Loopback, RFC 1918, shared (RFC 6598), link-local with the clouds' metadata, protocol assignments,
        // benchmarking, documentation.
        (127 | 10, _, _)
        | (172, 16..=31, _)
        | (192, 168, _)
        | (100, 64..=127, _)
        | (169, 254, _)
        | (192, 0, 0 | 2)
        | (198, 18 | 19, _)
        | (198, 51, 100)
        | (203, 0, 113) => Reach::Private,
        _ => Reach::Public,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    let [a, b, ..] = ip.segments();
    match (a, b) {
        _ if ip.is_loopback() => Reach::Private,
        _ if ip.is_unspecified() || ip.is_multicast() => Reach::Nowhere,
        // Unique local (RFC 4193), link-local, the former site-local, local-use NAT64, documentation.
        (0xfc00..=0xfdff | 0xfe80..=0xfeff, _) | (0x64, 0xff9b) | (0x2001, 0xdb8) => Reach::Private,
        // Global unicast is 2000::/3 alone.
        (0x2000..=0x3fff, _) => Reach::Public,
        _ => Reach::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow_private: bool, allowed: &[&str], own: &[&str], public: &[&str]) -> Guard {
        Guard {
            own: own.iter().map(|own| own.parse().unwrap()).collect(),
            public: public.iter().map(|ip| ip.parse().unwrap()).collect(),
            allow_private,
            allowed: allowed.iter().map(|net| net.parse().unwrap()).collect(),
        }
    }

    fn at(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 25)
    }

    #[test]
    fn inside_addresses_are_refused() {
        let rows = [
            ("127.0.0.1", "loopback"),
            ("127.9.9.9", "all of it"),
            ("::1", "loopback"),
            ("10.0.0.1", "private"),
            ("172.16.0.1", "private"),
            ("192.168.1.1", "private"),
            ("100.64.0.1", "shared (RFC 6598)"),
            ("169.254.169.254", "the clouds' metadata"),
            ("0.0.0.0", "this machine, to Linux"),
            ("::", "the same"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("240.0.0.1", "reserved"),
            ("fd00::1", "unique local"),
            ("fe80::1", "link-local"),
            ("::ffff:127.0.0.1", "mapped"),
            ("::ffff:10.0.0.1", "mapped"),
            ("::127.0.0.1", "the deprecated IPv4-compatible form"),
            ("64:ff9b::7f00:1", "NAT64"),
            ("64:ff9b:1::1", "local-use NAT64"),
            ("2002:7f00:1::1", "6to4"),
            ("fec0::1", "site-local"),
        ];
        for (ip, why) in rows {
            assert_eq!(guard(false, &[], &[], &[]).check(at(ip)), Err(Refusal::Inside), "{ip}: {why}");
        }
    }

    #[test]
    fn outside_addresses_are_not() {
        let rows = [
            ("9.9.9.9", "an ordinary one"),
            ("172.32.0.1", "just past RFC 1918"),
            ("2620:fe::9", "an ordinary one"),
            ("64:ff9b::909:909", "NAT64 of a public one"),
        ];
        for (ip, why) in rows {
            assert_eq!(guard(false, &[], &[], &[]).check(at(ip)), Ok(()), "{ip}: {why}");
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_and_no_more() {
        assert_eq!(guard(true, &[], &[], &[]).check(at("127.0.0.2")), Ok(()), "tests and the sandbox");
        assert_eq!(
            guard(true, &[], &[], &[]).check(at("224.0.0.1")),
            Err(Refusal::Inside),
            "never multicast"
        );
        let some = guard(false, &["10.1.0.0/16"], &[], &[]);
        assert_eq!(some.check(at("10.1.2.3")), Ok(()), "a range of the operator's");
        assert_eq!(some.check(at("::ffff:10.1.2.3")), Ok(()), "the same address");
        assert_eq!(some.check(at("10.2.0.1")), Err(Refusal::Inside), "outside the range");
    }

    #[test]
    fn ourselves_is_an_address_and_a_port() {
        let none: &[&str] = &[];
        let rows = [
            ("127.0.0.1:25", none, "127.0.0.1", Err(Refusal::Ourselves), "both"),
            ("127.0.0.1:587", none, "127.0.0.1", Ok(()), "another port: an MTA beside us"),
            ("127.0.0.1:25", none, "127.0.0.2", Ok(()), "another address"),
            ("0.0.0.0:25", none, "127.0.0.2", Err(Refusal::Ourselves), "a wildcard listener has them all"),
            ("[::]:25", none, "127.0.0.1", Err(Refusal::Ourselves), "in both families"),
            ("0.0.0.0:25", none, "192.0.2.1", Ok(()), "and those of nobody else"),
            ("[::]:25", none, "2001:db8::1", Ok(()), "in both families"),
            ("10.0.0.5:25", &["9.9.9.9"][..], "9.9.9.9", Err(Refusal::Ourselves), "behind a router"),
            ("127.0.0.1:25", &["9.9.9.9"][..], "9.9.9.9", Ok(()), "no router leads to loopback: another MTA"),
            ("8.8.8.8:25", &["9.9.9.9"][..], "9.9.9.9", Ok(()), "nor from one public address to another"),
        ];
        for (own, public, ip, expected, why) in rows {
            assert_eq!(guard(true, &[], &[own], public).check(at(ip)), expected, "{why}");
        }
    }

    /// In a network of its own, where the system lets sockets have addresses that are not its own.
    #[test]
    fn an_address_that_anybody_may_bind_to_is_not_ours() {
        const INSIDE: &str = "WAXSEAL_TEST_NONLOCAL_BIND";
        if std::env::var_os(INSIDE).is_none() {
            let set = "ip link set lo up && ip address add 10.9.0.5/24 dev lo && ip address add 10.9.0.6/24 dev lo && \
                       ip -6 address add fd00::5 dev lo nodad && ip -6 route add default dev lo && \
                       echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind && echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind && \
                       exec \"$0\" --exact deliver::guard::tests::an_address_that_anybody_may_bind_to_is_not_ours";
            // Not everywhere may anybody make a network: then this is proved elsewhere.
            let may = std::process::Command::new("unshare").args(["-rn", "ip", "link"]).output();
            if !may.is_ok_and(|may| may.status.success()) {
                return;
            }
            let program = std::env::current_exe().unwrap();
            let mut inside = std::process::Command::new("unshare");
            inside.args(["-rn", "sh", "-c", set]).arg(program).env(INSIDE, "1");
            let said = inside.output().unwrap();
            let told = String::from_utf8_lossy(&said.stdout);
            assert!(said.status.success() && told.contains("1 passed"), "{told}");
            return;
        }
        let rows = [
            ("10.9.0.5", Err(Refusal::Ourselves), "an interface has it"),
            ("10.9.0.6", Err(Refusal::Ourselves), "beside another one"),
            ("fd00::5", Err(Refusal::Ourselves), "the same"),
            ("192.0.2.1", Ok(()), "nobody here has it"),
            ("2001:db8::1", Ok(()), "nobody here has it, and there is a way to it"),
        ];
        for (ip, expected, why) in rows {
            assert!(UdpSocket::bind((ip, 0)).is_ok(), "{ip}: the system lets us");
            assert_eq!(guard(true, &[], &["[::]:25"], &[]).check(at(ip)), expected, "{ip}: {why}");
        }
    }
}
