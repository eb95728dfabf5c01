//! A deliverer in a small world of its own: a real name server, scripted exchangers, one message.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waxseal::config::Config;
use waxseal::deliver::{Deliverer, Job};
use waxseal::dns::Resolver;
use waxseal::mail::attempt::{Decided, Fate};
use waxseal::mail::envelope::{Envelope, Notify, Recipient};
use waxseal::mail::id::Id;
use waxseal::mail::message::{Facts, Kind, Lane, Message, Needs, TlsNeed};
use waxseal::mail::time::Time;
use waxseal::queue::store::{Destination, Leg, State};
use waxseal::sandbox::zone::Zone;
use waxseal::tenant::{Route, Upstream, UpstreamTls};

use crate::exchanger::{Exchanger, Script, street, street_with};
use crate::pki::Served;

pub const BODY: &[u8] = b"From: a@acme.test\r\n\r\nhello\r\n";

/// The whole of it.
pub struct World {
    pub exchangers: Vec<Exchanger>,
    pub port: u16,
    pub deliverer: Deliverer,
    pub config: Config,
    _zone: Zone,
    _dir: tempfile::TempDir,
}

/// mx2.test, mx3.test … are 127.0.0.2, 127.0.0.3 …; `zone` says who takes whose mail.
pub async fn world(zone: &str, scripts: Vec<Vec<Script>>) -> World {
    world_with(zone, scripts, |_, _| Vec::new()).await
}

/// With another configuration, and the addresses that we listen on ourselves.
pub async fn world_with(
    zone: &str,
    scripts: Vec<Vec<Script>>,
    change: impl FnOnce(&mut Config, u16) -> Vec<SocketAddr>,
) -> World {
    built(zone, street(scripts).await, change).await
}

/// With a certificate for each exchanger.
pub async fn world_serving(zone: &str, scripts: Vec<Vec<Script>>, served: impl Fn(usize) -> Served) -> World {
    built(zone, street_with(scripts, served).await, |_, _| Vec::new()).await
}

/// Both.
pub async fn world_made(
    zone: &str,
    scripts: Vec<Vec<Script>>,
    served: impl Fn(usize) -> Served,
    change: impl FnOnce(&mut Config, u16) -> Vec<SocketAddr>,
) -> World {
    built(zone, street_with(scripts, served).await, change).await
}

/// With this name server in the place of our own zone.
pub async fn world_at(
    server: SocketAddr,
    scripts: Vec<Vec<Script>>,
    served: impl Fn(usize) -> Served,
    change: impl FnOnce(&mut Config),
) -> World {
    let made = street_with(scripts, served).await;
    let with = |config: &mut Config, _| {
        config.dns.servers = vec![server];
        change(config);
        Vec::new()
    };
    built("", made, with).await
}

async fn built(
    zone: &str,
    (exchangers, port): (Vec<Exchanger>, u16),
    change: impl FnOnce(&mut Config, u16) -> Vec<SocketAddr>,
) -> World {
    let hosts: String = (2..9).map(|last| format!("mx{last}.test. 60 IN A 127.0.0.{last}\n")).collect();
    let zone = Zone::start(&format!("{hosts}{zone}")).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new("relay.test".parse().unwrap(), dir.path());
    config.dns.servers = vec![zone.address()];
    config.delivery.port = port;
    config.delivery.allow_private_destinations = true;
    config.delivery.command_timeout = Duration::from_secs(20);
    // These tests ask a dead host again at once; pacing.rs has the rests.
    config.delivery.rest_max = Duration::ZERO;
    // A machine that stands still for a while closes no connection that a test counts on.
    config.delivery.idle = Duration::from_secs(3600);
    let own = change(&mut config, port);
    let deliverer = Deliverer::new(&config, Resolver::new(&config.dns).unwrap(), own, Default::default());
    World { exchangers, port, deliverer, config, _zone: zone, _dir: dir }
}

