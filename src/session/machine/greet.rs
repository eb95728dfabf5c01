//! Who is there: EHLO, STARTTLS, AUTH.

use std::sync::Arc;

use super::{Hello, Login, Machine, Note, Phase, Step, replies};
use crate::config::{CleartextAuth, ListenerTls};
use crate::mail::attempt::TlsFacts;
use crate::mail::reply::Reply;
use crate::session::command::{self, Verb};
use crate::session::sasl::{self, Credentials, Exchange, Fault, Mechanism, Turn};
use crate::tenant::Tenant;

/// Refused AUTH commands before 421 (RFC 4954 section 4 leaves the number to the server; clients try two mechanisms).
const REFUSALS_MAX: u32 = 4;

impl Machine {
    pub(super) fn hello(&mut self, verb: Verb, rest: &str) {
        let Some(name) = command::name(rest) else {
            return self.fail(replies::bad_name());
        };
        let again = self.hello.greeted;
        self.hello = Hello { name: name.to_owned(), greeted: true, before_tls: false };
        // RFC 5321 section 4.1.4: EHLO is RSET too.
        self.transaction = None;
        let reply = if verb == Verb::Helo {
            Reply::bare(250, self.setting.config.hostname.as_str())
        } else {
            Reply::bare(250, self.keywords())
        };
        reply.write(&mut self.out);
        if again {
            self.count_junk();
        }
    }

    /// The EHLO reply: what is offered here and now.
    fn keywords(&self) -> String {
        let config = &self.setting.config;
        let mut text = format!(
            "{}\nPIPELINING\nSIZE {}\n8BITMIME\nENHANCEDSTATUSCODES\nDSN\nCHUNKING\nSMTPUTF8",
            config.hostname, config.limits.message_size
        );
        // RFC 6710 section 9.2: without the name of a policy clients take MIXER, whose three levels (-4, 0, 4) have lanes of their
        // own here; our four are in none that is registered. What comes back has no priority: it is read here and goes no further.
        if !self.is_inbound() {
            text.push_str("\nMT-PRIORITY\nDELIVERBY");
            // RFC 2852 section 2: the shortest time that is taken with mode R.
            let least = config.limits.deliver_by.as_secs();
            text.push_str(&if least > 0 { format!(" {least}") } else { String::new() });
        }
        if self.offers_starttls() {
            text.push_str("\nSTARTTLS");
        }
        if self.offers_auth() {
            text.push_str("\nAUTH PLAIN LOGIN");
        }
        // RFC 8689 section 2: only under TLS. What comes back is read here and goes no further.
        if self.tls.is_some() && !self.is_inbound() {
            text.push_str("\nREQUIRETLS");
        }
        text
    }

    fn offers_starttls(&self) -> bool {
        let setting = &self.setting;
        self.tls.is_none() && setting.certificate && setting.listener.tls == ListenerTls::Starttls
    }

    /// With `upgrade` AUTH is shown where it is not taken, because JavaMail and Nodemailer call a connection good that
    /// shows none, and never authenticate.
    fn offers_auth(&self) -> bool {
        if self.is_inbound() {
            return false;
        }
        let shown = match self.setting.listener.cleartext_auth {
            CleartextAuth::Hide => false,
            CleartextAuth::Upgrade => self.offers_starttls(),
            CleartextAuth::Allow => true,
        };
        self.tls.is_some() || shown
    }

    pub(super) fn starttls(&mut self, rest: &str, more: bool) -> Option<Step> {
        if !rest.is_empty() {
            self.fail(replies::no_argument());
        } else if self.tls.is_some() {
            self.fail(replies::tls_twice());
        } else if !self.offers_starttls() {
            self.fail(replies::not_implemented());
        } else if self.in_chunks() {
            self.fail(replies::in_chunks());
        } else if more {
            // RFC 3207 section 4.2, CVE-2011-0411: what came in clear text must not be taken for something secured.
            self.close(&replies::injected());
        } else {
            self.say(replies::READY_FOR_TLS);
            self.phase = Phase::Waiting;
            return Some(Step::StartTls);
        }
        None
    }

    /// The handshake is done: everything known of the client is forgotten but its name (RFC 3207 section 4.2).
    pub fn secured(&mut self, facts: TlsFacts) {
        self.tls = Some(facts);
        self.transaction = None;
        self.login = None;
        let before_tls = self.hello.greeted;
        self.hello = Hello { name: std::mem::take(&mut self.hello.name), greeted: false, before_tls };
        self.phase = Phase::Command;
    }

