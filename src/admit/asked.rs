//! What an administrator asked for mail of its class, decided once, when it is accepted. Only a class that is certain is asked:
//! a guess never shortens a mail's life, supersedes it or takes a recipient away.

use std::collections::HashSet;
use std::time::Duration;

use crate::config::{Class, Classes, Config};
use crate::mail::class::Classed;
use crate::mail::deliver_by::{DeliverBy, Mode};
use crate::mail::envelope::Envelope;
use crate::mail::header::Headers;
use crate::mail::mailbox::mailboxes;
use crate::mail::message::Asked;
use crate::mail::time::Time;
use crate::suppress::Links;

/// What becomes of a message, and how long the queue keeps it: `give_up`, or its useful life if that is shorter.
pub(super) fn of(
    classes: &Classes,
    classed: Option<&Classed>,
    (headers, envelope): (&Headers<'_>, &Envelope),
    give_up: Duration,
) -> (Asked, Duration) {
    let Some(class) = classes.certain(classed) else { return (Asked::default(), give_up) };
    let life = class.life.filter(|life| *life < give_up);
    let extra = if class.drop_bcc { extra(headers, envelope) } else { Vec::new() };
    (Asked { life: life.is_some(), supersede: class.supersede, extra }, life.unwrap_or(give_up))
}

/// When the queue is done with it: at the end of its life, or of its sender's time where that wants it back (RFC 2852, mode R).
pub(super) fn expires((now, life): (Time, Duration), deliver_by: Option<DeliverBy>) -> Time {
    let returned = deliver_by.filter(|by| by.mode == Mode::Return).map(|by| by.at);
    let end = now.after(life);
    returned.map_or(end, |returned| returned.min(end))
}

/// The link by which the one recipient of a message unsubscribes from its class. A message with several has one header for all of
/// them, and whoever pressed the button would take the mail from the others.
pub(super) fn link(
    links: &Links,
    config: &Config,
    (tenant, class): (&str, Option<&Class>),
    envelope: &Envelope,
) -> Option<String> {
    let base = &config.unsubscribe.as_ref()?.base_url;
    let class = class.filter(|class| class.one_click)?;
    let [only] = envelope.rcpts.as_slice() else { return None };
    Some(format!("{base}/{}", links.token(tenant, &class.name, &only.address)))
}

/// The recipients that stand in no To or Cc. None where nobody stands there, or where a field cannot be read for certain: then
/// nothing tells for whom the mail is.
pub(super) fn extra(headers: &Headers<'_>, envelope: &Envelope) -> Vec<u16> {
    named(headers).map_or(Vec::new(), |named| {
        let at = |(at, rcpt): (u16, &crate::mail::envelope::Recipient)| {
            (!named.contains(&rcpt.address.to_string().to_lowercase())).then_some(at)
        };
        let extra: Vec<u16> = (0_u16..).zip(&envelope.rcpts).filter_map(at).collect();
        if extra.len() < envelope.rcpts.len() { extra } else { Vec::new() }
    })
}

fn named(headers: &Headers<'_>) -> Option<HashSet<String>> {
    // RFC 5322 section 3.6.6: a resent message goes to whom the Resent fields name.
    if ["Resent-To", "Resent-Cc", "Resent-Bcc"].iter().any(|name| headers.first(name).is_some()) {
        return None;
    }
    let mut named = HashSet::new();
    for field in ["To", "Cc"].iter().flat_map(|name| headers.all(name)) {
        let value = std::str::from_utf8(field.value()).ok()?.replace("\r\n", "");
        named.extend(mailboxes(&value).ok()?.iter().map(|address| address.to_string().to_lowercase()));
    }
    Some(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Class;
    use crate::mail::class::By;
    use crate::mail::envelope::{Notify, Recipient};

    const DAY: Duration = Duration::from_secs(86_400);

    fn envelope(rcpts: &[&str]) -> Envelope {
        let rcpt = |text: &&str| Recipient {
            address: text.parse().unwrap(),
            orcpt: None,
            notify: Notify::default(),
        };
        Envelope { from: None, rcpts: rcpts.iter().map(rcpt).collect(), ret: None, envid: None }
    }

    #[test]
    fn who_is_extra() {
        let rcpts = ["bob@there.test", "staff@acme.test"];
        let rows: [(&str, &[&str], &[u16], &str); 10] = [
            ("To: Bob <BOB@There.test>\r\n", &rcpts, &[1], "a copy to staff; case counts for nothing"),
            (
                "To: bob@there.test\r\nCc: x@y.test,\r\n staff@acme.test\r\n",
                &rcpts,
                &[],
                "in Cc, folded: everybody sees it",
            ),
            (
                "To: bob@there.test\r\n",
                &rcpts[1..],
                &[],
                "never the last recipient: the copy is a message of its own",
            ),
            ("To: eve@else.test\r\n", &rcpts, &[], "nobody stands there: nothing tells for whom it is"),
            ("Subject: x\r\n", &rcpts, &[], "no To at all"),
            ("To: undisclosed-recipients:;\r\n", &rcpts, &[], "a group names nobody"),
            ("To: bob@there.test, (\r\n", &rcpts, &[], "it cannot be read for certain"),
            ("To: bob@there.test\r\nResent-To: staff@acme.test\r\n", &rcpts, &[], "resent"),
            ("To: a@b.test\r\nTo: bob@there.test\r\n", &rcpts, &[1], "every To counts"),
            ("To: \"staff@acme.test\" <bob@there.test>\r\n", &rcpts, &[1], "a display name is no recipient"),
        ];
        for (head, rcpts, expected, why) in rows {
            let text = format!("{head}\r\n");
            let headers = Headers::parse(text.as_bytes(), text.len()).unwrap();
            assert_eq!(extra(&headers, &envelope(rcpts)), expected, "{why}");
        }
    }

    #[test]
    fn only_a_certain_class_that_asks_and_one_reader_have_a_link() {
        let mut config = Config::new("relay.test".parse().unwrap(), std::path::Path::new("/nowhere"));
        let links = Links::new(&[7; crate::fsx::SECRET]);
        let class =
            |one_click| Class { one_click, ..Classes::default().find("program_email").unwrap().clone() };
        let (one, two) = (envelope(&["bob@there.test"]), envelope(&["bob@there.test", "amy@there.test"]));
        let made = |config: &Config, class: Option<&Class>, envelope: &Envelope| {
            link(&links, config, ("acme", class), envelope)
        };
        let asking = class(true);
        assert_eq!(made(&config, Some(&asking), &one), None, "nowhere to lead to");
        let base_url = "https://u.test".to_owned();
        config.unsubscribe =
            Some(crate::config::Unsubscribe { address: ([127, 0, 0, 1], 1).into(), base_url, tls: false });
        let link = made(&config, Some(&asking), &one).unwrap();
        let read = links.read(link.strip_prefix("https://u.test/").unwrap()).unwrap();
        assert_eq!(
            (read.address.to_string().as_str(), read.class.as_str()),
            ("bob@there.test", "program_email")
        );
        assert_eq!(made(&config, Some(&asking), &two), None, "two readers");
        assert_eq!(made(&config, Some(&class(false)), &one), None, "it does not ask");
        assert_eq!(made(&config, None, &one), None, "no class, or none that is certain");
    }

    /// The rule about loss: whatever a guess says, the mail is kept as if nothing had told its class.
    #[test]
    fn a_guess_asks_for_nothing() {
        let all: Vec<Class> = Classes::default().iter().cloned().collect();
        let asking = |class: Class| Class {
            life: Some(Duration::from_secs(3_000)),
            supersede: true,
            drop_bcc: true,
            ..class
        };
        let classes = Classes::new(all.into_iter().map(asking).collect()).with_default(Some("w9"));
        let text = b"To: bob@there.test\r\n\r\n";
        let headers = Headers::parse(text, text.len()).unwrap();
        let envelope = envelope(&["bob@there.test", "staff@acme.test"]);
        for by in By::ALL {
            let classed = Classed { name: "password_reset".into(), by };
            let (asked, life) = of(&classes, Some(&classed), (&headers, &envelope), DAY);
            if by.is_certain() {
                assert_eq!(asked, Asked { life: true, supersede: true, extra: vec![1] }, "{by}");
                assert_eq!(life, Duration::from_secs(3_000), "{by}");
            } else {
                assert_eq!((asked, life), (Asked::default(), DAY), "{by} is not certain");
            }
        }
        assert_eq!(of(&classes, None, (&headers, &envelope), DAY), (Asked::default(), DAY));
        let gone = Classed { name: "gone".into(), by: By::Login };
        assert_eq!(of(&classes, Some(&gone), (&headers, &envelope), DAY).1, DAY, "a class of the past");
        let login = Classed { name: "w9".into(), by: By::Login };
        let (asked, life) = of(&classes, Some(&login), (&headers, &envelope), Duration::from_secs(60));
        assert_eq!(
            (asked.life, life),
            (false, Duration::from_secs(60)),
            "the queue's life is the shorter one"
        );
    }
}
