//! The names themselves: receivers refuse mail from a name that does not exist or that takes no mail.

use super::{Bench, Change, Finding, Level, Picture};
use crate::seal::facts::{Exchange, Presence};
use crate::seal::records::{Kind, Record};
use crate::seal::spf_record;

pub(super) fn look(bench: &Bench<'_>) -> Vec<Finding> {
    let (author, sender) = (bench.case.author, bench.case.sender);
    let mut findings = about(bench, author, "the From domain");
    // A null one names none (RFC 7505 section 4.2): nobody is asked to take mail at our own EHLO name.
    if sender.domain != author.domain && bench.case.direct && !bench.case.null {
        findings.extend(about(bench, sender, "the reverse-path's domain"));
    }
    findings
}

fn about(bench: &Bench<'_>, picture: &Picture, role: &str) -> Vec<Finding> {
    let name = &picture.domain;
    let presence = picture.presence.as_ref().map(|known| &known.value);
    let exists = match presence {
        None => return vec![silent(&format!("whether {name} exists"))],
        Some(Presence::Absent) => {
            let says = format!("{role} {name} does not exist: receivers refuse mail from it");
            let fix = "correct the address; or register the domain, and publish a first record, which makes the name exist";
            let change = Some(Change::Publish(first(bench, name.as_str())));
            return vec![Finding::new("exists", Level::Error, says).fix(fix).change(change)];
        }
        Some(Presence::Exists { zone }) => {
            let within = zone.as_ref().map(|zone| format!(", in the zone {zone}")).unwrap_or_default();
            Finding::new("exists", Level::Ok, format!("{name} exists{within}"))
        }
    };
    vec![exists, exchange(bench, picture, role)]
}

/// What a name could begin with: what it should publish anyway, else that the relay may send for it.
fn first(bench: &Bench<'_>, name: &str) -> Record {
    bench.wanted(name, |_| true).cloned().unwrap_or_else(|| spf_record::fresh(name, bench.case.egress))
}

fn exchange(bench: &Bench<'_>, picture: &Picture, role: &str) -> Finding {
    let name = &picture.domain;
    let wanted = bench.wanted(name.as_str(), |record| record.kind == Kind::Mx).cloned();
    match picture.exchange.as_ref().map(|known| &known.value) {
        None => silent(&format!("where mail for {name} goes")),
        Some(Exchange::Null) => {
            let says = format!(
                "{role} {name} has a null MX: receivers refuse mail from a name that takes none (RFC 7505)"
            );
            let change = match wanted {
                Some(record) => Change::Replace { record, instead_of: String::new() },
                None => Change::Remove { name: name.to_string(), kind: Kind::Mx },
            };
            Finding::new("mx", Level::Error, says)
                .fix("take the null MX away, and publish where mail for the name goes")
                .change(Some(change))
        }
        Some(Exchange::Nowhere) => {
            let says = format!(
                "{role} {name} has neither MX nor address: replies and bounces go nowhere, and some receivers refuse it"
            );
            let change = wanted.map(Change::Publish);
            Finding::new("mx", Level::Warning, says).fix("publish an MX record").change(change)
        }
        Some(Exchange::Implicit) => {
            Finding::new("mx", Level::Ok, format!("mail for {name} goes to its own address"))
        }
        Some(Exchange::Hosts(hosts)) => {
            let first = hosts.iter().min().map(|(_, host)| host.as_str()).unwrap_or_default();
            Finding::new("mx", Level::Ok, format!("mail for {name} goes to {first}"))
        }
    }
}

fn silent(what: &str) -> Finding {
    Finding::new("exists", Level::Warning, format!("DNS did not say {what}"))
        .fix("ask again later; nothing is decided by silence")
}
