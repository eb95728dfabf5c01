//! Connections kept between messages. A connection belongs to a route: for exchangers to host and port, for an upstream
//! also to the tenant and its credentials, so that nobody's mail leaves under another's login.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::driver::Connection;
use super::protect::Protection;
use crate::mail::secret::ExposeSecret;
use crate::tenant::{Upstream, UpstreamTls};

/// Age at which a connection is not used again: a moved host should be noticed.
pub(super) const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// Connections kept for one route; more than are in use at once to one destination help nobody.
const KEPT_PER_ROUTE: usize = 20;
/// Connections kept in all.
const KEPT_MAX: usize = 1000;
/// How long `close` waits for the goodbyes.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Whose connection it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// An exchanger's: any tenant's mail may use it.
    Mx {
        /// The exchanger.
        host: String,
        /// Its port.
        port: u16,
        /// How it is protected.
        protection: Protection,
        /// Where it comes from, if that was chosen.
        source: Option<IpAddr>,
    },
    /// An upstream's, for one tenant, from one address.
    Upstream(UpstreamKey, Option<IpAddr>),
}

/// Everything that tells one tenant's use of an upstream from another's.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct UpstreamKey {
    tenant: Arc<str>,
    host: String,
    port: u16,
    tls: UpstreamTls,
    cleartext_auth: bool,
    username: Option<String>,
    password: Option<Secret>,
}

/// A password in a key: compared and hashed, never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
struct Secret(zeroize::Zeroizing<String>);

impl std::hash::Hash for Secret {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

impl std::fmt::Debug for UpstreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}>{}:{}", self.tenant, self.host, self.port)
    }
}

impl UpstreamKey {
    /// Of this tenant and upstream.
    #[must_use]
    pub(super) fn new(tenant: &Arc<str>, upstream: &Upstream) -> Self {
        let credentials = upstream.credentials.as_ref();
        Self {
            tenant: Arc::clone(tenant),
            host: upstream.host.clone(),
            port: upstream.port,
            tls: upstream.tls,
            cleartext_auth: upstream.cleartext_auth,
            username: credentials.map(|(username, _)| username.clone()),
            password: credentials.map(|(_, password)| Secret(password.expose_secret().to_owned().into())),
        }
    }
}

/// The kept connections.
#[derive(Debug, Default)]
pub(super) struct Pool {
    // A std mutex: held for a few map operations, never across an await.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    routes: HashMap<Key, Vec<Idle>>,
    count: usize,
    sweeping: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    until: Instant,
}

impl Idle {
    fn is_at(&self, site: &str) -> bool {
        self.connection.seat.as_ref().is_some_and(|seat| seat.site() == site)
    }
}

impl Kept {
    /// The connection to this site that is kept longest.
    fn oldest_of(&mut self, site: &str) -> Option<Connection> {
        let all =
            self.routes.iter().flat_map(|(key, idles)| idles.iter().enumerate().map(move |one| (key, one)));
        let its = all.filter(|(_, (_, idle))| idle.is_at(site));
        let (key, (at, _)) = its.min_by_key(|(_, (_, idle))| idle.until)?;
        let key = key.clone();
        Some(self.routes.get_mut(&key)?.remove(at).connection)
    }
}

impl Pool {
    /// The connection of this route that was used last, if it still looks alive.
    #[must_use]
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while let Some(idle) = kept.routes.get_mut(key).and_then(Vec::pop) {
            kept.count -= 1;
            let young = now.duration_since(idle.connection.born) < CONNECTION_AGE;
            if now < idle.until && young && idle.connection.is_silent() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Whether a connection of this route is kept; it may turn out to be gone.
    #[must_use]
    pub(super) fn has(&self, key: &Key) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.routes.get(key).is_some_and(|idles| !idles.is_empty())
    }

    /// Takes out so many connections to this site, those kept longest first.
    #[must_use]
    pub(super) fn evict(&self, site: &str, count: usize) -> Vec<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<Connection> = (0..count).map_while(|_| kept.oldest_of(site)).collect();
        kept.count -= gone.len();
        gone
    }

    /// Keeps a connection for this long, or, where that is no time at all, says goodbye to it.
    pub(super) fn keep(self: &Arc<Self>, key: Key, connection: Connection, idle: Duration) {
        let spent = connection.born.elapsed() >= CONNECTION_AGE;
        if let Some(connection) = self.insert(key, connection, idle, spent) {
            tokio::spawn(connection.quit());
        }
    }

    /// Puts it in; gives it back where it may not stay.
    fn insert(
        self: &Arc<Self>,
        key: Key,
        connection: Connection,
        idle: Duration,
        spent: bool,
    ) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let full = kept.count >= KEPT_MAX;
        let route = kept.routes.entry(key).or_default();
        if spent || full || idle.is_zero() || route.len() >= KEPT_PER_ROUTE {
            return Some(connection);
        }
        let until = Instant::now() + idle;
        route.push(Idle { connection, until });
        kept.count += 1;
        if !kept.sweeping {
            kept.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(self), until));
        }
        None
    }

    /// Takes out what is past its time; when the next one will be.
    fn expired(&self, now: Instant) -> (Vec<Connection>, Option<Instant>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        let mut next: Option<Instant> = None;
        for idles in kept.routes.values_mut() {
            gone.extend(idles.extract_if(.., |idle| idle.until <= now).map(|idle| idle.connection));
            let earliest = idles.iter().map(|idle| idle.until).min();
            next = [next, earliest].into_iter().flatten().min();
        }
        kept.routes.retain(|_, idles| !idles.is_empty());
        kept.count -= gone.len();
        kept.sweeping = next.is_some();
        (gone, next)
    }

    /// Says goodbye on every kept connection; waits at most two seconds.
    pub(super) async fn close(&self) {
        let all: Vec<Connection> = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.count = 0;
            kept.routes.drain().flat_map(|(_, idles)| idles).map(|idle| idle.connection).collect()
        };
        let mut goodbyes = tokio::task::JoinSet::new();
        for connection in all {
            goodbyes.spawn(connection.quit());
        }
        let _ = tokio::time::timeout(CLOSE_WAIT, goodbyes.join_all()).await;
    }
}

