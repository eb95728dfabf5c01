//! Classify: which kind of notification a message is. Platforms set no headers, so there are seven sources, asked in order of trust; the
//! first that knows a class decides, and where a guess knows several, the most urgent. A source that is certain and contradicts itself counts
//! for nothing.
//!
//! A class recognised by what a mail says sets its turn, its first retries and what logs hide, and nothing else.

mod control;
mod link;
mod text;

use std::sync::Arc;

use mail_parser::{HeaderName, MessageParser};

pub use self::control::ControlKey;
use self::control::{Place, Reading};
use super::own::Author;
use super::refusal::Refusal;
use super::{Parts, Submission};
use crate::config::Classes;
use crate::mail::address::{Address, Domain};
use crate::mail::class::{By, Classed, words};
use crate::mail::envelope::Envelope;
use crate::mail::header::{Field, Headers};
use crate::mail::reply::Enhanced;

/// The header that names a class; it never leaves.
pub const HEADER: &str = "X-Waxseal-Class";
/// Octets of a subject that are compared.
const SUBJECT_MAX: usize = 1_000;
/// Characters that are shown of what a mail says.
const SHOWN_MAX: usize = 120;
/// RFC 3463 section 3.2: there is no such mailbox.
const NO_MAILBOX: Enhanced = Enhanced(5, 1, 1);

/// All that is known of a message before it is classed.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The tenant's classes.
    pub classes: &'a Classes,
    /// The class of the login it came by.
    pub login: Option<&'a str>,
    /// What its control addresses say.
    pub controls: &'a Controls,
    /// Its author.
    pub author: Option<&'a Address>,
    /// Its header section.
    pub headers: &'a Headers<'a>,
    /// What follows.
    pub body: &'a [u8],
}

/// The control addresses among a message's recipients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// The classes that proven ones name.
    pub classes: Vec<Arc<str>>,
    /// Those that prove nothing, and why.
    pub void: Vec<(Address, &'static str)>,
}

/// What one source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which source.
    pub by: By,
    /// All it found.
    pub found: Vec<Found>,
    /// What it comes to.
    pub class: Option<Arc<str>>,
}

/// One thing that a source found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What, for a person; no secret of the mail is in it.
    pub what: String,
    /// The class it means, if it means one.
    pub class: Option<Arc<str>>,
}