pub fn message(rcpts: &[&str], body: &[u8]) -> Message {
    let rcpts = rcpts.iter().map(|rcpt| Recipient {
        address: rcpt.parse().unwrap(),
        orcpt: None,
        notify: Notify::default(),
    });
    let envelope = Envelope {
        from: Some("a@acme.test".parse().unwrap()),
        rcpts: rcpts.collect(),
        ret: None,
        envid: None,
    };
    let facts = Facts {
        id: Id::new(Time(1), 7),
        tenant: "acme".into(),
        login: None,
        header_from: None,
        class: None,
        lane: Lane::Normal,
        kind: Kind::Mail,
        envelope,
        received: Time(1),
        expires: Time(u64::MAX),
        return_path: None,
        unsealed: None,
        needs: Needs::default(),
        asked: waxseal::mail::message::Asked::default(),
        priority: waxseal::mail::priority::Priority::default(),
        deliver_by: None,
        size: body.len() as u64,
    };
    Message { facts, body: Bytes::copy_from_slice(body) }
}

pub fn job(message: Message, route: &Arc<Route>) -> Job {
    let leg = Leg {
        id: message.facts.id,
        leg: 0,
        tenant: "acme".into(),
        destination: Destination("b.test".into()),
        lane: Lane::Normal,
        rcpts: (0..u16::try_from(message.facts.envelope.rcpts.len()).unwrap()).collect(),
        attempts: 0,
        state: State::Due(Time(1)),
        last: None,
        delay_told: false,
        received: Time(1),
        expires: Time(u64::MAX),
    };
    Job {
        message: Arc::new(message),
        leg,
        route: Arc::clone(route),
        tenant: "acme".into(),
        unnamed: Vec::new(),
        started: Time(1),
    }
}

impl World {
    /// Attempts one message by MX; fates in the order of the recipients.
    pub async fn mx(&self, rcpts: &[&str]) -> Vec<Decided> {
        self.send(message(rcpts, BODY), &Arc::new(Route::Mx)).await
    }

    /// Trusts these root certificates beside the system's.
    pub fn trust(&mut self, pem: &str) {
        let file = self.config.state.join("roots.pem");
        std::fs::write(&file, pem).unwrap();
        self.config.delivery.ca_file = Some(file);
        self.deliverer.reconfigure(&self.config, Vec::new());
    }

    /// Attempts a message to b@b.test that needs this, by MX.
    pub async fn needing(&self, tls: TlsNeed) -> Vec<Decided> {
        let mut message = message(&["b@b.test"], BODY);
        message.facts.needs.tls = tls;
        self.send(message, &Arc::new(Route::Mx)).await
    }

    pub async fn send(&self, message: Message, route: &Arc<Route>) -> Vec<Decided> {
        self.attempt(&job(message, route)).await
    }

    pub async fn attempt(&self, job: &Job) -> Vec<Decided> {
        let mut decided: Vec<Decided> = Vec::new();
        let mut witness = |more: Vec<Decided>| decided.extend(more);
        self.deliverer.attempt(job, &mut witness).await;
        decided.sort_by_key(|decided| decided.rcpt);
        let told: Vec<u16> = decided.iter().map(|decided| decided.rcpt).collect();
        assert_eq!(told, job.leg.rcpts, "every recipient is decided exactly once");
        decided
    }

    /// An upstream at the first exchanger.
    pub fn upstream(&self, tls: UpstreamTls, credentials: bool) -> Upstream {
        Upstream {
            host: "127.0.0.2".into(),
            port: self.port,
            tls,
            credentials: credentials.then(|| ("user".into(), "secret".to_owned().into())),
            oauth: None,
            cleartext_auth: false,
            ca_file: None,
        }
    }
}

/// Fate and code of each.
pub fn fates(decided: &[Decided]) -> Vec<(Fate, u16)> {
    decided.iter().map(|decided| (decided.fate, decided.reply.code)).collect()
}

/// The enhanced code and the text of the first.
pub fn words(decided: &[Decided]) -> String {
    let reply = &decided[0].reply;
    format!("{} {}", reply.enhanced.map(|code| code.to_string()).unwrap_or_default(), reply.escaped())
}
