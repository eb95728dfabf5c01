//! The walk over what an SPF record includes: it counts what a receiver that finds no match would spend, for an address of
//! each family that our mail leaves from, and draws the tree for a person. It ends, whatever the records say.

use std::net::IpAddr;
use std::pin::Pin;

use super::name::{Sender, Spec};
use super::term::{Kind, Term};
use super::{EXCHANGERS_MAX, LOOKUPS_MAX, Record, is_spf};
use crate::dns::{Family, Mx};
use crate::mail::address::DOMAIN_MAX;
use crate::seal::facts::{SpfAnswer, SpfFault};
use crate::seal::survey::{Asker, kept};

/// Terms looked up before a walk is given up: enough to say by how much a record is over the limit.
const WALK_MAX: u32 = LOOKUPS_MAX * 3;
/// Faults and warnings told of; a stranger's record may hold thousands.
const FAULTS_MAX: usize = 32;
/// Characters of a line of the tree.
const LINE_MAX: usize = 200;
/// Between the names of a chain of includes.
const CHAIN: &str = " > ";

/// Whose mail is judged by the records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose<'a> {
    /// The name that SPF is evaluated at.
    pub(crate) name: &'a str,
    /// Our EHLO name.
    pub(crate) hello: &'a str,
    /// The reverse-path.
    pub(crate) mailbox: &'a str,
    /// The addresses that our mail leaves from.
    pub(crate) egress: &'a [IpAddr],
}

/// Reads and follows the records of a name; `answer.records` is there, the counts, faults and tree are filled in.
pub(crate) async fn lint(asker: &mut Asker, whose: Whose<'_>, answer: &mut SpfAnswer) {
    for other in answer.records.iter().skip(1) {
        for what in Record::read(other).faults {
            note(&mut answer.faults, SpfFault { name: whose.name.to_owned(), what });
        }
    }
    let Some(first) = answer.records.first().cloned() else { return };
    let one_of =
        |four: bool| whose.egress.iter().map(IpAddr::to_canonical).find(|address| address.is_ipv4() == four);
    let mut addresses: Vec<Option<IpAddr>> =
        [one_of(true), one_of(false)].into_iter().flatten().map(Some).collect();
    if addresses.is_empty() {
        addresses.push(None);
    }
    for address in addresses {
        let sender = address.map(|address| Sender { address, hello: whose.hello, mailbox: whose.mailbox });
        let mut walker =
            Walker { asker, sender, found: SpfAnswer::default(), path: Vec::new(), guarded: None };
        walker.found.tree.push(format!("{}: {first}", whose.name));
        walker.follow(whose.name.to_owned(), first.clone()).await;
        merge(answer, walker.found);
    }
}

/// The dearest of the walks counts; the tree of the first is shown.
fn merge(answer: &mut SpfAnswer, found: SpfAnswer) {
    answer.lookups = answer.lookups.max(found.lookups);
    answer.voids = answer.voids.max(found.voids);
    for fault in found.faults {
        note(&mut answer.faults, fault);
    }
    for warning in found.warnings {
        note(&mut answer.warnings, warning);
    }
    if answer.tree.is_empty() {
        answer.tree = found.tree;
    }
}

/// What is included twice is complained of once, and no more than helps a person.
fn note(list: &mut Vec<SpfFault>, fault: SpfFault) {
    if list.len() < FAULTS_MAX && !list.contains(&fault) {
        list.push(fault);
    }
}

struct Walker<'a> {
    asker: &'a mut Asker,
    sender: Option<Sender<'a>>,
    found: SpfAnswer,
    /// The names whose records stand open, the outermost first.
    path: Vec<String>,
    /// The include with a qualifier other than `+` that stands open, and the name whose record it is in.
    guarded: Option<(String, String)>,
}