/// What was decided of a message.
pub(super) struct Told {
    pub(super) class: Option<Classed>,
    pub(super) void: Vec<(Address, &'static str)>,
}

/// The class, and by what it was recognised; sources behind the one that decides are not asked.
#[must_use]
pub fn classify(question: &Question<'_>) -> Option<Classed> {
    By::ALL.into_iter().find_map(|by| Some(Classed { name: ask(by, question).class?, by }))
}

/// Every source, asked for what it says; the first with a class is the one that decides.
#[must_use]
pub fn explain(question: &Question<'_>) -> Vec<Finding> {
    By::ALL.into_iter().map(|by| ask(by, question)).collect()
}

/// Takes the control addresses out of an envelope, and says what they say.
#[must_use]
pub fn take_controls(
    envelope: &mut Envelope,
    key: &ControlKey,
    (relay, tenant, classes): (&Domain, &str, &Classes),
) -> Controls {
    let place = Place { relay, tenant, classes };
    let mut controls = Controls::default();
    envelope.rcpts.retain(|rcpt| match key.read(&place, &rcpt.address) {
        Reading::Recipient => true,
        Reading::Class(class) => {
            controls.classes.push(class);
            false
        }
        Reading::Void(why) => {
            controls.void.push((rcpt.address.clone(), why));
            false
        }
    });
    controls
}

/// Classes what a session handed in; its control addresses are then gone from the envelope.
pub(super) fn tell(
    parts: &Parts,
    submission: &Submission,
    (headers, author): (&Headers<'_>, &Author),
    envelope: &mut Envelope,
) -> Result<Told, Refusal> {
    let tenant = &submission.tenant;
    let config = parts.config.load();
    let controls =
        take_controls(envelope, &parts.control, (&config.relay.domain, &tenant.name, &tenant.classes));
    if envelope.rcpts.is_empty() {
        let text = "a control address is never delivered to, and there is no other recipient; name one";
        return Err(Refusal::new("control", 550, NO_MAILBOX, text));
    }
    let question = Question {
        classes: &tenant.classes,
        login: submission.client.login.as_deref().and_then(|login| tenant.login_class(login)),
        controls: &controls,
        author: Some(&author.address),
        headers,
        body: submission.body.get(headers.body..).unwrap_or_default(),
    };
    Ok(Told { class: classify(&question), void: controls.void })
}

fn ask(by: By, question: &Question<'_>) -> Finding {
    let found = match by {
        By::Login => login(question),
        By::Header => headers(question),
        By::Control => {
            question.controls.classes.iter().map(|class| known("control address", class)).collect()
        }
        By::From => from(question),
        By::Link => links(question),
        By::Subject => subjects(question),
        By::Default => question
            .classes
            .default_class()
            .map(|class| known("default_class", &class.name))
            .into_iter()
            .collect(),
    };
    let named = || found.iter().filter_map(|found| found.class.as_deref());
    let contradicts = by.is_certain() && named().zip(named().skip(1)).any(|(one, next)| one != next);
    let class =
        question.classes.most_urgent(named()).filter(|_| !contradicts).map(|class| Arc::clone(&class.name));
    Finding { by, found, class }
}

fn known(what: impl Into<String>, class: &Arc<str>) -> Found {
    Found { what: what.into(), class: Some(Arc::clone(class)) }
}

fn login(question: &Question<'_>) -> Vec<Found> {
    let class = question.login.and_then(|name| question.classes.find(name));
    class.map(|class| known("class of the login", &class.name)).into_iter().collect()
}

/// Every header of the name, also those with names that no class has.
fn headers(question: &Question<'_>) -> Vec<Found> {
    let read = |field: &Field<'_>| {
        let value = String::from_utf8_lossy(field.value()).trim().to_ascii_lowercase();
        let class = question.classes.find(&value).map(|class| Arc::clone(&class.name));
        Found { what: shown(&value), class }
    };
    question.headers.all(HEADER).map(read).collect()
}

fn from(question: &Question<'_>) -> Vec<Found> {
    let Some(author) = question.author else { return Vec::new() };
    let rules = question.classes.iter().flat_map(|class| class.from.iter().map(move |rule| (class, rule)));
    rules
        .filter(|(_, rule)| rule.matches(author))
        .map(|(class, rule)| known(rule.to_string(), &class.name))
        .collect()
}

/// A rule that holds is found once, however many links it holds of.
fn links(question: &Question<'_>) -> Vec<Found> {
    let rules: Vec<_> =
        question.classes.iter().flat_map(|class| class.link.iter().map(move |rule| (class, rule))).collect();
    if rules.is_empty() {
        return Vec::new();
    }
    let mut room = link::LINKS_MAX;
    let mut all = Vec::new();
    for text in text::texts(question.headers, question.body) {
        let found = link::links(&text.octets, text.html, room);
        room = room.saturating_sub(found.len());
        all.extend(found);
    }
    let holds = |rule: &crate::config::class::LinkRule| all.iter().find(|link| link.is(rule));
    rules
        .into_iter()
        .filter_map(|(class, rule)| {
            let link = holds(rule)?;
            // Not the whole link: its parameters are the recipient's secret.
            Some(known(shown(&format!("{rule} in a link to {}", link.host)), &class.name))
        })
        .collect()
}

fn subjects(question: &Question<'_>) -> Vec<Found> {
    let Some(subject) = question.headers.first("Subject").and_then(subject) else { return Vec::new() };
    let subject = words(subject.get(..subject.floor_char_boundary(SUBJECT_MAX)).unwrap_or_default());
    let rules = question.classes.iter().flat_map(|class| class.subject.iter().map(move |rule| (class, rule)));
    rules
        .filter(|(_, rule)| rule.matches(&subject))
        .map(|(class, rule)| known(rule.to_string(), &class.name))
        .collect()
}

/// Unfolded, with its encoded words decoded.
fn subject(field: &Field<'_>) -> Option<String> {
    let parser = MessageParser::new().header_text(HeaderName::Subject).default_header_ignore();
    let section = [field.raw, b"\r\n"].concat();
    parser.parse_headers(&section)?.subject().map(str::to_owned)
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests;
