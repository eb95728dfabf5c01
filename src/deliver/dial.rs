//! From an address to a session that is ready for MAIL: connect, greeting, EHLO, TLS, AUTH.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::Settings;
use super::accounts::{Accounts, Turn};
use super::driver::{Broken, Connection};
use super::hosts::Host;
use super::https::Https;
use super::ledger::{Ledger, millis};
use super::oauth::Tokens;
use super::opening::{Opening, Plan, Starttls, Step};
use super::outcome::{Permanence, Scope, Trouble};
use super::protect::{By, Protection, Start};
use super::route::Access;
use super::sites::Seat;
use super::source::Source;
use super::tally::Problem;
use super::tls::{Secured, TlsError};
use crate::mail::attempt::{Login, TlsFacts};
use crate::mail::reply::Enhanced;

/// Connections made to one address in one attempt: as wanted, then without TLS, then with HELO.
const CONNECTS_PER_HOST: usize = 3;

/// What makes a session.
pub(super) struct Dialer<'a> {
    /// Timeouts, our name, source addresses.
    pub(super) settings: &'a Settings,
    /// What is known of logins.
    pub(super) accounts: &'a Accounts,
    /// Access tokens kept, and how they are asked for.
    pub(super) tokens: &'a Tokens,
    /// See `tokens`.
    pub(super) https: Https<'a>,
    /// Who logs in.
    pub(super) access: &'a Access,
    /// How the session is protected.
    pub(super) protection: &'a Protection,
    /// From where, and with what name.
    pub(super) source: &'a Source,
    /// Whether the message cannot go without something that only EHLO brings: a server that hung up at EHLO may have done so
    /// by chance, and shall not be heard to offer nothing.
    pub(super) needs_ehlo: bool,
    /// The connection's place among the site's.
    pub(super) seat: Arc<Seat>,
}

/// How a session did not come to be.
enum Fault {
    /// Not at all.
    Trouble(Trouble),
    /// In clear text it may do (RFC 3207 section 4, OB6).
    Handshake(Trouble),
    /// With HELO it may do (RM11).
    Ehlo(Trouble),
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Dialer<'_> {
    /// A session with this host, ready for MAIL.
    ///
    /// # Errors
    /// The trouble of the last connection made.
    pub(super) async fn open(&self, host: &Host, ledger: &mut Ledger<'_>) -> Result<Connection, Trouble> {
        let opened = self.open_somehow(host, ledger).await;
        if opened.as_ref().is_err_and(|trouble| self.withheld(trouble, ledger.problem)) {
            ledger.hop.login = Login::Withheld;
        }
        opened
    }

    /// Whether the tenant's route forbids to go on with a server such as this, and that will not pass by itself. A handshake that
    /// breaks off may, and so may a 454 to STARTTLS.
    fn withheld(&self, trouble: &Trouble, problem: Option<Problem>) -> bool {
        let certificate =
            matches!(problem, Some(Problem::NotTrusted | Problem::OtherName | Problem::Expired));
        let lasts = trouble.permanence == Permanence::Permanent;
        let starttls = lasts && trouble.reply.enhanced == Some(Enhanced(4, 7, 10));
        self.protection.by == By::Route && trouble.is_about_tls() && (certificate || starttls)
    }

    async fn open_somehow(&self, host: &Host, ledger: &mut Ledger<'_>) -> Result<Connection, Trouble> {
        let mut turn = match self.access.account() {
            Some(account) => self.accounts.enter(account).await.map_err(|shut| note_shut(ledger, shut))?,
            None => None,
        };
        let mut plan = self.plan(&mut turn, ledger).await?;
        for _ in 1..CONNECTS_PER_HOST {
            match self.open_once(host, plan.clone(), &mut turn, ledger).await {
                Ok(connection) => return Ok(connection),
                Err(Fault::Handshake(_)) if plan.starttls == Starttls::IfOffered => {
                    plan.starttls = Starttls::Never;
                }
                Err(Fault::Ehlo(_)) if !plan.helo && !self.needs_ehlo && !plan.needs_ehlo() => {
                    plan.helo = true;
                }
                Err(Fault::Trouble(trouble) | Fault::Handshake(trouble) | Fault::Ehlo(trouble)) => {
                    return Err(trouble);
                }
            }
        }
        match self.open_once(host, plan, &mut turn, ledger).await {
            Ok(connection) => Ok(connection),
            Err(Fault::Trouble(trouble) | Fault::Handshake(trouble) | Fault::Ehlo(trouble)) => Err(trouble),
        }
    }