impl Walker<'_> {
    /// Boxed, for it comes back to itself through `term` and `enter`.
    fn follow(&mut self, name: String, text: String) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let record = Record::read(&text);
            for what in &record.faults {
                self.fault(&name, what.clone());
            }
            for what in &record.warnings {
                note(&mut self.found.warnings, SpfFault { name: name.clone(), what: what.clone() });
            }
            self.path.push(name.clone());
            for term in record.reached() {
                if self.found.lookups >= WALK_MAX {
                    break;
                }
                self.term(&name, term).await;
            }
            self.path.pop();
        })
    }

    async fn term(&mut self, at: &str, term: &Term) {
        match &term.kind {
            Kind::All | Kind::Network | Kind::Explanation | Kind::Unknown => {}
            Kind::Include(spec) => {
                let Some(name) = self.name(at, term, Some(spec)) else { return };
                self.include(at, term, name).await;
            }
            Kind::Redirect(spec) => {
                let Some(name) = self.name(at, term, Some(spec)) else { return };
                self.enter(at, term, name).await;
            }
            Kind::A(spec) => {
                let Some(name) = self.name(at, term, spec.as_ref()) else { return };
                self.host(term, &name, self.family()).await;
            }
            Kind::Exists(spec) => {
                let Some(name) = self.name(at, term, Some(spec)) else { return };
                self.exists(at, term, &name).await;
            }
            Kind::Mx(spec) => {
                let Some(name) = self.name(at, term, spec.as_ref()) else { return };
                self.exchangers(at, term, &name).await;
            }
            Kind::Ptr(_) => self.pointer(term).await,
        }
    }

    /// The name that a term asks for; a term that has none is counted here.
    fn name(&mut self, at: &str, term: &Term, spec: Option<&Spec>) -> Option<String> {
        let Some(name) = spec.map_or(Some(at.to_owned()), |spec| spec.name(at, self.sender)) else {
            self.spend(term, UNKNOWN);
            return None;
        };
        if !is_lookable(&name) {
            self.spend(term, "cannot be looked up");
            self.fault(at, format!("`{}` asks for a name that cannot be looked up", term.shown()));
            return None;
        }
        Some(name)
    }

    /// RFC 7208 section 5.2: an include that matches gives its own qualifier's result. mail-auth says pass where a further
    /// include, inside one with another qualifier, matches.
    async fn include(&mut self, at: &str, term: &Term, target: String) {
        if let Some((name, outer)) = self.guarded.clone() {
            self.fault(
                &name,
                format!("`{outer}` leads to further includes, of which receivers make different things"),
            );
        }
        let guards = self.guarded.is_none() && term.text.starts_with(['-', '~', '?']);
        if guards {
            self.guarded = Some((at.to_owned(), term.shown().to_owned()));
        }
        self.enter(at, term, target).await;
        if guards {
            self.guarded = None;
        }
    }

    /// The record that an include or a redirect leads to.
    async fn enter(&mut self, at: &str, term: &Term, target: String) {
        if self.path.contains(&target) {
            self.spend(term, "a loop");
            let chain = format!("{}{CHAIN}{target}", self.path.join(CHAIN));
            return self.fault(at, format!("`{}` leads back to itself ({chain})", term.shown()));
        }
        let Some(text) = self.asker.text(&target).await else { return self.spend(term, SILENT) };
        let mut records =
            kept(text.records.into_iter().filter(|record| is_spf(record)).collect()).into_iter();
        let Some(record) = records.next() else {
            self.spend(term, "no SPF record");
            return self.fault(at, format!("`{}` leads to a name without an SPF record", term.shown()));
        };
        let more = records.count();
        if more > 0 {
            self.fault(&target, format!("it has {} SPF records, where only one may be", more + 1));
        }
        self.spend(term, &record);
        self.follow(target, record).await;
    }

    /// Whether the host has addresses; `None`: DNS is silent.
    async fn host(&mut self, term: &Term, name: &str, family: Family) -> Option<bool> {
        let Some(found) = self.asker.hosts(name, family).await else {
            self.spend(term, SILENT);
            return None;
        };
        self.void(found.is_empty());
        self.spend(term, &if found.is_empty() { "nothing there".to_owned() } else { joined(&found) });
        Some(!found.is_empty())
    }

    /// RFC 7208 section 5.7: an A query, whatever the address. mail-auth is content with AAAA.
    async fn exists(&mut self, at: &str, term: &Term, name: &str) {
        if self.host(term, name, Family::V4).await != Some(false) {
            return;
        }
        let six = self.asker.hosts(name, Family::V6).await;
        if six.is_some_and(|found| !found.is_empty()) {
            self.fault(at, format!("`{}` finds an AAAA record alone, and receivers ask for A", term.shown()));
        }
    }

    async fn exchangers(&mut self, at: &str, term: &Term, name: &str) {
        let Some(mx) = self.asker.exchange(name).await else { return self.spend(term, SILENT) };
        let hosts: Vec<String> = match mx {
            Mx::Exchangers(list) => list.into_iter().map(|exchanger| exchanger.host).collect(),
            Mx::Implicit | Mx::Null => Vec::new(),
        };
        self.void(hosts.is_empty());
        if hosts.len() > EXCHANGERS_MAX {
            self.fault(
                at,
                format!(
                    "`{}` has more than {EXCHANGERS_MAX} exchangers, which receivers refuse",
                    term.shown()
                ),
            );
        }
        let shown = if hosts.is_empty() { "no exchangers".to_owned() } else { hosts.join(" ") };
        self.spend(term, &shown);
        for host in hosts.iter().take(EXCHANGERS_MAX) {
            // One lookup for the term, but each host that is not there is void (as pyspf and Mail::SPF count).
            if let Some(found) = self.asker.hosts(host, self.family()).await {
                self.void(found.is_empty());
            }
        }
    }

    async fn pointer(&mut self, term: &Term) {
        let Some(sender) = self.sender else { return self.spend(term, UNKNOWN) };
        let Some(names) = self.asker.pointers(sender.address).await else { return self.spend(term, SILENT) };
        self.void(names.is_empty());
        self.spend(term, &if names.is_empty() { "nothing there".to_owned() } else { names.join(" ") });
    }

    fn family(&self) -> Family {
        match self.sender {
            Some(Sender { address: IpAddr::V6(_), .. }) => Family::V6,
            Some(Sender { address: IpAddr::V4(_), .. }) | None => Family::V4,
        }
    }

    fn void(&mut self, void: bool) {
        self.found.voids += u32::from(void);
    }

    /// Counts a term, and draws it.
    fn spend(&mut self, term: &Term, what: &str) {
        self.found.lookups += 1;
        let indent = "  ".repeat(self.path.len());
        let mut line = format!("{indent}{}. {}: {what}", self.found.lookups, term.shown());
        line.truncate(line.floor_char_boundary(LINE_MAX));
        self.found.tree.push(line);
    }

    fn fault(&mut self, name: &str, what: String) {
        note(&mut self.found.faults, SpfFault { name: name.to_owned(), what });
    }
}

/// The name holds a macro of the address, and no address is known.
const UNKNOWN: &str = "depends on the address";
const SILENT: &str = "DNS did not answer";

/// RFC 1035 section 2.3.4.
fn is_lookable(name: &str) -> bool {
    name.len() <= DOMAIN_MAX && name.split('.').all(|label| (1..=63).contains(&label.len()))
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
}
