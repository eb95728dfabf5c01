//! One mail transaction, from MAIL to the reply to the final dot. Sans-io: the driver writes what `commands` gives it and
//! brings the replies, one by one; each recipient's fate comes out with the reply that decides it.
//!
//! With PIPELINING, MAIL, all RCPT and DATA go out in one write (RFC 2920 section 3.1), and every one of their replies is
//! looked at. Bodies go by DATA even where CHUNKING is offered: one BDAT behind the RCPTs would save a round trip, but
//! sends the whole body before it is known whether anybody is accepted, and stuffing costs next to nothing (body.rs).

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::deadline::{self, Passed};
use super::extensions::Extensions;
use super::outcome::{Scope, Trouble};
use crate::mail::envelope::{Envelope, Recipient, Ret};
use crate::mail::message::{Message, TlsNeed};
use crate::mail::reply::{Enhanced, PeerReply};
use crate::mail::time::Time;

/// Recipients of one transaction; more follow in further ones. What a server must take (RFC 5321 section 4.5.3.1.8), and
/// few enough that the replies to a whole group fit into a socket's buffer (RFC 2920 section 3.1).
pub const RECIPIENTS_MAX: usize = 100;

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write `commands`, if there are any, and read a reply.
    Read,
    /// Write the message, dot-stuffed, and read a reply.
    Body,
    /// Write a lone dot, and read a reply: DATA went through, but nobody is left to receive (RFC 2920 section 3.1).
    LoneDot,
    /// The transaction is over.
    Over,
}

/// Which reply is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Await {
    /// To RSET, which clears away what the transaction before left.
    Rset,
    /// To MAIL.
    Mail,
    /// To the RCPT of this index into the envelope.
    Rcpt(u16),
    /// To DATA.
    Data,
    /// To the final dot.
    Dot,
    /// To a lone dot.
    LoneDot,
}

/// A decision about recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whom it concerns, as indices into the envelope.
    pub rcpts: Vec<u16>,
    /// The 250, or what went wrong.
    pub result: Result<PeerReply, Trouble>,
}

/// The machine.
#[derive(Debug)]
pub struct Conversation<'a> {
    message: &'a Message,
    offered: &'a Extensions,
    time: Passed,
    unsent: VecDeque<Await>,
    awaited: VecDeque<Await>,
    mail_refused: bool,
    accepted: Vec<u16>,

    /// Whether the server still holds a transaction that was begun and not ended.
    open: bool,
}

impl<'a> Conversation<'a> {
    /// A transaction for these recipients, at most `RECIPIENTS_MAX` of them, that begins now. `reset`: begin with RSET.
    ///
    /// # Errors
    /// The server cannot carry the message; nothing need be sent to find out.
    pub fn new(
        message: &'a Message,
        rcpts: &[u16],
        offered: &'a Extensions,
        (reset, now): (bool, Time),
    ) -> Result<Self, Trouble> {
        check_needs(message, offered)?;
        let time = deadline::passed_on(&message.facts, offered, now)?;
        let mut unsent = VecDeque::with_capacity(rcpts.len() + 3);
        if reset {
            unsent.push_back(Await::Rset);
        }
        unsent.push_back(Await::Mail);
        unsent.extend(rcpts.iter().map(|rcpt| Await::Rcpt(*rcpt)));
        unsent.push_back(Await::Data);
        Ok(Self {
            message,
            offered,
            time,
            unsent,
            awaited: VecDeque::new(),
            mail_refused: false,
            accepted: Vec::new(),
            open: false,
        })
    }

    /// What is to be written now: everything that may go in one group, else one command. Empty while replies are due.
    pub fn commands(&mut self) -> String {
        let mut out = String::new();
        let group = if self.offered.pipelining { self.unsent.len() } else { 1 };
        if self.awaited.is_empty() {
            for command in self.unsent.drain(..group.min(self.unsent.len())) {
                write_command(&mut out, command, self.message, (self.offered, self.time));
                self.awaited.push_back(command);
            }
        }
        out
    }

    /// The reply awaited now, for timeouts and the log.
    #[must_use]
    pub fn awaited(&self) -> Option<Await> {
        self.awaited.front().copied()
    }