    async fn open_once(
        &self,
        host: &Host,
        plan: Plan,
        turn: &mut Option<Turn>,
        ledger: &mut Ledger<'_>,
    ) -> Result<Connection, Fault> {
        let stream = self.connect(host.address, ledger).await?;
        let mut connection = Connection::new(stream, host.address.ip());
        let implicit = self.protection.start == Start::Implicit;
        if implicit {
            connection = self.secure(connection, host, ledger).await?;
        }
        let guessed = plan.helo;
        let mut opening = Opening::new(plan, implicit);
        let mut step = self.hear(&mut connection, &mut opening).await?;
        loop {
            step = match step {
                Step::Send(command) => {
                    if turn.is_none() && opening.logs_in() {
                        *turn = self.turn(ledger).await?;
                    }
                    match connection.send(&command, self.settings.command).await {
                        Ok(()) => self.hear(&mut connection, &mut opening).await?,
                        Err(broken) => unheard(&broken, &opening)?,
                    }
                }
                Step::StartTls => {
                    connection = self.secure(connection, host, ledger).await?;
                    opening.secured()
                }
                Step::Ready(extensions) => {
                    if let Some(turn) = turn.take() {
                        turn.accepted();
                    }
                    // A session that is kept says nothing of it later: the password may be another one by then.
                    ledger.hop.login = self.access.account().map_or(Login::None, |_| Login::Accepted);
                    connection.extensions = extensions;
                    connection.guessed = guessed;
                    connection.seat = Some(Arc::clone(&self.seat));
                    return Ok(connection);
                }
                Step::Trouble(trouble) => {
                    if let Some(turn) = turn.take_if(|_| opening.logs_in()) {
                        ledger.hop.login = turn.failed(&trouble);
                        self.access.account().into_iter().for_each(|account| self.tokens.forget(account));
                    }
                    connection.seat = Some(Arc::clone(&self.seat));
                    tokio::spawn(connection.quit());
                    return Err(trouble.into());
                }
            };
        }
    }

    /// How the session is opened, with an access token where one is needed.
    async fn plan(&self, turn: &mut Option<Turn>, ledger: &mut Ledger<'_>) -> Result<Plan, Trouble> {
        let plan = self.access.plan(&self.source.hostname, self.protection);
        let (Some((oauth, trust)), Some(account)) = (self.access.oauth(), self.access.account()) else {
            return Ok(plan);
        };
        if let Some(token) = self.tokens.kept(account) {
            return Ok(self.access.with_token(plan, &token));
        }
        if turn.is_none() {
            *turn = self.turn(ledger).await?;
        }
        match Box::pin(self.tokens.bearer(self.https, account, (oauth, &trust))).await {
            Ok(token) => Ok(self.access.with_token(plan, &token)),
            // Without a token nobody logs in: it counts like a login that was refused.
            Err(trouble) => {
                if let Some(turn) = turn.take() {
                    ledger.hop.login = turn.failed(&trouble);
                }
                Err(trouble)
            }
        }
    }

    /// Waits until nobody else is logging in to the account; what they found out counts for us too.
    async fn turn(&self, ledger: &mut Ledger<'_>) -> Result<Option<Turn>, Trouble> {
        match self.access.account() {
            Some(account) => {
                self.accounts.turn(account).await.map(Some).map_err(|shut| note_shut(ledger, shut))
            }
            None => Ok(None),
        }
    }

