//! The gate: is this user name's password right, without hashing at every connection, without telling strangers
//! which names exist, and without letting their guesses lock the tenant out.
//!
//! One try goes: throttle (`throttle.rs`), then the cache of good logins, then argon2id off the async threads. Tries of the same
//! name and password at once are one: a platform that opens sixty connections after a restart hashes once. The throttle
//! stands before the cache, because a cache that answers first would let guesses at a busy login through unthrottled.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use lru::LruCache;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

use super::throttle::{self, Pass, Tag, Throttle, Try};
use super::{Tenant, Tenants, password};
use crate::mail::secret::{ExposeSecret, SecretString};

/// Good logins remembered.
const GOOD_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);
/// Verified when there is not one login to take the time from: a hash of random octets that nobody kept.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyB0aGlz$VjxZbB9Wl2bxlD0gYcYHcYOZtTLE0mrKsP5JpL8nJhw";

/// What the gate says.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The password is right.
    Ok {
        /// Whose login it is.
        tenant: Arc<Tenant>,
        /// The user name.
        login: Arc<str>,
    },
    /// No such name, or not its password: 535 5.7.8, the same for both.
    Refused,
    /// Too many guesses lately: 454 4.7.0; the password was not looked at.
    Throttled {
        /// When another try is worth while.
        wait: Duration,
    },
}

/// Checks passwords.
pub struct Gate {
    tenants: Arc<Tenants>,
    /// Random, of this process: what it hashes means nothing elsewhere.
    key: hmac::Key,
    state: Mutex<State>,
    /// Hashes at once for addresses that are known; strangers do not make these wait.
    known: Arc<Semaphore>,
    /// Hashes at once for all others: 19 MiB and a core each.
    strangers: Arc<Semaphore>,
}

struct State {
    throttle: Throttle,
    good: LruCache<Tag, ()>,
    /// Being hashed now; whoever brings the same name and password waits for the same answer.
    flights: HashMap<Tag, Arc<OnceCell<bool>>>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// How a try stands before its password is looked at.
enum Step {
    Throttled(Duration),
    Good,
    /// Somebody brings the same name and password just now, and paid for the try.
    Join(Arc<OnceCell<bool>>),
    Lead(Arc<OnceCell<bool>>, Pass),
}

/// What is verified.
struct Claim {
    password: SecretString,
    hash: Arc<str>,
    /// Whether the hash is this user name's; if not, the time is spent and the answer is no.
    real: bool,
}

impl Claim {
    fn holds(&self) -> bool {
        password::verify(&self.password, &self.hash) && self.real
    }
}

impl Gate {
    /// A gate over the current tenants.
    #[must_use]
    pub fn new(tenants: Arc<Tenants>) -> Self {
        let random: [u8; 32] = rand::random();
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let at_once = cores.div_ceil(2);
        let state =
            State { throttle: Throttle::new(), good: LruCache::new(GOOD_MAX), flights: HashMap::new() };
        Self {
            tenants,
            key: hmac::Key::new(hmac::HMAC_SHA256, &random),
            state: Mutex::new(state),
            known: Arc::new(Semaphore::new(at_once)),
            strangers: Arc::new(Semaphore::new(at_once)),
        }
    }

    /// Whether `password` is `username`'s. Ask `Directory::login` again at each MAIL: a login revoked meanwhile is gone.
    pub async fn check(&self, ip: IpAddr, username: &str, password: SecretString) -> Verdict {
        let (who, hash, real) = self.look_up(ip, username);
        let tag = self.tag(&[username, password.expose_secret(), &hash]);
        let claim = Claim { password, hash: Arc::clone(&hash), real };
        let good = match self.step(tag, who) {
            Step::Throttled(wait) => return Verdict::Throttled { wait },
            Step::Good => true,
            Step::Join(flight) => *flight.get_or_init(|| hashed(&self.strangers, claim)).await,
            Step::Lead(flight, pass) => self.lead(tag, &flight, &pass, claim).await,
        };
        if !good {
            return Verdict::Refused;
        }
        self.state().throttle.remember(&who, Instant::now());
        self.verdict(username, &hash)
    }

