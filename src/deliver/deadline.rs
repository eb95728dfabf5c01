//! A message's time (RFC 2852) towards the next server: what is left of it goes along, and with mode R nothing is handed to a server
//! that promises nothing. Pure.

use super::extensions::Extensions;
use super::outcome::{Scope, Trouble};
use crate::mail::deliver_by::{By, Mode};
use crate::mail::message::Facts;
use crate::mail::reply::Enhanced;
use crate::mail::time::Time;

/// RFC 3463 section 3.5: delivery time expired.
const EXPIRED: Enhanced = Enhanced(5, 4, 7);

/// What the next server is told of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Behind MAIL.
    pub(super) by: Option<By>,
    /// Whether each RCPT asks for word of a delay: with mode N, where the server keeps no time and some is left.
    pub(super) delay: bool,
}

/// What goes along with the message.
///
/// # Errors
/// RFC 2852 section 4.1.4.1: with mode R the message must not be handed to this server. Another one may do.
pub(super) fn passed_on(facts: &Facts, offered: &Extensions, now: Time) -> Result<Passed, Trouble> {
    let Some(until) = &facts.deliver_by else { return Ok(Passed::default()) };
    let left = until.left(now);
    match (until.mode, offered.deliver_by) {
        // RFC 2852 section 4.1.4.2.
        (Mode::Notify, None) => Ok(Passed { by: None, delay: left.seconds > 0 }),
        (Mode::Notify, Some(_)) => Ok(Passed { by: Some(left), delay: false }),
        (Mode::Return, _) if left.seconds <= 0 => {
            let text = "the time that its sender set (BY) is over";
            Err(Trouble::permanent(Scope::Message, EXPIRED, text))
        }
        (Mode::Return, None) => {
            let text = "the server does not offer DELIVERBY, and its sender wants the message back rather than late (BY with mode R)";
            Err(Trouble::permanent(Scope::Host, EXPIRED, text))
        }
        (Mode::Return, Some(least)) if left.seconds < least => {
            let seconds = left.seconds;
            let text = format!(
                "the server delivers within {least} seconds, and {seconds} are left of the time that its sender set (BY)"
            );
            Err(Trouble::permanent(Scope::Host, EXPIRED, text))
        }
        (Mode::Return, Some(_)) => Ok(Passed { by: Some(left), delay: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::bounce::fixture;

    #[test]
    fn what_goes_along_and_what_stays() {
        let row = |by: Option<&str>, offered: Option<i64>, now: u64| {
            let mut facts = fixture::facts("acme", None, &["b@b.test"]);
            facts.deliver_by = by.map(|by| by.parse::<By>().unwrap().from(Time(1_000_000)));
            let offered = Extensions { deliver_by: offered, ..Extensions::default() };
            let passed = passed_on(&facts, &offered, Time(1_000_000 + now * 1_000));
            let said = |passed: Passed| (passed.by.map(|by| by.to_string()), passed.delay);
            passed.map(said).map_err(|trouble| trouble.scope)
        };
        let said = |text: &str| Ok((Some(text.to_owned()), false));
        let nothing = |delay: bool| Ok((None, delay));
        for (by, offered, now, expected, why) in [
            (None, None, 0, nothing(false), "nobody asked"),
            (Some("60;N"), Some(0), 10, said("50;N"), "what is left"),
            (Some("60;NT"), Some(0), 70, said("-10;NT"), "it goes on, also when it is over"),
            (Some("60;N"), Some(300), 10, said("50;N"), "the minimum is for mode R"),
            (Some("60;N"), None, 10, nothing(true), "not offered: the sender is told that it was handed on"),
            (Some("60;N"), None, 60, nothing(false), "not offered, and over: the delay has been told of"),
            (Some("60;R"), Some(0), 10, said("50;R"), "what is left"),
            (Some("60;RT"), Some(50), 10, said("50;RT"), "just enough"),
            (Some("60;R"), Some(51), 10, Err(Scope::Host), "less than it wants: another one may do"),
            (Some("60;R"), None, 10, Err(Scope::Host), "not offered: another one may do"),
            (Some("60;R"), Some(0), 60, Err(Scope::Message), "over: no server will do"),
        ] {
            assert_eq!(row(by, offered, now), expected, "{why}");
        }
    }
}