    pub(super) fn auth(&mut self, rest: &str) -> Option<Step> {
        let (name, initial) = match rest.split_once(' ') {
            Some((name, initial)) => (name, Some(initial)),
            None => (rest, None),
        };
        if let Some(reply) = self.auth_out_of_place() {
            self.fail(reply);
            return None;
        }
        if self.tls.is_none() && self.setting.listener.cleartext_auth != CleartextAuth::Allow {
            self.refuse_cleartext(name, initial);
            return None;
        }
        if self.tally.refusals >= REFUSALS_MAX {
            self.close(&replies::too_many_refusals());
            return None;
        }
        match Mechanism::named(name) {
            None if name.is_empty() => self.fail(replies::auth_syntax()),
            None => self.fail(replies::unknown_mechanism()),
            Some(_) if initial.is_some_and(|text| text.contains(' ')) => self.fail(replies::auth_syntax()),
            Some(mechanism) => return self.turn(sasl::begin(mechanism, initial)),
        }
        None
    }

    fn auth_out_of_place(&self) -> Option<Reply> {
        if self.is_inbound() {
            return Some(replies::not_implemented());
        }
        if !self.hello.greeted && !self.hello.before_tls {
            return Some(replies::hello_first());
        }
        if self.in_chunks() {
            return Some(replies::in_chunks());
        }
        // RFC 4954 section 4: once in a session, and not within a transaction.
        (self.login.is_some() || self.transaction.is_some()).then(replies::auth_twice)
    }

    /// The credential is not looked at, except to know whose password has now been seen by everybody on the way.
    fn refuse_cleartext(&mut self, name: &str, initial: Option<&str>) {
        let login = sasl::exposed(name, initial);
        let reply =
            if self.offers_starttls() { replies::starttls_first() } else { replies::no_cleartext_auth() };
        self.fail(&reply);
        let reason = if login.is_some() { "exposed" } else { "cleartext" };
        self.exposed = login.clone().or(self.exposed.take());
        self.notes.push(Note::Rejected { to: None, from: None, login, reply, reason });
    }

    pub(super) fn response(&mut self, exchange: Exchange, line: &[u8]) -> Option<Step> {
        self.phase = Phase::Command;
        self.turn(exchange.respond(line))
    }

    fn turn(&mut self, turn: Turn) -> Option<Step> {
        match turn {
            Turn::Ask(exchange, challenge) => {
                Reply::bare(334, challenge).write(&mut self.out);
                self.phase = Phase::Sasl(exchange);
            }
            Turn::Done(credentials) => {
                self.phase = Phase::Waiting;
                return Some(Step::Authenticate(credentials));
            }
            Turn::Fault(Fault::Malformed) => self.fail(replies::auth_malformed()),
            Turn::Fault(Fault::Aborted) => self.fail(replies::auth_aborted()),
            Turn::Fault(Fault::Refused) => self.auth_refused(None),
        }
        None
    }

    /// The credentials are right.
    pub fn authenticated(&mut self, tenant: Arc<Tenant>, name: Arc<str>, mechanism: Mechanism) {
        self.phase = Phase::Command;
        self.login = Some(Login { tenant, name, mechanism });
        self.say(replies::AUTHENTICATED);
    }

    /// They are wrong.
    pub fn auth_refused(&mut self, login: Option<String>) {
        self.phase = Phase::Command;
        self.tally.refusals += 1;
        let reply = replies::auth_refused();
        self.fail(&reply);
        self.notes.push(Note::Rejected { to: None, from: None, login, reply, reason: "auth" });
    }

    /// They were not looked at: too many guesses from there, or at that account.
    pub fn auth_throttled(&mut self, credentials: &Credentials) {
        self.phase = Phase::Command;
        self.tally.refusals += 1;
        let reply = replies::auth_throttled();
        self.fail(&reply);
        let login = Some(credentials.username.clone());
        self.notes.push(Note::Rejected { to: None, from: None, login, reply, reason: "throttled" });
    }

    /// How many AUTH commands were refused: the driver waits longer with each.
    #[must_use]
    pub fn refusals(&self) -> u32 {
        self.tally.refusals
    }
}
