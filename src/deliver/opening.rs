//! How a session begins, up to the first MAIL: greeting, EHLO (or HELO), STARTTLS, AUTH. Sans-io: a reply goes in, the next
//! step comes out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::transport::smtp::authentication::Mechanism;

use super::auth::Auth;
use super::extensions::Extensions;
use super::outcome::{Permanence, Scope, Trouble};
use crate::mail::reply::{Enhanced, PeerReply};

/// The longest command line (RFC 5321 section 4.5.3.1.4); a longer initial response waits for its 334 (RFC 4954 section 4).
const COMMAND_MAX: usize = 512;

/// What the session must come to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Our name.
    pub hostname: String,
    /// How STARTTLS is used.
    pub starttls: Starttls,
    /// Who logs in.
    pub auth: Option<Auth>,
    /// HELO at once: EHLO was tried on an earlier connection, and the server hung up.
    pub helo: bool,
}

impl Plan {
    /// Whether it comes to nothing without what only EHLO brings: STARTTLS and AUTH.
    #[must_use]
    pub fn needs_ehlo(&self) -> bool {
        self.auth.is_some() || matches!(self.starttls, Starttls::Required(_))
    }
}

/// How STARTTLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starttls {
    /// Not at all.
    Never,
    /// Where it is offered.
    IfOffered,
    /// Without it there is no session; what can be done about that.
    Required(&'static str),
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Write this and read a reply.
    Send(Vec<u8>),
    /// Begin the TLS handshake, then call `secured`.
    StartTls,
    /// MAIL may follow.
    Ready(Extensions),
    /// It comes to nothing.
    Trouble(Trouble),
}

/// The machine.
#[derive(Debug)]
pub struct Opening {
    plan: Plan,
    state: State,
    secure: bool,
    offered: Extensions,
    /// What a 334 said of a token that is refused.
    challenge: Vec<u8>,
}

/// Which reply is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    Starttls,
    Plain {
        sent: bool,
    },
    /// AUTH PLAIN was given up.
    Cancelled,
    Login {
        step: usize,
    },
    Bearer(Bearer),
}

/// How far XOAUTH2 has come (developers.google.com/gmail/imap/xoauth2-protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bearer {
    /// The token is too long for the command, and waits for a 334.
    Asked,
    /// The token is sent. A 334 now is an error, in JSON; its end is awaited with an empty line.
    Sent,
    /// The error has come, and the reply that ends it is awaited.
    Ended,
}

/// What AUTH LOGIN asks for, in the order in which every server asks.
const LOGIN_CHALLENGES: [&str; 2] = ["Username", "Password"];

impl Opening {
    /// Awaits the greeting. `secure`: TLS is up already (implicit TLS).
    #[must_use]
    pub fn new(plan: Plan, secure: bool) -> Self {
        Self { plan, state: State::Greeting, secure, offered: Extensions::default(), challenge: Vec::new() }
    }

    /// Whether EHLO's reply is awaited: a server that hangs up here may know HELO only.
    #[must_use]
    pub fn awaits_ehlo(&self) -> bool {
        self.state == State::Ehlo
    }

    /// Whether AUTH has been said, and its outcome is awaited.
    #[must_use]
    pub fn logs_in(&self) -> bool {
        matches!(self.state, State::Plain { .. } | State::Cancelled | State::Login { .. } | State::Bearer(_))
    }

