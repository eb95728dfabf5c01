//! The real admission with real keys in a temporary directory, and a shelf in the place of the queue.

use std::fs;
use std::future::{pending, ready};
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use waxseal::admit::classify::ControlKey;
use waxseal::admit::{Admit, Client, Parts, Submission};
use waxseal::clock::Clock;
use waxseal::config::{Config, Dns};
use waxseal::dns::Resolver;
use waxseal::mail::envelope::{Envelope, Notify, Recipient};
use waxseal::mail::id::Id;
use waxseal::mail::message::{Facts, Message};
use waxseal::mail::reply::Reply;
use waxseal::mail::return_path::Secret;
use waxseal::mail::secret::ExposeSecret;
use waxseal::mail::time::Time;
use waxseal::maillog::MailLog;
use waxseal::memory::Permit;
use waxseal::queue::store::{
    Accept, Action, Answer, Claimed, Entry, Filter, Last, Memo, Owed, Pacing, Settlement, Stats, Store,
    StoreError, Superseded,
};
use waxseal::seal::Keyring;
use waxseal::seal::keys::{Generated, Kind, generate};
use waxseal::seal::outlook::Outlook;
use waxseal::tenant::{
    BareNewlines, Directory, OnFail, OwnedDomain, Route, Signing, Tenant, TenantLimits, Tenants,
};

/// The tenant's domain in every test.
pub const DOMAIN: &str = "t.example";

/// Takes what admission puts, and gives it to the test.
#[derive(Default)]
pub struct Shelf {
    taken: Mutex<Vec<Accept>>,
    /// What to answer instead.
    pub fault: Mutex<Option<StoreError>>,
}

fn no<'a, T: Send + 'a>() -> Answer<'a, T> {
    Box::pin(ready(Err(StoreError::Rebuilding)))
}

impl Store for Shelf {
    fn accept(&self, accept: Accept) -> Answer<'_, ()> {
        if let Some(fault) = self.fault.lock().unwrap().clone() {
            return Box::pin(ready(Err(fault)));
        }
        self.taken.lock().unwrap().push(accept);
        Box::pin(ready(Ok(())))
    }
    fn claim(&self, _: Time, _: usize) -> Answer<'_, Claimed> {
        no()
    }
    fn nudged(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(pending())
    }
    fn pace(&self, _: Pacing) {}
    fn message(&self, _: Id) -> Answer<'_, Option<Arc<Message>>> {
        Box::pin(ready(Ok(None)))
    }
    fn settle(&self, _: Vec<Settlement>) -> Answer<'_, Vec<bool>> {
        no()
    }
    fn supersede(&self, _: Arc<Facts>, _: Vec<u16>, _: Last) -> Answer<'_, Superseded> {
        no()
    }
    fn list(&self, _: Filter, _: Time) -> Answer<'_, Vec<Entry>> {
        no()
    }
    fn act(&self, _: Filter, _: Action, _: Time) -> Answer<'_, Vec<Entry>> {
        no()
    }
    fn owed(&self, _: usize) -> Answer<'_, Vec<(Owed, Arc<Facts>)>> {
        no()
    }
    fn waive(&self, _: Vec<(Id, u16)>) -> Answer<'_, ()> {
        no()
    }
    fn remember(&self, _: Vec<Memo>) -> Answer<'_, ()> {
        no()
    }
    fn recall(&self, _: String) -> Answer<'_, Vec<(String, Vec<u8>)>> {
        no()
    }
    fn stats(&self) -> Answer<'_, Stats> {
        no()
    }
    fn failed(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        Box::pin(pending())
    }
    fn close(&self) -> Answer<'_, ()> {
        no()
    }
}

/// Admission with one tenant, another one that owns `other.example`, and keys for the first.
pub struct Intake {
    pub admit: Admit,
    pub shelf: Arc<Shelf>,
    pub log: Arc<MailLog>,
    pub tenant: Arc<Tenant>,
    pub dir: tempfile::TempDir,
    /// The keys by selector.
    pub keys: Vec<(&'static str, Generated)>,
}

/// An outlook that nobody feeds and DNS does not answer: for domains that nobody judges.
pub fn unasked(clock: &Clock) -> Arc<Outlook> {
    let dns = Dns { servers: vec!["127.0.0.1:1".parse().unwrap()], ..Dns::default() };
    Arc::new(Outlook::new(Resolver::new(&dns).unwrap(), clock.clone()))
}

/// What return paths are made with.
pub fn secret() -> Secret {
    Secret::new(&[7; 32].into())
}

pub fn tenant(name: &str, domains: &[&str]) -> Tenant {
    let owned = |name: &&str| OwnedDomain {
        name: name.parse().unwrap(),
        on_fail: OnFail::Off,
        return_path: None,
        subdomains: false,
    };
    Tenant {
        name: name.into(),
        networks: Vec::new(),
        notify: Vec::new(),
        logins: Vec::new(),
        domains: domains.iter().map(owned).collect(),
        route: Arc::new(Route::Mx),
        fallbacks: Vec::new(),
        signing: Signing::default(),
        limits: TenantLimits::default(),
        bare_newlines: BareNewlines::Refuse,
        classes: waxseal::config::Classes::default(),
        suppression: waxseal::tenant::SuppressionRules::default(),
    }
}

impl Intake {
    pub fn new() -> Self {
        Self::with(&[("rsa", Kind::Rsa2048)])
    }

