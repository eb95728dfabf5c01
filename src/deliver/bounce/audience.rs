//! Who is told of what became of a message. Pure.

use super::Action;
use crate::mail::address::Address;
use crate::mail::envelope::Notify;
use crate::mail::message::{Facts, Kind};
use crate::tenant::Tenant;

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// These.
    Told {
        /// Their addresses.
        to: Vec<Address>,
        /// Whether it is the message's own sender, and nobody else.
        sender: bool,
    },
    /// Nobody but the log, and why.
    Nobody(&'static str),
}

/// Who may be told of this message. A tenant's mail is told of to the tenant alone: nothing that a stranger wrote into an
/// envelope makes the relay write to a third party.
#[must_use]
pub fn audience(tenant: Option<&Tenant>, facts: &Facts) -> Audience {
    if facts.kind == Kind::Notification {
        return Audience::Nobody("it is a notification itself");
    }
    // RFC 5321 section 6.1: the null reverse-path is never answered, whoever else might like to know.
    let Some(from) = &facts.envelope.from else { return Audience::Nobody("its reverse-path is null") };
    let Some(tenant) = tenant else { return Audience::Nobody("its tenant is gone") };
    if !tenant.notify.is_empty() {
        return Audience::Told { to: tenant.notify.clone(), sender: tenant.notify == [from.clone()] };
    }
    match tenant.owns(from.domain()) {
        Some(_) => Audience::Told { to: vec![from.clone()], sender: true },
        None => Audience::Nobody("its sender is not the tenant's own, and the tenant names nobody to tell"),
    }
}

/// Whether the sender wants this said of this recipient (RFC 3461 section 4.1).
#[must_use]
pub fn wanted(notify: Notify, action: Action) -> bool {
    match action {
        Action::Failed => notify.failure,
        Action::Delayed => notify.delay,
        Action::Relayed => notify.success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::bounce::fixture;

    #[test]
    fn table() {
        let tell = |address: &str, sender| Audience::Told { to: vec![address.parse().unwrap()], sender };
        let own = fixture::tenant("acme", "acme.test", &[]);
        let named = fixture::tenant("acme", "acme.test", &["desk@help.test"]);
        let mail = fixture::facts("acme", Some("noreply@acme.test"), &["bob@example.test"]);
        let foreign = fixture::facts("acme", Some("noreply@other.test"), &["bob@example.test"]);
        let null = fixture::facts("acme", None, &["bob@example.test"]);
        let notification = Facts { kind: Kind::Notification, ..mail.clone() };
        let rows = [
            (Some(&own), &mail, tell("noreply@acme.test", true), "its sender, in the tenant's domain"),
            (Some(&named), &mail, tell("desk@help.test", false), "whom the tenant names"),
            (Some(&named), &foreign, tell("desk@help.test", false), "also where the sender is not its own"),
        ];
        for (tenant, facts, expected, why) in rows {
            assert_eq!(audience(tenant, facts), expected, "{why}");
        }
        let nobody = [
            (Some(&own), &foreign, "QU4: no backscatter"),
            (Some(&named), &null, "QU2: the null reverse-path"),
            (Some(&named), &notification, "QU3: stops after one"),
            (None, &mail, "its tenant is gone"),
        ];
        for (tenant, facts, why) in nobody {
            assert!(matches!(audience(tenant, facts), Audience::Nobody(_)), "{why}");
        }
    }
}
