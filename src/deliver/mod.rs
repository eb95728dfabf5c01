//! One attempt at delivering one leg: route → hosts → for each host converse → outcome. Never touches the store: it tells
//! its witness what was decided about each recipient, as soon as the reply that decides it has arrived.

mod accounts;
pub mod alert;
pub mod auth;
pub mod body;
pub mod bounce;
pub mod conversation;
mod converse;
mod counted;
mod dane;
mod deadline;
mod dial;
mod driver;
pub mod extensions;
pub mod guard;
mod hosts;
mod https;
mod job;
mod ledger;
mod oauth;
pub mod opening;
pub mod outcome;
pub mod pace;
mod pool;
mod protect;
mod quota;
pub mod reach;
pub mod redact;
pub mod reply;
mod reverse;
mod route;
mod rules;
mod settings;
pub mod sign;
mod sites;
mod source;
pub mod sts;
pub mod tally;
mod tls;
pub mod tlsrpt;
mod transact;
pub mod trial;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use self::accounts::Accounts;
use self::hosts::{Host, Hosts};
use self::https::Https;
pub use self::job::Job;
use self::ledger::{Ledger, millis};
use self::oauth::Tokens;
use self::outcome::{Next, Trouble};
use self::pool::Pool;
use self::quota::Quotas;
use self::reverse::Reverse;
use self::route::Access;
use self::rules::Rules;
use self::settings::Settings;
use self::sites::{Answer, Sites, Turn};
pub use self::sites::{Seen, Standing};
use self::sts::Policies;
use self::tally::Tallies;
use crate::clock::Clock;
use crate::config::Config;
use crate::dns::Resolver;
use crate::mail::address::{Address, Domain};
use crate::mail::attempt::Decided;
use crate::mail::message::{Lane, TlsNeed};
use crate::mail::time::Time;
use crate::metrics::Metrics;
use crate::tenant::{Directory, Route};

/// Who hears how an attempt goes.
pub trait Hears: Send {
    /// These recipients' fates: each once, as soon as it is decided.
    fn decided(&mut self, decided: Vec<Decided>);

    /// The attempt begins. Not heard where it is turned away, or where what others found is taken for its outcome.
    fn begins(&mut self) {}

    /// How the site stands to which the mail goes.
    fn site(&mut self, _standing: Standing) {}

    /// The site has no room for it now, or rests: nothing was attempted, nobody is decided.
    fn turned_away(&mut self) {}
}

impl<F: FnMut(Vec<Decided>) + Send> Hears for F {
    fn decided(&mut self, decided: Vec<Decided>) {
        self(decided);
    }
}

/// Who hears of an attempt.
pub type Witness<'a> = &'a mut dyn Hears;

/// Delivers legs, and keeps connections between them.
pub struct Deliverer {
    resolver: Resolver,
    policies: Policies,
    tallies: Tallies,
    pool: Arc<Pool>,
    sites: Arc<Sites>,
    quotas: Quotas,
    accounts: Accounts,
    tokens: Tokens,
    reverse: Arc<Reverse>,
    settings: ArcSwap<Settings>,
    metrics: Arc<Metrics>,
}

impl Deliverer {
    /// Makes the deliverer; reads the system's root certificates. `own` are the addresses that we listen on ourselves.
    #[must_use]
    pub fn new(
        config: &Config,
        resolver: Resolver,
        own: Vec<SocketAddr>,
        (metrics, clock): (Arc<Metrics>, Clock),
    ) -> Self {
        let settings = ArcSwap::from_pointee(Settings::new(config, own));
        let quotas = Quotas::new(clock.clone());
        let sites = Sites::new(clock, Arc::clone(&metrics));
        Self {
            resolver,
            policies: Policies::default(),
            tallies: Tallies::default(),
            pool: Arc::default(),
            sites,
            quotas,
            accounts: Accounts::default(),
            tokens: Tokens::new(&config.state),
            reverse: Arc::default(),
            settings,
            metrics,
        }
    }

    /// Takes over a reloaded configuration; attempts under way keep the old one.
    pub fn reconfigure(&self, config: &Config, own: Vec<SocketAddr>) {
        self.settings.store(Arc::new(Settings::new(config, own)));
        self.accounts.forget();
        self.tokens.forget_all();
    }