    /// Forgets every good login; called after a reload.
    pub fn forget(&self) {
        self.state().good.clear();
    }

    /// Who tries, the hash to verify against, and whether it is theirs.
    fn look_up(&self, ip: IpAddr, username: &str) -> (Try, Arc<str>, bool) {
        let network = throttle::network(ip);
        let account = self.tag(&[username]);
        let pair = self.tag(&[username, &network.to_string()]);
        let directory = self.tenants.load();
        let found = directory.login(username);
        let here = directory.network(ip);
        let own = found.is_some_and(|(tenant, _)| here.is_some_and(|here| here.name == tenant.name));
        // An unknown name is verified against somebody's hash, the same one each time, so that it costs what a known one
        // does even where hashes of different cost stand in the files (AU3).
        let seed = u64::from_le_bytes(account.first_chunk().copied().unwrap_or_default());
        let login = found.map(|(_, login)| login).or_else(|| directory.somebody(seed));
        let hash = login.map_or(NOBODY, |login| login.password.as_str());
        (Try { network, account, pair, own }, hash.into(), found.is_some())
    }

    fn step(&self, tag: Tag, who: Try) -> Step {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(flight) = state.flights.get(&tag) {
            return Step::Join(Arc::clone(flight));
        }
        let pass = match state.throttle.admit(who, now) {
            Ok(pass) => pass,
            Err(wait) => return Step::Throttled(wait),
        };
        if state.good.get(&tag).is_some() {
            state.throttle.give_back(&pass, now);
            return Step::Good;
        }
        Step::Lead(Arc::clone(state.flights.entry(tag).or_default()), pass)
    }

    /// Hashes for all who bring the same; a wrong password keeps the try it took, a leader who leaves early too.
    async fn lead(&self, tag: Tag, flight: &OnceCell<bool>, pass: &Pass, claim: Claim) -> bool {
        let _landing = Landing { gate: self, tag };
        let places = if pass.known { &self.known } else { &self.strangers };
        let good = *flight.get_or_init(|| hashed(places, claim)).await;
        if good {
            let mut state = self.state();
            state.throttle.give_back(pass, Instant::now());
            state.good.put(tag, ());
        }
        good
    }

    /// The tenant as it is now: the login may have been revoked while its password was hashed.
    fn verdict(&self, username: &str, hash: &str) -> Verdict {
        let directory = self.tenants.load();
        match directory.login(username) {
            Some((tenant, login)) if login.password == hash => {
                Verdict::Ok { tenant: Arc::clone(tenant), login: Arc::clone(&login.username) }
            }
            _ => Verdict::Refused,
        }
    }

    /// A keyed hash of fields, each with its length in front.
    fn tag(&self, fields: &[&str]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for field in fields {
            context.update(&(field.len() as u64).to_le_bytes());
            context.update(field.as_bytes());
        }
        context.sign().as_ref().try_into().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a flight, however its leader left.
struct Landing<'g> {
    gate: &'g Gate,
    tag: Tag,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.gate.state().flights.remove(&self.tag);
    }
}

/// argon2id on a thread where it holds up nobody, so many at once. The place is kept until the hash is done, even if the
/// client has gone.
async fn hashed(places: &Arc<Semaphore>, claim: Claim) -> bool {
    let Ok(place) = Arc::clone(places).acquire_owned().await else { return false };
    let work = tokio::task::spawn_blocking(move || {
        let holds = claim.holds();
        drop(place);
        holds
    });
    work.await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::time::Instant as Wall;

    use super::super::{BareNewlines, Directory, Login, Route, TenantLimits};
    use super::*;

    fn tenant(name: &str, password: &str) -> Tenant {
        let password = password::hash(&SecretString::from(password)).unwrap();
        Tenant {
            name: name.into(),
            networks: vec!["198.51.100.0/24".parse().unwrap()],
            notify: Vec::new(),
            logins: vec![Login { username: name.into(), password, class: None }],
            domains: Vec::new(),
            route: Arc::new(Route::Mx),
            fallbacks: Vec::new(),
            signing: crate::tenant::Signing::default(),
            limits: TenantLimits::default(),
            bare_newlines: BareNewlines::Refuse,
            classes: crate::config::Classes::default(),
            suppression: crate::tenant::SuppressionRules::default(),
        }
    }

    fn gate() -> Gate {
        Gate::new(Arc::new(Tenants::from_pointee(Directory::new([tenant("acme", "right")]))))
    }

    async fn try_from(gate: &Gate, last: u8, username: &str, password: &str) -> Verdict {
        gate.check(IpAddr::from([192, 0, 2, last]), username, SecretString::from(password)).await
    }

    fn is_ok(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Ok { login, .. } if &**login == "acme")
    }

