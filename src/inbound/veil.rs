//! What a class hides of its mail is hidden in what comes back about it too. Mostly the queue has forgotten the message by then, and
//! the log alone knows its class: such a report is shown as if the message were of every class of the tenant.

use super::report::Status;
use crate::config::Classes;
use crate::config::class::Hides;
use crate::deliver::redact::Veil;
use crate::mail::message::Message;

/// Hides in what other servers said, and answers what must not be shown of the header section that came back. That one stays
/// whole here: who is told is read from it.
pub(super) fn hide(status: &mut Status, known: Option<&Message>, classes: &Classes) -> Hides {
    let hides = match known {
        Some(message) => classes.hides(message.facts.class.as_ref()),
        None => classes.hides_of_any(),
    };
    let returned = status.returned.as_deref().unwrap_or_default();
    let veil = Veil::new(hides, known.map_or(returned, |message| &message.body));
    for one in &mut status.recipients {
        let mut text = std::mem::take(&mut one.text).into_bytes();
        veil.text(&mut text);
        // What a link is cut to, and what is put in its place, end between characters.
        one.text = String::from_utf8_lossy(&text).into_owned();
    }
    hides
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::bounce::fixture;
    use crate::inbound::report::{Action, Reported};
    use crate::mail::class::{By, Classed};
    use crate::mail::message::Facts;

    const SAID: &str = "Reset your password: https://acme.test/r?oobCode=S3CRET refused";
    const HEAD: &str = "From: a@acme.test\r\nSubject: Reset your password\r\n\r\n";

    fn status() -> Status {
        let one = Reported {
            original: None,
            last: None,
            action: Action::Failed,
            status: None,
            code: 550,
            text: SAID.to_owned(),
            remote: None,
        };
        let returned = Some(HEAD.trim_end().as_bytes().to_vec().into());
        Status { reporting: None, recipients: vec![one], returned }
    }

    fn message(class: Option<&str>) -> Message {
        let class = class.map(|name| Classed { name: name.into(), by: By::Login });
        let facts = Facts { class, ..fixture::facts("acme", Some("a@acme.test"), &["b@c.test"]) };
        Message { facts, body: HEAD.as_bytes().into() }
    }

    #[test]
    fn what_is_shown_of_a_report() {
        let all = "[hidden]: https://acme.test/[hidden] refused";
        let subject = "[hidden]: https://acme.test/r?oobCode=S3CRET refused";
        for (known, expected, why) in [
            (None, all, "nobody knows the class: it may have been a reset"),
            (Some(message(Some("password_reset"))), all, "a reset"),
            (Some(message(Some("w9"))), subject, "a class that hides the subject alone"),
            (Some(message(Some("reward"))), SAID, "a class that hides nothing"),
            (Some(message(None)), SAID, "known to have no class"),
        ] {
            let mut status = status();
            hide(&mut status, known.as_ref(), &Classes::default());
            assert_eq!(status.recipients[0].text, expected, "{why}");
        }
    }
}