    async fn hear(&self, connection: &mut Connection, opening: &mut Opening) -> Result<Step, Fault> {
        match connection.reply(self.settings.command).await {
            Ok(reply) => Ok(opening.on_reply(reply)),
            Err(broken) if broken.is_gone() && opening.awaits_ehlo() => {
                Err(Fault::Ehlo(broken.trouble(Scope::Host, opening.awaited())))
            }
            Err(broken) => Ok(unheard(&broken, opening)?),
        }
    }

    /// TCP, from one of our source addresses if any are set.
    async fn connect(&self, to: SocketAddr, ledger: &mut Ledger<'_>) -> Result<TcpStream, Trouble> {
        let began = Instant::now();
        let limit = self.settings.connect;
        let connected = match tokio::time::timeout(limit, dial(to, self.source.address)).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no connection within {} s", limit.as_secs_f32())),
        };
        ledger.ms.connect = Some(millis(began.elapsed()));
        connected.map_err(|why| {
            // RFC 3463: X.4.1, no answer from host.
            let text = format!("cannot connect to {to}: {why}");
            Trouble::transient(Scope::Host, Enhanced(4, 4, 1), text)
        })
    }

    async fn secure(
        &self,
        connection: Connection,
        host: &Host,
        ledger: &mut Ledger<'_>,
    ) -> Result<Connection, Fault> {
        // Octets behind the 220, sent before TLS by whoever sits on the line, must not become replies (CVE-2021-38371).
        if connection.has_leftovers() {
            let text = "the server sent more behind its 220 to STARTTLS; nothing of it is believed";
            return Err(Trouble::transient(Scope::Host, Enhanced(4, 7, 0), text).into());
        }
        let ip = connection.ip;
        let Some(stream) = connection.into_tcp() else {
            return Err(Trouble::transient(Scope::Host, Enhanced(4, 5, 0), "TLS inside TLS").into());
        };
        let began = Instant::now();
        let handshake = self.settings.tls.handshake(stream, &host.name, &self.protection.trust);
        let result = within(self.settings.command, handshake).await;
        ledger.ms.tls = Some(millis(began.elapsed()));
        match result {
            Ok(Secured { stream, facts, problem }) => {
                let facts = TlsFacts { by: self.protection.by.name().map(str::to_owned), ..facts };
                note_tls(ledger, &facts);
                ledger.problem = problem;
                Ok(Connection::over_tls(stream, ip, facts))
            }
            Err((why, problem)) => {
                ledger.problem = Some(problem);
                Err(Fault::Handshake(self.unprotected(host, &why)))
            }
        }
    }

    /// RFC 3463: X.7.5, a cryptographic failure.
    fn unprotected(&self, host: &Host, why: &str) -> Trouble {
        let advice = self.protection.by.advice();
        Trouble::transient(Scope::Host, Enhanced(4, 7, 5), format!("{}: {why}{advice}", host.name))
    }
}

/// The connection broke. Whether the credentials were refused is not known where AUTH had been said: the next address is then not
/// tried with them at once, for that may be the guess after which the account is locked.
fn unheard(broken: &Broken, opening: &Opening) -> Result<Step, Trouble> {
    let awaited = opening.awaited();
    if opening.logs_in() {
        return Ok(Step::Trouble(broken.trouble(Scope::Session, awaited)));
    }
    Err(broken.trouble(Scope::Host, awaited))
}

fn note_shut(ledger: &mut Ledger<'_>, (trouble, login): (Trouble, Login)) -> Trouble {
    ledger.hop.login = login;
    trouble
}

fn note_tls(ledger: &mut Ledger<'_>, facts: &TlsFacts) {
    ledger.hop.tls = Some(facts.clone());
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, TlsError>>,
) -> Result<T, (String, Problem)> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|error| (error.to_string(), error.problem())),
        Err(_) => Err((Broken::Timeout(limit).to_string(), Problem::Failed)),
    }
}

/// A TCP connection from this address, or from whatever the system chooses.
pub(super) async fn dial(to: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    // A step is one write; waiting for the acknowledgement of the one before would cost 40 ms a message.
    socket.set_nodelay(true)?;
    socket.connect(to).await
}