/// Closes connections when their time is over; ends when none is left.
async fn sweep(pool: Weak<Pool>, first: Instant) {
    let mut next = Some(first);
    while let Some(at) = next {
        sleep_until(at).await;
        let Some(pool) = pool.upgrade() else { return };
        let (gone, later) = pool.expired(Instant::now());
        for connection in gone {
            tokio::spawn(connection.quit());
        }
        next = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::deliver::pace::Bounds;
    use crate::deliver::sites::{Answer, Sites};

    /// A connection to a server that says nothing; it must be kept while the connection is used.
    async fn connection() -> (Connection, tokio::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stream, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        (Connection::new(stream.unwrap(), address.ip()), accepted.unwrap().0)
    }

    fn key() -> Key {
        Key::Mx { host: "mx.test".into(), port: 25, protection: Protection::OPPORTUNISTIC, source: None }
    }

    #[tokio::test]
    async fn what_is_old_or_spent_is_not_used_again() {
        let hour = Duration::from_secs(3600);
        let second = Duration::from_secs(1);
        let rows = [
            (CONNECTION_AGE - 10 * second, 0, hour, true, "young and fresh"),
            (second, 0, Duration::ZERO, false, "it is not to be kept: it has carried its messages"),
            (CONNECTION_AGE, 0, hour, false, "300 s old when its message is done"),
            (CONNECTION_AGE - 10 * second, 10, hour, false, "300 s old when the next message comes"),
        ];
        for (age, later, idle, used, why) in rows {
            let (pool, key) = (Arc::new(Pool::default()), key());
            let (mut connection, _server) = connection().await;
            connection.born = Instant::now() - age;
            pool.keep(key.clone(), connection, idle);
            for idle in pool.kept.lock().unwrap().routes.get_mut(&key).into_iter().flatten() {
                idle.connection.born -= later * second;
            }
            assert_eq!(pool.take(&key).is_some(), used, "{why}");
        }
    }

    #[tokio::test]
    async fn a_route_keeps_no_more_than_its_share() {
        let (pool, key) = (Arc::new(Pool::default()), key());
        let mut servers = Vec::new();
        for _ in 0..=KEPT_PER_ROUTE {
            let (connection, server) = connection().await;
            servers.push(server);
            pool.keep(key.clone(), connection, Duration::from_secs(3600));
        }
        let kept = std::iter::from_fn(|| pool.take(&key)).count();
        assert_eq!(kept, KEPT_PER_ROUTE);
    }

    #[tokio::test]
    async fn what_makes_room_is_the_sites_own_and_kept_longest() {
        let (pool, sites) = (Arc::new(Pool::default()), Sites::new(Clock::System, Arc::default()));
        let bounds = Bounds { most: 1, rest: Duration::ZERO };
        let mut servers = Vec::new();
        for (mark, host, site) in
            [(1, "a", "other.test"), (2, "b", "mx.test"), (3, "a", "mx.test"), (4, "b", "mx.test")]
        {
            let (Answer::Go(turn), _) = sites.ask(&site.into(), false, bounds) else { panic!("it is free") };
            let (mut connection, server) = connection().await;
            connection.ip = std::net::Ipv4Addr::new(127, 0, 0, mark).into();
            connection.seat = Some(Arc::new(turn.squeeze_in()));
            servers.push(server);
            let key =
                Key::Mx { host: host.into(), port: 25, protection: Protection::OPPORTUNISTIC, source: None };
            pool.keep(key, connection, Duration::from_secs(3600));
        }
        let marks = |gone: Vec<Connection>| gone.iter().map(|one| one.ip.to_string()).collect::<Vec<_>>();
        assert_eq!(sites.excess("mx.test", bounds), 2);
        assert_eq!(marks(pool.evict("mx.test", 2)), ["127.0.0.2", "127.0.0.3"], "whatever host they go to");
        assert_eq!(sites.excess("mx.test", bounds), 0, "their seats are free");
        assert_eq!(marks(pool.evict("mx.test", 2)), ["127.0.0.4"], "the other site's stays");
        assert_eq!(pool.kept.lock().unwrap().count, 1);
    }
}