    /// Whether the next transaction on this connection must begin with RSET.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.open
    }

    /// A reply has arrived: what it decides, and what is next.
    ///
    /// # Errors
    /// The session is over: 421, or an answer that fits no question. All undecided share the trouble.
    pub fn on_reply(&mut self, reply: PeerReply) -> Result<(Option<Verdict>, Step), Trouble> {
        let Some(answered) = self.awaited.pop_front() else {
            return Err(unfit(reply));
        };
        if reply.code == 421 {
            return Err(Trouble::replied(Scope::Session, reply));
        }
        let verdict = match answered {
            Await::Rset => self.on_rset(reply)?,
            Await::Mail => self.on_mail(reply)?,
            Await::Rcpt(rcpt) => self.on_rcpt(rcpt, reply)?,
            Await::Data => return self.on_data(reply),
            Await::Dot => return self.on_dot(reply),
            Await::LoneDot => {
                // Whatever it says, nobody was to receive anything.
                self.open = false;
                return Ok((None, Step::Over));
            }
        };
        Ok((verdict, self.after_command()))
    }

    /// Without PIPELINING nothing more is sent once nobody can be accepted.
    fn after_command(&mut self) -> Step {
        let hopeless =
            self.mail_refused || (self.accepted.is_empty() && self.unsent.front() == Some(&Await::Data));
        if self.awaited.is_empty() && hopeless {
            self.unsent.clear();
            return Step::Over;
        }
        Step::Read
    }

    fn on_rset(&self, reply: PeerReply) -> Result<Option<Verdict>, Trouble> {
        if (200..300).contains(&reply.code) { Ok(None) } else { Err(unfit(reply)) }
    }

    fn on_mail(&mut self, reply: PeerReply) -> Result<Option<Verdict>, Trouble> {
        match reply.code {
            200..300 => {
                self.open = true;
                Ok(None)
            }
            400.. => {
                self.mail_refused = true;
                let rcpts = self.rcpts_ahead();
                Ok(Some(Verdict { rcpts, result: Err(Trouble::replied(Scope::Message, reply)) }))
            }
            _ => Err(unfit(reply)),
        }
    }

    /// Everybody whose RCPT has no reply yet.
    fn rcpts_ahead(&self) -> Vec<u16> {
        let ahead = self.awaited.iter().chain(&self.unsent);
        ahead
            .filter_map(|command| match command {
                Await::Rcpt(rcpt) => Some(*rcpt),
                Await::Rset | Await::Mail | Await::Data | Await::Dot | Await::LoneDot => None,
            })
            .collect()
    }

    fn on_rcpt(&mut self, rcpt: u16, reply: PeerReply) -> Result<Option<Verdict>, Trouble> {
        if self.mail_refused {
            return Ok(None);
        }
        match reply.code {
            200..300 => self.accepted.push(rcpt),
            // Left undecided: it goes into the next transaction on this connection.
            400.. if is_too_many(&reply) && !self.accepted.is_empty() => {}
            400.. => {
                let trouble = Trouble::replied(Scope::Recipient, reply);
                return Ok(Some(Verdict { rcpts: vec![rcpt], result: Err(trouble) }));
            }
            _ => return Err(unfit(reply)),
        }
        Ok(None)
    }

    fn on_data(&mut self, reply: PeerReply) -> Result<(Option<Verdict>, Step), Trouble> {
        match reply.code {
            354 if self.mail_refused || self.accepted.is_empty() => {
                self.awaited.push_back(Await::LoneDot);
                Ok((None, Step::LoneDot))
            }
            354 => {
                self.awaited.push_back(Await::Dot);
                Ok((None, Step::Body))
            }
            400.. if self.accepted.is_empty() => Ok((None, Step::Over)),
            400.. => {
                let rcpts = std::mem::take(&mut self.accepted);
                let result = Err(Trouble::replied(Scope::Message, reply));
                Ok((Some(Verdict { rcpts, result }), Step::Over))
            }
            _ => Err(unfit(reply)),
        }
    }

    fn on_dot(&mut self, reply: PeerReply) -> Result<(Option<Verdict>, Step), Trouble> {
        self.open = false;
        let result = match reply.code {
            200..300 => Ok(reply),
            400.. => Err(Trouble::replied(Scope::Message, reply)),
            _ => return Err(unfit(reply)),
        };
        let rcpts = std::mem::take(&mut self.accepted);
        Ok((Some(Verdict { rcpts, result }), Step::Over))
    }
}

/// An answer that fits no question (RFC 5321 section 4.2): what comes after it cannot be trusted either.
fn unfit(reply: PeerReply) -> Trouble {
    let said = format!("the server's reply fits no command: {} {}", reply.code, reply.escaped());
    Trouble::transient(Scope::Session, Enhanced(4, 5, 0), said)
}

/// `452` for too many recipients; `552` once meant the same (RFC 5321 section 4.5.3.1.10), unless its enhanced code says
/// that it means this recipient (5.2.2, mailbox full).
fn is_too_many(reply: &PeerReply) -> bool {
    let plain = matches!(reply.enhanced, None | Some(Enhanced(_, 5, 3)));
    match reply.code {
        452 => reply.enhanced.is_none_or(|code| code.1 != 2),
        552 => plain,
        _ => false,
    }
}