    /// Removes tokens that were kept for tenants and routes of the past. Called at start, and at each reload.
    pub async fn tidy_tokens(&self, tenants: &Directory, now: Time) {
        self.tokens.tidy(tenants, now).await;
    }

    /// Attempts the leg. Every open recipient is decided exactly once through `witness` before this returns, unless it hears
    /// that the attempt was turned away. Dropping the future leaves the undecided undecided.
    pub async fn attempt(&self, job: &Job, witness: Witness<'_>) {
        for part in job.parts() {
            Box::pin(self.attempt_part(&part, witness)).await;
        }
    }

    async fn attempt_part(&self, job: &Job, witness: Witness<'_>) {
        let settings = self.settings.load_full();
        let attempt = Attempt {
            deliverer: self,
            settings: &settings,
            job,
            access: Access::new(&job.route, &job.tenant),
        };
        let route = match &*job.route {
            Route::Mx => "mx",
            Route::Upstream(_) => "upstream",
        };
        let mut ledger = Ledger::new(job, route, witness);
        if let Err(trouble) = Box::pin(attempt.run(&mut ledger)).await {
            ledger.close(&trouble);
        }
    }

    /// Sites in use or at rest, those at rest first; at most `most`.
    #[must_use]
    pub fn sites(&self, most: usize) -> Vec<Seen> {
        self.sites.seen(most, self.settings.load().bounds)
    }

    /// How many sites are open, probed and at rest.
    #[must_use]
    pub fn count_sites(&self) -> [usize; 3] {
        self.sites.count(self.settings.load().bounds)
    }

    /// The MTA-STS policies of domains that mail went to.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// How sessions went under TLS, for reports.
    #[must_use]
    pub fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// Asks again for MTA-STS policies before they run out; answers how many were renewed.
    pub async fn refresh_policies(&self, now: Time) -> usize {
        let settings = self.settings.load_full();
        let https = Https { resolver: &self.resolver, settings: &settings, metrics: &self.metrics };
        Box::pin(self.policies.refresh(https, now)).await
    }

    /// Says QUIT on every kept connection and closes it; waits at most two seconds.
    pub async fn close_idle(&self) {
        self.pool.close().await;
    }
}

/// One attempt under way.
struct Attempt<'a> {
    deliverer: &'a Deliverer,
    settings: &'a Settings,
    job: &'a Job,
    access: Access,
}