    #[test]
    fn the_hash_that_is_nobodys_can_be_computed() {
        assert!(argon2::PasswordHash::new(NOBODY).unwrap().hash.is_some());
        assert!(!password::verify(&SecretString::from(""), NOBODY));
    }

    #[tokio::test]
    async fn right_wrong_and_unknown() {
        let gate = gate();
        assert!(is_ok(&try_from(&gate, 1, "acme", "right").await));
        assert!(matches!(try_from(&gate, 1, "acme", "wrong").await, Verdict::Refused));
        assert!(matches!(try_from(&gate, 1, "ACME", "right").await, Verdict::Refused), "names are exact");
        assert!(
            matches!(try_from(&gate, 1, "nobody", "right").await, Verdict::Refused),
            "AU3: somebody's hash is not a key"
        );
    }

    #[tokio::test]
    async fn a_busy_login_is_hashed_once() {
        let gate = Arc::new(gate());
        let all = (0..60).map(|_| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { is_ok(&try_from(&gate, 1, "acme", "right").await) })
        });
        for one in all.collect::<Vec<_>>() {
            assert!(one.await.unwrap(), "sixty connections at once meet no throttle");
        }
        let start = Wall::now();
        for _ in 0..1000 {
            assert!(is_ok(&try_from(&gate, 1, "acme", "right").await));
        }
        // A thousand hashes would take tens of seconds.
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn guesses_are_throttled_and_the_tenant_gets_in() {
        let gate = gate();
        assert!(is_ok(&try_from(&gate, 1, "acme", "right").await));
        let mut throttled = 0;
        for guess in 0..60 {
            let verdict = try_from(&gate, 100 + guess % 6, "acme", &format!("guess {guess}")).await;
            throttled += u32::from(matches!(verdict, Verdict::Throttled { .. }));
        }
        assert_eq!(throttled, 30, "the account's thirty tries are used up");
        let late = try_from(&gate, 120, "acme", "right").await;
        assert!(matches!(late, Verdict::Throttled { .. }), "the cache tells a stranger nothing");
        assert!(is_ok(&try_from(&gate, 1, "acme", "right").await), "AU2");
        let own = gate.check(IpAddr::from([198, 51, 100, 9]), "acme", SecretString::from("right")).await;
        assert!(is_ok(&own), "so does an address of its networks");
    }

    #[tokio::test]
    async fn a_login_that_was_revoked_or_changed_is_refused_at_once() {
        let gate = gate();
        assert!(is_ok(&try_from(&gate, 1, "acme", "right").await));
        gate.tenants.store(Arc::new(Directory::new([tenant("acme", "changed")])));
        assert!(matches!(try_from(&gate, 1, "acme", "right").await, Verdict::Refused));
        assert!(is_ok(&try_from(&gate, 1, "acme", "changed").await));
        gate.tenants.store(Arc::new(Directory::default()));
        assert!(matches!(try_from(&gate, 1, "acme", "changed").await, Verdict::Refused));
    }
}