/// RFC 1870 section 7, RFC 6152 section 3, RFC 6531 section 3.2: a message that the server cannot carry is not sent to it.
/// It was sealed as it is, so it is not converted here.
fn check_needs(message: &Message, offered: &Extensions) -> Result<(), Trouble> {
    // Another host may offer it. What has no sender is not thrown away for it (RFC 8689 section 5).
    if requires_tls(message) && !offered.require_tls && message.facts.envelope.from.is_some() {
        let text = "the server does not offer REQUIRETLS, with which the message was sent";
        return Err(Trouble::permanent(Scope::Host, Enhanced(5, 7, 30), text));
    }
    let size = u64::try_from(message.body.len()).unwrap_or(u64::MAX);
    if let Some(Some(limit)) = offered.size
        && size > limit
    {
        let text = format!("the message has {size} octets, the server takes {limit}");
        return Err(Trouble::permanent(Scope::Message, Enhanced(5, 3, 4), text));
    }
    let needs = message.facts.needs;
    if needs.smtputf8 && !offered.smtputf8 {
        let text = "an address or header is not ASCII, and the server does not offer SMTPUTF8";
        return Err(Trouble::permanent(Scope::Message, Enhanced(5, 6, 7), text));
    }
    if needs.eight_bit && !offered.eight_bit_mime {
        let text = "the message has octets over 127, and the server does not offer 8BITMIME";
        return Err(Trouble::permanent(Scope::Message, Enhanced(5, 6, 3), text));
    }
    Ok(())
}

fn requires_tls(message: &Message) -> bool {
    message.facts.needs.tls == TlsNeed::RequireTls
}

fn write_command(
    out: &mut String,
    command: Await,
    message: &Message,
    (offered, time): (&Extensions, Passed),
) {
    match command {
        Await::Rset => out.push_str("RSET"),
        Await::Mail => {
            write_mail(out, message, offered);
            if let Some(by) = time.by {
                let _ = write!(out, " BY={by}");
            }
        }
        Await::Rcpt(rcpt) => {
            if let Some(recipient) = message.facts.envelope.rcpts.get(usize::from(rcpt)) {
                write_rcpt(out, recipient, (offered, time));
            }
        }
        Await::Data => out.push_str("DATA"),
        Await::Dot | Await::LoneDot => {}
    }
    out.push_str("\r\n");
}

fn write_mail(out: &mut String, message: &Message, offered: &Extensions) {
    let Envelope { from, ret, envid, .. } = &message.facts.envelope;
    // Writing to a String cannot fail.
    let _ = match message.facts.return_path.as_ref().or(from.as_ref()) {
        Some(from) => write!(out, "MAIL FROM:<{from}>"),
        None => write!(out, "MAIL FROM:<>"),
    };
    if offered.size.is_some() {
        let _ = write!(out, " SIZE={}", message.body.len());
    }
    if message.facts.needs.eight_bit {
        out.push_str(" BODY=8BITMIME");
    }
    if message.facts.needs.smtputf8 {
        out.push_str(" SMTPUTF8");
    }
    if requires_tls(message) && offered.require_tls {
        out.push_str(" REQUIRETLS");
    }
    // RFC 6710 section 4.2; also where nobody asked for one (RFC 6758 section 3.2).
    if offered.mt_priority {
        let _ = write!(out, " MT-PRIORITY={}", message.facts.priority);
    }
    if !offered.dsn {
        return;
    }
    match ret {
        Some(Ret::Full) => out.push_str(" RET=FULL"),
        Some(Ret::Hdrs) => out.push_str(" RET=HDRS"),
        None => {}
    }
    if let Some(envid) = envid {
        out.push_str(" ENVID=");
        write_xtext(out, envid);
    }
}

fn write_rcpt(out: &mut String, recipient: &Recipient, (offered, time): (&Extensions, Passed)) {
    let _ = write!(out, "RCPT TO:<{}>", recipient.address);
    if !offered.dsn {
        return;
    }
    let notify = if time.delay { recipient.notify.with_delay() } else { recipient.notify };
    if notify.stated {
        let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
        let wanted: Vec<&str> = words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect();
        let wanted = if wanted.is_empty() { "NEVER".to_owned() } else { wanted.join(",") };
        let _ = write!(out, " NOTIFY={wanted}");
    }
    if let Some(orcpt) = &recipient.orcpt {
        let _ = write!(out, " ORCPT={orcpt}");
    }
}

/// RFC 3461 section 4: `+`, `=` and everything that is not printable ASCII as `+XX`.
fn write_xtext(out: &mut String, text: &str) {
    for octet in text.bytes() {
        match octet {
            b'!'..=b'~' if octet != b'+' && octet != b'=' => out.push(char::from(octet)),
            _ => {
                let _ = write!(out, "+{octet:02X}");
            }
        }
    }
}
