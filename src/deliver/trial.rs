//! The platform's Connect button, pressed towards a tenant's next hop: connect, greeting, EHLO, TLS, AUTH, QUIT, and no MAIL. The same
//! guard, opening, TLS and login as a delivery's, so what it shows is what a delivery will meet; every line is kept, and of AUTH
//! only that it was said.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dial::dial;
use super::driver::Connection;
use super::hosts::{Host, Hosts};
use super::https::Https;
use super::opening::{Opening, Plan, Step};
use super::outcome::{Next, Permanence, Scope, Trouble};
use super::protect::Start;
use super::reach::Reach;
use super::route::Access;
use super::source::Whose;
use super::tls::Secured;
use crate::mail::address::Domain;
use crate::mail::attempt::TlsFacts;
use crate::mail::meaning::Meaning;
use crate::mail::reply::{Enhanced, PeerReply};
use crate::metrics::Metrics;
use crate::tenant::{Route, Tenant};

/// Longest wait for a connection, and for each reply: a person waits.
const STEP: Duration = Duration::from_secs(15);
/// Addresses tried.
const HOSTS: usize = 3;

/// Who said a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// We.
    Us,
    /// The server.
    Them,
    /// Nobody: something happened.
    Note,
}

/// A line of the transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Who said it.
    pub who: Speaker,
    /// Printable, without line end.
    pub text: String,
}

/// What a trial came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trial {
    /// `mx` or `upstream`.
    pub route: &'static str,
    /// The last host tried, and its address.
    pub host: Option<String>,
    /// Everything that was said and happened.
    pub transcript: Vec<Line>,
    /// The TLS session, if there was one.
    pub tls: Option<TlsFacts>,
    /// Whether the server took our user name and password.
    pub authenticated: bool,
    /// Why a delivery would not get so far as MAIL.
    #[serde(skip)]
    pub trouble: Option<Trouble>,
}

impl Trial {
    /// Whether a delivery would get as far as MAIL.
    #[must_use]
    pub fn works(&self) -> bool {
        self.trouble.is_none()
    }

    /// What the trouble means, and what to do.
    #[must_use]
    pub fn meaning(&self) -> Option<Meaning> {
        let name = self.host.as_deref().and_then(|host| host.split(' ').next());
        self.trouble.as_ref().map(|trouble| Meaning::of_reply(name, &trouble.reply))
    }

    fn note(&mut self, text: impl Into<String>) {
        self.transcript.push(Line { who: Speaker::Note, text: text.into() });
    }

    fn heard(&mut self, reply: &PeerReply) {
        let said = reply.text.split(|octet| *octet == b'\n');
        let lines: Vec<&[u8]> = said.collect();
        let last = lines.len().saturating_sub(1);
        for (at, line) in lines.into_iter().enumerate() {
            let line = PeerReply { text: line.to_vec(), ..reply.clone() };
            let dash = if at == last { ' ' } else { '-' };
            let text = format!("{}{dash}{}", reply.code, line.escaped());
            self.transcript.push(Line { who: Speaker::Them, text });
        }
    }

    /// AUTH and what follows it up to its outcome never show what was sent.
    fn said(&mut self, command: &[u8], secret: bool) {
        let text = String::from_utf8_lossy(command).trim_end().to_owned();
        let mut words = text.split(' ');
        let text = match (secret, words.next(), words.next(), words.next()) {
            (false, ..) => text,
            (true, Some("AUTH"), Some(mechanism), None) => format!("AUTH {mechanism}"),
            (true, Some("AUTH"), Some(mechanism), Some(_)) => format!("AUTH {mechanism} (not shown)"),
            (true, ..) => "(not shown)".to_owned(),
        };
        self.transcript.push(Line { who: Speaker::Us, text });
    }
}

impl Reach {
    /// Tries a tenant's way out. Where that is by MX, an exchanger of this domain is greeted.
    pub async fn try_route(&self, tenant: &Tenant, domain: &Domain) -> Trial {
        let access = Access::new(&tenant.route, &tenant.name);
        let mut trial = Trial { route: route(&tenant.route), ..Trial::default() };
        if let Err(trouble) = self.try_hosts(tenant, &access, domain, &mut trial).await {
            trial.note(trouble.reply.escaped());
            trial.trouble = Some(trouble);
        }
        trial
    }