    /// What was awaited, for the log.
    #[must_use]
    pub fn awaited(&self) -> &'static str {
        match self.state {
            State::Greeting => "the greeting",
            State::Ehlo => "the reply to EHLO",
            State::Helo => "the reply to HELO",
            State::Starttls => "the reply to STARTTLS",
            State::Plain { .. } | State::Cancelled | State::Login { .. } | State::Bearer(_) => {
                "the reply to AUTH"
            }
        }
    }

    /// TLS is up: everything heard before is forgotten (RFC 3207 section 4.2).
    pub fn secured(&mut self) -> Step {
        self.secure = true;
        self.offered = Extensions::default();
        self.greet()
    }

    /// A reply has arrived.
    pub fn on_reply(&mut self, mut reply: PeerReply) -> Step {
        self.hide(&mut reply.text);
        match self.state {
            State::Greeting => self.on_greeting(reply),
            State::Ehlo => self.on_ehlo(reply),
            State::Helo if is_success(&reply) => self.secure_or_authenticate(),
            State::Helo => refused(Scope::Host, reply),
            State::Starttls => self.on_starttls(reply),
            State::Plain { sent } => self.on_plain(reply, sent),
            State::Cancelled => cancelled(&reply),
            State::Login { step } => self.on_login(reply, step),
            State::Bearer(bearer) => self.on_bearer(reply, bearer),
        }
    }

    /// RFC 5321 section 3.1: 220, or the host does not serve us; 554 says that it never will.
    fn on_greeting(&mut self, reply: PeerReply) -> Step {
        if reply.code == 220 { self.greet() } else { refused(Scope::Host, reply) }
    }

    fn greet(&mut self) -> Step {
        let verb = if self.plan.helo { "HELO" } else { "EHLO" };
        self.state = if self.plan.helo { State::Helo } else { State::Ehlo };
        Step::Send(format!("{verb} {}\r\n", self.plan.hostname).into_bytes())
    }

    /// RFC 5321 section 3.2: a server that does not know EHLO says 500 or 502 (some say 501, 504 or 550), and gets HELO.
    fn on_ehlo(&mut self, reply: PeerReply) -> Step {
        if is_success(&reply) {
            self.offered = Extensions::parse(&reply.text);
            return self.secure_or_authenticate();
        }
        if matches!(reply.code, 500..=504 | 550) {
            self.plan.helo = true;
            return self.greet();
        }
        refused(Scope::Host, reply)
    }

    fn secure_or_authenticate(&mut self) -> Step {
        let wanted = !self.secure && self.plan.starttls != Starttls::Never;
        if wanted && self.offered.starttls {
            self.state = State::Starttls;
            return Step::Send(b"STARTTLS\r\n".to_vec());
        }
        if wanted && let Starttls::Required(advice) = self.plan.starttls {
            let text = format!("the server offers no STARTTLS{advice}");
            return Step::Trouble(Trouble::permanent(Scope::Host, Enhanced(4, 7, 10), text));
        }
        self.authenticate()
    }

    /// Refused where it was only wanted: the session goes on in clear text (RFC 3207 section 4 leaves that to us).
    fn on_starttls(&mut self, reply: PeerReply) -> Step {
        if reply.code == 220 {
            return Step::StartTls;
        }
        if reply.code == 421 {
            return refused(Scope::Host, reply);
        }
        // In our own words: the host is well, and others may have mail for it that needs no TLS.
        if let Starttls::Required(advice) = self.plan.starttls {
            let text = format!("STARTTLS is refused: {} {}{advice}", reply.code, reply.escaped());
            let permanence = if reply.code >= 500 { Permanence::Permanent } else { Permanence::Transient };
            let reply = PeerReply::local(Enhanced(4, 7, 10), text);
            return Step::Trouble(Trouble { scope: Scope::Host, permanence, reply });
        }
        self.authenticate()
    }

    fn authenticate(&mut self) -> Step {
        let Some(auth) = &self.plan.auth else {
            return Step::Ready(self.offered.clone());
        };
        if !self.secure && !auth.cleartext {
            return unauthenticated(
                "no TLS, and the tenant's route does not allow the password in clear text: set tls, or \
                 cleartext_auth = true",
            );
        }
        if auth.bearer {
            if self.offered.auth_xoauth2 {
                return self.begin_bearer();
            }
            return unauthenticated("the upstream offers no AUTH XOAUTH2 here: check host, port and tls");
        }
        if self.offered.auth_plain {
            self.begin_plain()
        } else if self.offered.auth_login {
            self.state = State::Login { step: 0 };
            Step::Send(b"AUTH LOGIN\r\n".to_vec())
        } else {
            unauthenticated(
                "the upstream offers neither AUTH PLAIN nor AUTH LOGIN here: check host, port and tls",
            )
        }
    }

    fn begin_plain(&mut self) -> Step {
        let line = format!("AUTH PLAIN {}\r\n", self.response(Mechanism::Plain, None));
        let sent = line.len() <= COMMAND_MAX;
        self.state = State::Plain { sent };
        Step::Send(if sent { line.into_bytes() } else { b"AUTH PLAIN\r\n".to_vec() })
    }

    fn on_plain(&mut self, reply: PeerReply, sent: bool) -> Step {
        if reply.code == 334 && !sent {
            self.state = State::Plain { sent: true };
            return Step::Send(format!("{}\r\n", self.response(Mechanism::Plain, None)).into_bytes());
        }
        // It has all there is (RFC 4616 section 2), and asks for more: that is no word on the password. RFC 4954 section 4.
        if reply.code == 334 {
            self.state = State::Cancelled;
            return Step::Send(b"*\r\n".to_vec());
        }
        self.finish_auth(reply)
    }

    fn begin_bearer(&mut self) -> Step {
        let line = format!("AUTH XOAUTH2 {}\r\n", self.response(Mechanism::Xoauth2, None));
        if line.len() <= COMMAND_MAX {
            self.state = State::Bearer(Bearer::Sent);
            return Step::Send(line.into_bytes());
        }
        self.state = State::Bearer(Bearer::Asked);
        Step::Send(b"AUTH XOAUTH2\r\n".to_vec())
    }

    fn on_bearer(&mut self, reply: PeerReply, bearer: Bearer) -> Step {
        match bearer {
            Bearer::Asked if reply.code == 334 => {
                self.state = State::Bearer(Bearer::Sent);
                Step::Send(format!("{}\r\n", self.response(Mechanism::Xoauth2, None)).into_bytes())
            }
            Bearer::Sent if reply.code == 334 => {
                self.state = State::Bearer(Bearer::Ended);
                // What it says, if it can be read; the code comes with the next reply.
                let mut challenge = BASE64.decode(&reply.text).unwrap_or_default();
                self.hide(&mut challenge);
                self.challenge = challenge;
                Step::Send(b"\r\n".to_vec())
            }
            Bearer::Ended if reply.code != 235 => {
                let mut text = reply.text;
                if !self.challenge.is_empty() {
                    text.push(b' ');
                    text.append(&mut self.challenge);
                }
                self.finish_auth(PeerReply { text, ..reply })
            }
            Bearer::Asked | Bearer::Sent | Bearer::Ended => self.finish_auth(reply),
        }
    }

    fn on_login(&mut self, reply: PeerReply, step: usize) -> Step {
        // The challenge's words vary and are not looked at: a server that asks otherwise gets what it would have got.
        match LOGIN_CHALLENGES.get(step) {
            Some(challenge) if reply.code == 334 => {
                self.state = State::Login { step: step + 1 };
                let answer = self.response(Mechanism::Login, Some(challenge));
                Step::Send(format!("{answer}\r\n").into_bytes())
            }
            Some(_) | None => self.finish_auth(reply),
        }
    }

    fn response(&self, mechanism: Mechanism, challenge: Option<&str>) -> String {
        self.plan.auth.as_ref().map(|auth| auth.response(mechanism, challenge)).unwrap_or_default()
    }

    /// Hides our secrets in a reply: from AUTH on a server may quote what it got, and its replies go into logs, transcripts and
    /// notifications. `on_reply` does so by itself.
    pub fn hide(&self, text: &mut Vec<u8>) {
        if let Some(auth) = self.plan.auth.as_ref().filter(|_| self.logs_in()) {
            auth.hide(text);
        }
    }

    /// Whatever is wrong with the credentials, the tenant can mend it: nothing bounces (OB7).
    fn finish_auth(&self, reply: PeerReply) -> Step {
        if reply.code == 235 {
            return Step::Ready(self.offered.clone());
        }
        if reply.code == 421 || (400..500).contains(&reply.code) {
            return refused(Scope::Session, reply);
        }
        let words = match self.plan.auth.as_ref().is_some_and(|auth| auth.bearer) {
            false => {
                "the upstream does not accept the user name and password: set them anew in the tenant's route; it said: "
            }
            true => "the upstream does not accept the access token: grant access anew; it said: ",
        };
        let text = [words.as_bytes(), &reply.text].concat();
        let reply = PeerReply { text, ..reply };
        Step::Trouble(Trouble { scope: Scope::Session, permanence: Permanence::Permanent, reply })
    }
}

fn is_success(reply: &PeerReply) -> bool {
    (200..300).contains(&reply.code)
}

/// A refusal, or an answer that fits no question: either way the session is over.
fn refused(scope: Scope, reply: PeerReply) -> Step {
    if reply.code >= 400 {
        return Step::Trouble(Trouble::replied(scope, reply));
    }
    Step::Trouble(Trouble { scope, permanence: Permanence::Transient, reply })
}

fn cancelled(reply: &PeerReply) -> Step {
    let text = format!(
        "the upstream asked for more than AUTH PLAIN has, and when that was cancelled said: {} {}",
        reply.code,
        reply.escaped()
    );
    Step::Trouble(Trouble::transient(Scope::Session, Enhanced(4, 7, 0), text))
}

fn unauthenticated(text: &str) -> Step {
    Step::Trouble(Trouble::permanent(Scope::Session, Enhanced(4, 7, 0), text))
}
