//! What the mail log is told of a session: its refusals as they come, and at its end whether it was a connection test.

use std::net::IpAddr;

use super::Shared;
use super::machine::{Machine, Note};
use crate::mail::reply::Reply;
use crate::maillog::{MailLog, Probe, Rejected};
use crate::metrics::ResultLabel;

/// A refusal with what is known of the session.
pub(super) fn refusal<'a>(
    machine: &'a Machine,
    ip: IpAddr,
    reply: &'a Reply,
    reason: &'static str,
) -> Rejected<'a> {
    Rejected {
        id: None,
        tenant: machine.tenant().map(|tenant| &*tenant.name),
        login: machine.login().map(|login| &*login.name),
        ip,
        helo: machine.helo(),
        tls: machine.tls(),
        from: None,
        to: &[],
        header_from: None,
        reply,
        reason,
    }
}

/// Tells one note; whether it was a ClientHello that the listener should remember.
pub(super) fn tell(note: &Note, machine: &Machine, ip: IpAddr, shared: &Shared) -> bool {
    match note {
        Note::Rejected { to, from, login, reply, reason } => {
            if *reason == "exposed" {
                shared.metrics.auth.get_or_create(&ResultLabel { result: "exposed" }).inc();
            }
            if *reason == "memory" {
                shared.metrics.body_memory_refused.inc();
            }
            let mut what = refusal(machine, ip, reply, reason);
            what.login = login.as_deref().or(what.login);
            what.from = from.as_ref().map(Option::as_ref);
            what.to = to.as_slice();
            shared.log.rejected(&what);
            false
        }
        Note::TlsHello => {
            let advice = "the client starts TLS at once: set its authentication method to SSL and use the implicit TLS \
                          port, or set it to TLS (STARTTLS)";
            tracing::warn!(%ip, advice, "a TLS ClientHello came after the greeting");
            shared.log.probe(&Probe { advice: Some(advice), ..about(machine, ip) });
            true
        }
        Note::Foreign => {
            tracing::warn!(%ip, "something that is not SMTP was sent to an SMTP port");
            false
        }
    }
}

/// A session that ended without MAIL although it authenticated, shook hands, or showed a password.
pub(super) fn probe(machine: &Machine, ip: IpAddr, log: &MailLog) {
    let tried = machine.login().is_some() || machine.tls().is_some() || machine.exposed().is_some();
    // Nobody logs in where mail comes back.
    if machine.reached_mail() || machine.is_inbound() || !tried {
        return;
    }
    let advice = match (machine.exposed(), machine.login()) {
        (Some(_), _) => Some(
            "a password travelled in clear text: set the authentication method to TLS, and give the login a new password",
        ),
        (None, None) => Some("AUTH was not tried: enter user name and password"),
        (None, Some(_)) => None,
    };
    let mut what = about(machine, ip);
    what.login = what.login.or(machine.exposed());
    log.probe(&Probe { advice, ..what });
}

fn about(machine: &Machine, ip: IpAddr) -> Probe<'_> {
    Probe {
        tenant: machine.tenant().map(|tenant| &*tenant.name),
        login: machine.login().map(|login| &*login.name),
        ip,
        helo: machine.helo(),
        tls: machine.tls(),
        mechanism: machine.login().map(|login| login.mechanism.name()),
        exposed: machine.exposed().is_some(),
        advice: None,
    }
}