    async fn try_hosts(
        &self,
        tenant: &Tenant,
        access: &Access,
        domain: &Domain,
        trial: &mut Trial,
    ) -> Result<(), Trouble> {
        let mut hosts = match &*tenant.route {
            Route::Upstream(upstream) => {
                Hosts::of_upstream(&self.resolver, &self.settings.guard, &upstream.host, upstream.port)
            }
            Route::Mx => {
                Hosts::of_domain(&self.resolver, &self.settings.guard, domain, self.settings.port).await?
            }
        };
        let mut last = None;
        for _ in 0..HOSTS {
            let Some(host) = hosts.next(&|_| 0).await else { break };
            trial.host = Some(format!("{} ({})", host.name, host.address));
            let mut visit = Visit { reach: self, host: &host, tenant: &tenant.name, access, trial };
            match Box::pin(visit.run()).await {
                Ok(()) => return Ok(()),
                Err(trouble) if trouble.next() == Next::AnotherHost => {
                    trial.note(trouble.reply.escaped());
                    last = Some(trouble);
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Err(last.unwrap_or_else(|| hosts.verdict()))
    }
}

/// One host of the route, while it is tried.
struct Visit<'a> {
    reach: &'a Reach,
    host: &'a Host,
    tenant: &'a str,
    access: &'a Access,
    trial: &'a mut Trial,
}

impl Visit<'_> {
    async fn run(&mut self) -> Result<(), Trouble> {
        let whose = Whose { tenant: self.tenant, class: None };
        let source = self.reach.settings.sources.choose(whose, self.host.address.ip());
        let source = source.map_err(|why| Trouble::transient(Scope::Host, Enhanced(4, 3, 5), why))?;
        let stream = self.connect(source.address).await?;
        let mut connection = Connection::new(stream, self.host.address.ip());
        let implicit = self.access.usual().start == Start::Implicit;
        if implicit {
            connection = self.protect(connection).await?;
        }
        let opening = Opening::new(self.plan(&source.hostname).await?, implicit);
        self.converse(connection, opening).await
    }

    async fn connect(&mut self, source: Option<IpAddr>) -> Result<TcpStream, Trouble> {
        let host = self.host;
        let connected = match timeout(STEP, dial(host.address, source)).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", STEP.as_secs())),
        };
        let stream = connected.map_err(|why| {
            let text = format!("cannot connect to {} ({}): {why}", host.name, host.address);
            Trouble::transient(Scope::Host, Enhanced(4, 4, 1), text)
        })?;
        self.trial.note(format!("connected to {} ({})", host.name, host.address));
        Ok(stream)
    }

    async fn converse(&mut self, mut connection: Connection, mut opening: Opening) -> Result<(), Trouble> {
        let mut step = self.listen(&mut connection, &mut opening).await?;
        loop {
            step = match step {
                Step::Send(command) => {
                    self.trial.said(&command, opening.logs_in());
                    let sent = connection.send(&command, STEP).await;
                    sent.map_err(|broken| broken.trouble(Scope::Host, opening.awaited()))?;
                    self.listen(&mut connection, &mut opening).await?
                }
                Step::StartTls => {
                    connection = self.protect(connection).await?;
                    opening.secured()
                }
                Step::Ready(_) => {
                    self.trial.authenticated = self.access.account().is_some();
                    self.trial.said(b"QUIT", false);
                    connection.quit().await;
                    return Ok(());
                }
                Step::Trouble(trouble) => {
                    self.trial.said(b"QUIT", false);
                    connection.quit().await;
                    return Err(trouble);
                }
            };
        }
    }

    /// With a new access token, where one is needed: one that is kept would not show that the grant still holds.
    async fn plan(&mut self, hostname: &str) -> Result<Plan, Trouble> {
        let (reach, access) = (self.reach, self.access);
        let plan = access.plan(hostname, &access.usual());
        let (Some((oauth, trust)), Some(account)) = (access.oauth(), access.account()) else {
            return Ok(plan);
        };
        reach.tokens.forget(account);
        let metrics = Metrics::new();
        let https = Https { resolver: &reach.resolver, settings: &reach.settings, metrics: &metrics };
        let token = Box::pin(reach.tokens.bearer(https, account, (oauth, &trust))).await?;
        self.trial.note(format!("{} gives an access token", oauth.endpoint.0));
        Ok(access.with_token(plan, &token))
    }

    async fn protect(&mut self, connection: Connection) -> Result<Connection, Trouble> {
        let name = &self.host.name;
        let failed = |why: String| Trouble {
            scope: Scope::Host,
            permanence: Permanence::Transient,
            reply: PeerReply::local(Enhanced(4, 7, 5), format!("{name}: {why}")),
        };
        // As in a delivery (CVE-2021-38371).
        if connection.has_leftovers() {
            return Err(failed("it sent more behind its 220 to STARTTLS".to_owned()));
        }
        let ip = connection.ip;
        let stream = connection.into_tcp().ok_or_else(|| failed("TLS inside TLS".to_owned()))?;
        let trust = self.access.usual().trust;
        let shaken = match timeout(STEP, self.reach.settings.tls.handshake(stream, name, &trust)).await {
            Ok(shaken) => shaken.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed(format!("no handshake within {} s", STEP.as_secs()))),
        };
        let Secured { stream, facts, .. } = shaken;
        let verified = if facts.verified { "certificate verified" } else { "certificate not verified" };
        self.trial.note(format!("{} {}, {verified}", facts.version, facts.cipher));
        self.trial.tls = Some(facts.clone());
        Ok(Connection::over_tls(stream, ip, facts))
    }

    async fn listen(&mut self, connection: &mut Connection, opening: &mut Opening) -> Result<Step, Trouble> {
        match connection.reply(STEP).await {
            Ok(mut reply) => {
                opening.hide(&mut reply.text);
                self.trial.heard(&reply);
                Ok(opening.on_reply(reply))
            }
            Err(broken) => Err(broken.trouble(Scope::Host, opening.awaited())),
        }
    }
}

fn route(route: &Route) -> &'static str {
    match route {
        Route::Mx => "mx",
        Route::Upstream(_) => "upstream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_password_is_kept() {
        let rows = [
            (&b"EHLO relay.test\r\n"[..], false, "EHLO relay.test", "shown"),
            (b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n", true, "AUTH PLAIN (not shown)", "the response is not"),
            (b"AUTH LOGIN\r\n", true, "AUTH LOGIN", "there is nothing to hide"),
            (b"c2VjcmV0\r\n", true, "(not shown)", "the response to a challenge"),
            (b"\r\n", true, "(not shown)", "not even that it is empty"),
        ];
        for (command, secret, expected, why) in rows {
            let mut trial = Trial::default();
            trial.said(command, secret);
            assert_eq!(trial.transcript[0].text, expected, "{why}");
        }
    }
}
