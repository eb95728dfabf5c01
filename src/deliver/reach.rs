//! Can mail leave at all? One greeting with an exchanger of a domain that everybody can reach, up to TLS and EHLO, and
//! goodbye: no MAIL, so nobody is bothered. The same guard, the same opening and the same TLS as a delivery's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::timeout;

use super::dial::dial;
use super::driver::Connection;
use super::hosts::{Host, Hosts};
use super::oauth::Tokens;
use super::opening::{Opening, Plan, Starttls, Step};
use super::outcome::{Scope, Trouble};
use super::protect::Trust;
use super::settings::Settings;
use crate::config::Config;
use crate::dns::Resolver;
use crate::mail::address::Domain;

/// Longest wait for a connection, and for each reply: a delivery has more patience, a person at a terminal has not.
const STEP: Duration = Duration::from_secs(5);
/// Exchangers tried; one that answers is enough.
const HOSTS: usize = 3;

/// From where mail leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// This address of ours (`delivery.sources`).
    Source(IpAddr),
    /// Whatever address the system chooses, over IPv4.
    AnyV4,
    /// The same over IPv6.
    AnyV6,
}

/// An exchanger that greeted us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Its name.
    pub host: String,
    /// Where it was reached.
    pub address: SocketAddr,
    /// Its TLS: the version, why it failed, or that it was not offered.
    pub tls: Tried,
}

/// What became of STARTTLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It works.
    Works(String),
    /// It is not offered.
    NotOffered,
    /// It is offered, and failed.
    Failed(String),
}

/// Why none was reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// There was none to try: DNS, the guard, or no address of the family.
    #[error("{0}")]
    Nobody(String),
    /// No TCP connection to any of them.
    #[error("{0}")]
    NoConnection(String),
    /// It answers, and does not want us.
    #[error("{0}")]
    Refused(String),
}

/// Who can be greeted: the parts of a delivery that it takes.
pub struct Reach {
    pub(super) resolver: Resolver,
    pub(super) settings: Settings,
    pub(super) hostname: String,
    pub(super) tokens: Tokens,
}

impl Reach {
    /// By this configuration. Reads the system's roots.
    #[must_use]
    pub fn new(config: &Config, resolver: Resolver) -> Self {
        let own = config.listeners.iter().map(|listener| listener.address).collect();
        Self {
            resolver,
            settings: Settings::new(config, own),
            hostname: config.hostname.as_str().to_owned(),
            tokens: Tokens::new(&config.state),
        }
    }

    /// Greets an exchanger of this domain.
    ///
    /// # Errors
    /// `Unreached`: of the last one tried.
    pub async fn greet(&self, domain: &Domain, from: From) -> Result<Reached, Unreached> {
        let found = Hosts::of_domain(&self.resolver, &self.settings.guard, domain, self.settings.port).await;
        let mut hosts = found.map_err(|trouble| Unreached::Nobody(words(&trouble)))?;
        let mut last = None;
        let mut tried = 0;
        while let Some(host) = hosts.next(&|_| 0).await {
            if host.address.is_ipv4() != from.is_ipv4() {
                continue;
            }
            match self.meet(&host, from).await {
                Ok(reached) => return Ok(reached),
                Err(unreached) => last = Some(unreached),
            }
            tried += 1;
            if tried == HOSTS {
                break;
            }
        }
        let family = if from.is_ipv4() { "IPv4" } else { "IPv6" };
        Err(last.unwrap_or_else(|| {
            let why = words(&hosts.verdict());
            Unreached::Nobody(format!("{domain} has no exchanger to try over {family} ({why})"))
        }))
    }

    async fn meet(&self, host: &Host, from: From) -> Result<Reached, Unreached> {
        let stream = match timeout(STEP, dial(host.address, from.source())).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(no_connection(host, &error.to_string())),
            Err(_) => return Err(no_connection(host, &format!("no answer within {} s", STEP.as_secs()))),
        };
        self.open(host, Connection::new(stream, host.address.ip())).await
    }

    async fn open(&self, host: &Host, mut connection: Connection) -> Result<Reached, Unreached> {
        let plan =
            Plan { hostname: self.hostname.clone(), starttls: Starttls::IfOffered, auth: None, helo: false };
        let mut opening = Opening::new(plan, false);
        let mut step = hear(host, &mut connection, &mut opening).await?;
        let mut tls = Tried::NotOffered;
        loop {
            step = match step {
                Step::Send(command) => {
                    let sent = connection.send(&command, STEP).await;
                    sent.map_err(|broken| refused(host, &broken.trouble(Scope::Host, opening.awaited())))?;
                    hear(host, &mut connection, &mut opening).await?
                }
                Step::StartTls => {
                    let secured = self.secure(host, connection).await;
                    connection = match secured {
                        Ok(connection) => connection,
                        Err(why) => return Ok(reached(host, Tried::Failed(why))),
                    };
                    let version = connection.tls.as_ref().map(|facts| facts.version.clone());
                    tls = Tried::Works(version.unwrap_or_default());
                    opening.secured()
                }
                Step::Ready(offered) => {
                    connection.quit().await;
                    // Offered and refused with a 4yz: the opening goes on without it, which a delivery may.
                    if offered.starttls && tls == Tried::NotOffered {
                        tls = Tried::Failed("STARTTLS is offered, and then refused".to_owned());
                    }
                    return Ok(reached(host, tls));
                }
                Step::Trouble(trouble) => {
                    connection.quit().await;
                    return Err(refused(host, &trouble));
                }
            };
        }
    }

    async fn secure(&self, host: &Host, connection: Connection) -> Result<Connection, String> {
        // As in a delivery (CVE-2021-38371).
        if connection.has_leftovers() {
            return Err("it sent more behind its 220 to STARTTLS".to_owned());
        }
        let ip = connection.ip;
        let stream = connection.into_tcp().ok_or_else(|| "TLS inside TLS".to_owned())?;
        match timeout(STEP, self.settings.tls.handshake(stream, &host.name, &Trust::Opportunistic)).await {
            Ok(Ok(secured)) => Ok(Connection::over_tls(secured.stream, ip, secured.facts)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no handshake within {} s", STEP.as_secs())),
        }
    }
}

impl From {
    fn is_ipv4(self) -> bool {
        match self {
            Self::Source(ip) => ip.is_ipv4(),
            Self::AnyV4 => true,
            Self::AnyV6 => false,
        }
    }

    fn source(self) -> Option<IpAddr> {
        match self {
            Self::Source(ip) => Some(ip),
            Self::AnyV4 | Self::AnyV6 => None,
        }
    }
}

async fn hear(host: &Host, connection: &mut Connection, opening: &mut Opening) -> Result<Step, Unreached> {
    match connection.reply(STEP).await {
        Ok(reply) => Ok(opening.on_reply(reply)),
        Err(broken) => Err(refused(host, &broken.trouble(Scope::Host, opening.awaited()))),
    }
}

fn reached(host: &Host, tls: Tried) -> Reached {
    Reached { host: host.name.clone(), address: host.address, tls }
}

fn no_connection(host: &Host, why: &str) -> Unreached {
    Unreached::NoConnection(format!("{} ({}): {why}", host.name, host.address))
}

fn refused(host: &Host, trouble: &Trouble) -> Unreached {
    Unreached::Refused(format!("{} ({}): {}", host.name, host.address, words(trouble)))
}

/// The reply with its code, if there was one.
fn words(trouble: &Trouble) -> String {
    let said = trouble.reply.escaped();
    if trouble.reply.code == 0 { said } else { format!("{} {said}", trouble.reply.code) }
}