    pub fn with(kinds: &[(&'static str, Kind)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new("relay.example".parse().unwrap(), dir.path());
        // Nobody answers there: admission waits for nobody.
        let dns =
            waxseal::config::Dns { servers: vec!["127.0.0.1:9".parse().unwrap()], ..config.dns.clone() };
        let keys: Vec<_> =
            kinds.iter().map(|(selector, kind)| (*selector, generate(*kind).unwrap())).collect();
        let home = config.keys.join(DOMAIN);
        fs::create_dir_all(&home).unwrap();
        for (selector, key) in &keys {
            let path = home.join(format!("{selector}.pem"));
            fs::write(&path, key.pem.expose_secret()).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let directory = Directory::new([
            tenant("t", &[DOMAIN, "bücher.example", "keyless.example"]),
            tenant("other", &["other.example"]),
        ]);
        let own = Arc::clone(directory.tenant("t").unwrap());
        let clock = Clock::System;
        let log = MailLog::open(&config.log.path, clock.clone()).unwrap();
        let shelf = Arc::new(Shelf::default());
        let keyring = Arc::new(ArcSwap::from_pointee(Keyring::load(&config.keys).unwrap()));
        let outlook = unasked(&clock);
        let admit = Admit::new(Parts {
            config: Arc::new(ArcSwap::from_pointee(config)),
            tenants: Arc::new(Tenants::from_pointee(directory)),
            store: Arc::clone(&shelf) as _,
            keyring,
            outlook,
            resolver: Resolver::new(&dns).unwrap(),
            log: Arc::clone(&log),
            metrics: Arc::default(),
            secret: Arc::new(secret()),
            clock,
            control: ControlKey::new(&[7; 32]),
            links: waxseal::suppress::Links::new(&[7; 32]),
        });
        Self { admit, shelf, log, tenant: own, dir, keys }
    }

    /// A submission from the tenant's own address to one recipient.
    pub fn submission(&self, message: &[u8]) -> Submission {
        Submission {
            client: Client {
                ip: "192.0.2.7".parse().unwrap(),
                helo: "pod-7".to_owned(),
                login: Some("acme".into()),
                tls: None,
            },
            tenant: Arc::clone(&self.tenant),
            envelope: envelope("a@t.example", &["r@rcpt.example"]),
            eight_bit_mime: true,
            smtputf8: false,
            require_tls: false,
            priority: None,
            deliver_by: None,
            body: message.to_vec(),
            held: Permit::default(),
        }
    }

    /// Submits, and gives the reply.
    pub async fn reply(&self, message: &[u8]) -> Reply {
        self.admit.submit(self.submission(message)).await
    }

    /// Submits what must be taken, and gives what went to the queue.
    pub async fn accepted(&self, message: &[u8]) -> Accept {
        self.take(self.submission(message)).await
    }

    pub async fn take(&self, submission: Submission) -> Accept {
        let reply = self.admit.submit(submission).await;
        assert_eq!(reply.code, 250, "{reply}");
        self.taken().pop().unwrap()
    }

    /// What is on the shelf, taken off it.
    pub fn taken(&self) -> Vec<Accept> {
        std::mem::take(&mut self.shelf.taken.lock().unwrap())
    }

    /// The tenant, with its mail signed like this.
    pub fn lent(&self, signing: Signing) -> Tenant {
        let domains: Vec<_> = self.tenant.domains.iter().map(|own| own.name.as_str()).collect();
        Tenant { signing, ..tenant(&self.tenant.name, &domains) }
    }

    /// Every line of the mail log.
    pub fn logged(&self) -> String {
        self.log.flush();
        fs::read_to_string(self.dir.path().join("mail.jsonl")).unwrap()
    }
}

pub fn envelope(from: &str, rcpts: &[&str]) -> Envelope {
    let rcpt = |address: &&str| Recipient {
        address: address.parse().unwrap(),
        orcpt: None,
        notify: Notify::default(),
    };
    Envelope {
        from: (!from.is_empty()).then(|| from.parse().unwrap()),
        rcpts: rcpts.iter().map(rcpt).collect(),
        ret: None,
        envid: None,
    }
}
