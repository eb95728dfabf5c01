//! Is this machine fit to send mail? What receivers ask of the host and platforms of the listener, looked at from here: the
//! addresses that mail leaves from, the way out, the certificate, the files. Each check answers findings with what to do.
//! A domain's own checks are `seal`'s.
//!
//! What cannot honestly be known from here is left out: a clock that is wrong (nothing on this machine knows the right
//! time), and whether the ports are open to the world (ask from outside).

pub mod addresses;
pub mod blocklist;
pub mod certificate;
pub mod copies;
pub mod files;
pub mod port25;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::config::Config;
use crate::dns::{Failure, Resolver};
use crate::mail::address::Domain;
use crate::mail::time::Time;
use crate::seal::judge::Finding;

/// Longest time for any check; all run at once, so for all of them.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Names that no receiver can look up (RFC 6761, RFC 6762 section 3, RFC 9476, and what routers make up).
const INSIDE: [&str; 10] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "lan",
    "home",
    "test",
    "example",
    "invalid",
];

/// What is looked at.
#[derive(Clone)]
pub struct Scope {
    /// The instance.
    pub config: Config,
    /// Whom DNS is asked.
    pub resolver: Resolver,
    /// The domain whose exchanger is greeted; `None`: nobody's.
    pub reference: Option<Domain>,
    /// Blocklists that are asked for our addresses.
    pub blocklists: Vec<Domain>,
    /// Roots that the certificate may rest on beside the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Whether mail of any tenant leaves by MX.
    pub direct: bool,
    /// The time now.
    pub now: Time,
}

/// The addresses that receivers see, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Them.
    pub addresses: Vec<IpAddr>,
    /// Whether the configuration says so; else they are those of the hostname.
    pub stated: bool,
}

/// Every check of the instance, grouped by what they look at.
pub async fn instance(scope: &Scope) -> Vec<Finding> {
    let hostname = scope.config.hostname.as_str().to_owned();
    let own = scope.resolver.addresses(&hostname).await;
    let egress = Egress::of(&scope.config, &own);
    let mut tasks =
        vec![begin("hostname", name(scope.config.hostname.clone())), begin("resolver", answers(own.clone()))];
    tasks.push(begin("egress", addresses::stated(scope.clone(), egress.clone(), own.clone())));
    for address in &egress.addresses {
        let work = addresses::look(scope.clone(), *address, own.clone());
        tasks.push(begin("ptr", work));
    }
    tasks.extend(port25::ways(scope, &egress).into_iter().map(|from| {
        let work = port25::look(scope.clone(), from);
        begin("port25", work)
    }));
    for (zone, address) in pairs(&scope.blocklists, &egress.addresses) {
        tasks.push(begin("blocklist", blocklist::look(scope.resolver.clone(), zone, address)));
    }
    let (files, certificate, copies) = (scope.clone(), scope.clone(), scope.clone());
    tasks.push(begin("certificate", blocking(move || certificate::look(&certificate))));
    tasks.push(begin("files", blocking(move || files::look(&files))));
    tasks.push(begin("copies", blocking(move || copies::look(&copies))));
    let mut findings = Vec::new();
    for task in tasks {
        findings.extend(task.await.unwrap_or_default());
    }
    findings
}

fn pairs(zones: &[Domain], addresses: &[IpAddr]) -> Vec<(Domain, IpAddr)> {
    zones.iter().flat_map(|zone| addresses.iter().map(|address| (zone.clone(), *address))).collect()
}

/// Begins a check, which ends in time or says that it did not.
fn begin(
    check: &'static str,
    work: impl Future<Output = Vec<Finding>> + Send + 'static,
) -> JoinHandle<Vec<Finding>> {
    tokio::spawn(async move {
        tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| {
            let says = format!("no result within {} s", PATIENCE.as_secs());
            vec![Finding::warning(check, says, "look again; if it stays so, look at DNS and the firewall")]
        })
    })
}

/// Reads files where waiting for a disk hurts nobody.
async fn blocking(work: impl FnOnce() -> Vec<Finding> + Send + 'static) -> Vec<Finding> {
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

impl Egress {
    /// By the configuration, else by what DNS says of our name.
    #[must_use]
    pub fn of(config: &Config, own: &Result<Vec<IpAddr>, Failure>) -> Self {
        let delivery = &config.delivery;
        let stated =
            if delivery.public_addresses.is_empty() { &delivery.sources } else { &delivery.public_addresses };
        if stated.is_empty() {
            return Self { addresses: own.clone().unwrap_or_default(), stated: false };
        }
        Self { addresses: stated.clone(), stated: true }
    }
}

/// The name in the greeting, in EHLO, and in Authentication-Results (RFC 8601 section 2.5: an id that nobody else uses).
async fn name(hostname: Domain) -> Vec<Finding> {
    const CHECK: &str = "hostname";
    let top = hostname.as_str().rsplit('.').next().unwrap_or_default();
    let fix = "set hostname in waxseal.toml to a name below a domain of yours, with an address in public DNS";
    if !hostname.as_str().contains('.') {
        let says =
            format!("{hostname} is not a full name: receivers refuse it in EHLO (RFC 5321 section 2.3.5)");
        return vec![Finding::error(CHECK, says, fix)];
    }
    if INSIDE.contains(&top) {
        let says =
            format!("{hostname} is a name that only a network of its own knows: receivers cannot look it up");
        return vec![Finding::warning(CHECK, says, fix)];
    }
    vec![Finding::ok(CHECK, format!("{hostname} is said in EHLO and is the id of Authentication-Results"))]
}

/// Whether anything was said at all; that our name has no address is an answer too.
async fn answers(own: Result<Vec<IpAddr>, Failure>) -> Vec<Finding> {
    const CHECK: &str = "resolver";
    vec![match own {
        Ok(_) | Err(Failure::NoSuchName | Failure::NoRecords) => Finding::ok(CHECK, "the resolver answers"),
        Err(Failure::Transient(why)) => Finding::error(
            CHECK,
            format!("the resolver does not answer ({why}): no mail is delivered, none is judged"),
            "look at [dns] servers in waxseal.toml, at /etc/resolv.conf, and whether port 53 is open outwards",
        ),
    }]
}