impl Attempt<'_> {
    /// The story: where the mail goes, the site's leave, and then its hosts. The error is what all those left share.
    async fn run(&self, ledger: &mut Ledger<'_>) -> Result<(), Trouble> {
        let began = Instant::now();
        let (hosts, rules) = tokio::join!(self.hosts(), self.rules());
        ledger.ms.dns = Some(millis(began.elapsed()));
        let bounds = self.settings.bounds;
        let hosts = match hosts {
            Ok(hosts) => hosts,
            Err(trouble) => {
                // Nothing is known of a site: as many may ask DNS at once as may send to one.
                let site = Arc::clone(&self.job.leg.destination.0);
                ledger.stands(Standing { site, slots: bounds.most, shut: None });
                ledger.begins();
                return Err(trouble);
            }
        };
        let (site, whose) = self.site(&hosts);
        if let Some((sender, until)) = self.resting_sender(&whose) {
            ledger.hop.rests = Some(until);
            return Err(quota::trouble(&whose, sender, until));
        }
        let urgent = self.job.leg.lane == Lane::Urgent;
        let (answer, standing) = self.deliverer.sites.ask(&site, urgent, bounds);
        ledger.stands(standing);
        let turn = match answer {
            Answer::Go(turn) => turn,
            Answer::Later => {
                ledger.turned_away();
                return Ok(());
            }
            Answer::OutOfOrder(trouble, until) => {
                ledger.hop.rests = Some(until);
                return Err(trouble);
            }
        };
        ledger.begins();
        let ended = self.visit(hosts, &rules, &turn, ledger).await;
        let (standing, rests) = turn.end(ledger.sign(ended.as_ref().err()), ended.as_ref().err());
        self.tidy(&site);
        ledger.stands(standing);
        ledger.hop.rests = rests.max(self.note_quota(&whose, ledger, ended.as_ref().err()));
        ended
    }

    /// Whose mail it is, if that rests at the site.
    fn resting_sender(&self, site: &Arc<str>) -> Option<(&Domain, Time)> {
        let sender = quota::sender(&self.job.message.facts)?;
        Some((sender, self.deliverer.quotas.rests(site, sender)?))
    }

    /// Takes note of a reply that meant this sender alone; answers until when it rests.
    fn note_quota(&self, site: &Arc<str>, ledger: &Ledger<'_>, trouble: Option<&Trouble>) -> Option<Time> {
        let limited = ledger.sender_is_limited(trouble) && !self.settings.bounds.rest.is_zero();
        let sender = quota::sender(&self.job.message.facts).filter(|_| limited)?;
        Some(self.deliverer.quotas.rest(site, sender))
    }

    /// Hosts that share their exchangers' names are one site; an upstream is one for each tenant that uses it. And whose site it is:
    /// what a server says of a sender, it says for all that are its provider's.
    fn site(&self, hosts: &Hosts<'_>) -> (Arc<str>, Arc<str>) {
        match &*self.job.route {
            Route::Mx => self.deliverer.sites.name(hosts.best(), &self.settings.roofs),
            Route::Upstream(upstream) => {
                let site: Arc<str> =
                    format!("{}>{}:{}", self.job.tenant, upstream.host, upstream.port).into();
                (Arc::clone(&site), site)
            }
        }
    }

    /// The hosts, best first, until nobody is left undecided.
    async fn visit(
        &self,
        mut hosts: Hosts<'_>,
        rules: &Rules,
        turn: &Turn,
        ledger: &mut Ledger<'_>,
    ) -> Result<(), Trouble> {
        let mut last = None;
        let facts = &self.job.message.facts;
        let mut unfit = facts.needs.tls == TlsNeed::RequireTls || facts.wants_back();
        let rank = |host: &Host| self.rank(host, rules);
        while let Some(host) = hosts.next(&rank).await {
            ledger.at(&host);
            let ended = self.converse(&host, rules, turn, ledger).await;
            if ended.as_ref().err().is_none_or(|trouble| trouble.reply.code != 0) {
                self.deliverer.sites.answered(&host.name, &self.settings.roofs);
            }
            match ended {
                Ok(()) => return Ok(()),
                Err(trouble) if trouble.next() == Next::AnotherHost => {
                    unfit &= trouble.is_unfit(facts);
                    // What a host said is not lost behind one that nobody asked.
                    if last.is_none() || !trouble.is_unasked() {
                        last = Some((trouble, ledger.hop.clone()));
                    }
                }
                Err(trouble) => return Err(trouble),
            }
        }
        let last = last.map(|(trouble, hop)| {
            ledger.hop = hop;
            trouble
        });
        match last {
            // A host that was not tried may be one that can.
            Some(trouble) if unfit && hosts.saw_all() => Err(trouble.of_all_hosts()),
            Some(trouble) => Err(trouble),
            None => Err(hosts.verdict()),
        }
    }

    async fn hosts(&self) -> Result<Hosts<'_>, Trouble> {
        let (resolver, guard) = (&self.deliverer.resolver, &self.settings.guard);
        match &*self.job.route {
            Route::Upstream(upstream) => {
                Ok(Hosts::of_upstream(resolver, guard, &upstream.host, upstream.port))
            }
            Route::Mx => match self.first_recipient() {
                Some(address) => {
                    Hosts::of_domain(resolver, guard, address.domain(), self.settings.port).await
                }
                None => Err(Trouble::unaddressed()),
            },
        }
    }

    /// All recipients of a leg share a destination; the first one's domain is everybody's.
    fn first_recipient(&self) -> Option<&Address> {
        let rcpt = self.job.leg.rcpts.first()?;
        self.job.message.facts.envelope.rcpts.get(usize::from(*rcpt)).map(|recipient| &recipient.address)
    }
}
