//! The only part of a session with I/O: reads, writes once for each batch of replies, waits within deadlines, and asks the
//! rest of the house what the machine wants to know.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::machine::{Machine, Setting, Step, replies};
use super::pace::Pace;
use super::sasl::Credentials;
use super::{Shared, Stream, ending};
use crate::admit::Submission;
use crate::config::{Config, Listener, Role};
use crate::failpoint::{self, Failpoint};
use crate::mail::reply::{Enhanced, Reply};
use crate::maillog::Rejected;
use crate::metrics::ResultLabel;
use crate::tenant::Tenant;
use crate::tenant::auth::Verdict;

/// Room for a read while a command is awaited: an idle session holds no more.
const COMMAND_READ: usize = 4 * 1024;
/// Room for a read while a message comes.
const BODY_READ: usize = 32 * 1024;
/// The longest a refused AUTH is kept waiting.
const REFUSAL_WAIT_MAX: Duration = Duration::from_secs(8);
/// How long, and how many octets, we still read from a client that we have said goodbye to: closing with unread octets
/// resets the connection, and the goodbye is lost (RFC 9293 section 3.6.1).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 1024 * 1024;

/// A client that a listener let in.
pub struct Visitor {
    /// What all sessions share.
    pub shared: Arc<Shared>,
    /// Where it came in.
    pub listener: Arc<Listener>,
    /// Its address.
    pub ip: IpAddr,
    /// Called when a TLS ClientHello comes after the banner, before the connection ends: the client's next one may follow
    /// at once.
    pub wants_tls: Box<dyn Fn() + Send + Sync>,
}

/// Talks until the client or we have enough. The banner is the first thing written.
pub async fn run(visitor: Visitor, stream: Stream, stop: CancellationToken) {
    let config = visitor.shared.config.load_full();
    let inbound = visitor.listener.role == Role::Inbound;
    let network = visitor.shared.tenants.load().network(visitor.ip).filter(|_| !inbound).cloned();
    let setting = Setting {
        listener: Arc::clone(&visitor.listener),
        certificate: visitor.shared.tls.is_some(),
        ip: visitor.ip,
        network,
        returns: inbound.then(|| Arc::new(visitor.shared.inbound.returns())),
        config: Arc::clone(&config),
        memory: Arc::clone(&visitor.shared.memory),
    };
    let machine = Machine::new(setting, stream.facts());
    let mut driver = Driver {
        shared: visitor.shared,
        config,
        ip: visitor.ip,
        stream: Some(stream),
        machine,
        input: BytesMut::new(),
        stop,
        waiting: Waiting { command: 0, since: Instant::now(), pace: None, roomy: false, last: None },
        proof: None,
        wants_tls: visitor.wants_tls,
    };
    let outcome = driver.converse().await;
    driver.tell();
    let log = &driver.shared.log;
    ending::probe(&driver.machine, driver.ip, log);
    if let Err(error) = outcome {
        tracing::debug!(ip = %driver.ip, %error, "session ended");
    }
}

struct Driver {
    shared: Arc<Shared>,
    config: Arc<Config>,
    ip: IpAddr,
    /// Absent only during a handshake.
    stream: Option<Stream>,
    machine: Machine,
    input: BytesMut,
    stop: CancellationToken,
    waiting: Waiting,
    /// The hash that the login's password fitted, to see whether it is still the one.
    proof: Option<String>,
    wants_tls: Box<dyn Fn() + Send + Sync>,
}

/// What the deadlines are counted from.
struct Waiting {
    /// The machine's count of lines when the wait began.
    command: u64,
    since: Instant,
    pace: Option<Pace>,
    /// The read buffer was made for a body: too large to keep while idle.
    roomy: bool,
    /// Set once the daemon stops: when a message under way must be done.
    last: Option<Instant>,
}

impl Driver {
    async fn converse(&mut self) -> io::Result<()> {
        loop {
            match self.machine.step(&mut self.input) {
                Step::Read => {
                    self.flush().await?;
                    self.tell();
                    if !self.fill().await? {
                        return Ok(());
                    }
                }
                Step::Flush => self.flush().await?,
                Step::StartTls => self.handshake().await?,
                Step::Authenticate(credentials) => self.authenticate(credentials).await,
                Step::CheckMail => {
                    let verdict = self.check_mail();
                    self.machine.mail_checked(verdict, self.shared.clock.now());
                }
                Step::Submit(submission) => self.submit(*submission).await,
                Step::Return(returned) => {
                    let reply = self.shared.inbound.take(*returned).await;
                    self.machine.submitted(&reply);
                }
                Step::Close => return self.goodbye().await,
            }
        }
    }

    /// Writes what waits, in one write.
    async fn flush(&mut self) -> io::Result<()> {
        if self.machine.output().is_empty() {
            return Ok(());
        }
        let wait = self.shared.waits.write;
        let stream = self.stream.as_mut().ok_or_else(lost)?;
        let out = self.machine.output();
        let writing = async {
            stream.write_all(out).await?;
            stream.flush().await
        };
        timeout(wait, writing).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        failpoint::pass(Failpoint::ReplyWritten);
        out.clear();
        out.shrink_to(COMMAND_READ);
        Ok(())
    }

    /// Reads more. `false`: the client is gone. A deadline or a shutdown becomes the machine's last word.
    async fn fill(&mut self) -> io::Result<bool> {
        let (body, now) = (self.machine.in_body(), Instant::now());
        let deadline = self.deadline(body, now);
        let room = if body { BODY_READ } else { COMMAND_READ };
        if self.waiting.roomy && !body && self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.waiting.roomy = body;
        self.input.reserve(room);
        let stream = self.stream.as_mut().ok_or_else(lost)?;
        let reading = timeout_at(deadline, stream.read_buf(&mut self.input));
        // A message under way may still end; between commands a shutdown is said at once (RFC 5321 section 3.8).
        let last = match self.waiting.last {
            Some(last) => last,
            None => now + self.shared.waits.drain,
        };
        if self.stop.is_cancelled() {
            self.waiting.last = Some(last);
        }
        let stopped = async {
            self.stop.cancelled().await;
            if body {
                tokio::time::sleep_until(last).await;
            }
        };
        let read = tokio::select! {
            biased;
            () = stopped => {
                self.machine.close(&replies::shutting_down());
                return Ok(true);
            }
            read = reading => read,
        };
        match read {
            Ok(read) => self.count(read?, body),
            Err(_) => {
                if !body || !self.may_go_on() {
                    self.machine.close(&replies::timed_out());
                }
                Ok(true)
            }
        }
    }

    /// A silent minute after a fast one is forgiven, until the longest wait for octets is over.
    fn may_go_on(&mut self) -> bool {
        let now = Instant::now();
        let silent = now.saturating_duration_since(self.waiting.since) >= self.config.limits.data_timeout;
        !silent && self.waiting.pace.as_mut().is_some_and(|pace| pace.keeps_up(0, now))
    }

    /// Counts what came; too slow is as good as silent (CM15).
    fn count(&mut self, read: usize, body: bool) -> io::Result<bool> {
        let now = Instant::now();
        let slow = |pace: &mut Pace| !pace.keeps_up(read, now);
        if body {
            self.waiting.since = now;
        }
        if body && self.waiting.pace.as_mut().is_some_and(slow) {
            self.machine.close(&replies::timed_out());
        }
        Ok(read > 0)
    }

    /// A command has one deadline for its whole line, a message one for each read and a minimum rate.
    fn deadline(&mut self, body: bool, now: Instant) -> Instant {
        let (limits, waiting, rate) = (&self.config.limits, &mut self.waiting, self.shared.waits.rate);
        if body {
            if waiting.pace.is_none() {
                waiting.since = now;
            }
            let pace = waiting.pace.get_or_insert_with(|| Pace::new(now, limits.minimum_rate, rate));
            return (waiting.since + limits.data_timeout).min(pace.deadline());
        }
        if waiting.pace.take().is_some() || waiting.command != self.machine.commands() {
            waiting.command = self.machine.commands();
            waiting.since = now;
        }
        waiting.since + limits.command_timeout
    }

    async fn handshake(&mut self) -> io::Result<()> {
        self.flush().await?;
        let stream = self.stream.take().ok_or_else(lost)?;
        let config = self.shared.tls.clone().ok_or_else(lost)?;
        let limit = self.config.limits.handshake_timeout;
        let shaken = timeout(limit, stream.secure(config)).await;
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let result = if shaken.is_ok() { "ok" } else { "failed" };
        self.shared.metrics.handshakes.get_or_create(&ResultLabel { result }).inc();
        let stream = shaken?;
        if let Some(facts) = stream.facts() {
            self.machine.secured(facts);
        }
        self.input = BytesMut::new();
        self.waiting.since = Instant::now();
        self.stream = Some(stream);
        Ok(())
    }

    async fn authenticate(&mut self, credentials: Credentials) {
        let verdict =
            self.shared.gate.check(self.ip, &credentials.username, credentials.password.clone()).await;
        let result = match verdict {
            Verdict::Ok { tenant, login } => {
                self.proof = self.hash_of(&login);
                self.machine.authenticated(tenant, login, credentials.mechanism);
                "ok"
            }
            Verdict::Refused => {
                // Each guess costs more than the one before.
                let doubled = self.shared.waits.auth.saturating_mul(1 << self.machine.refusals().min(8));
                tokio::time::sleep(doubled.min(REFUSAL_WAIT_MAX)).await;
                self.machine.auth_refused(Some(credentials.username));
                "refused"
            }
            Verdict::Throttled { .. } => {
                self.machine.auth_throttled(&credentials);
                "throttled"
            }
        };
        self.shared.metrics.auth.get_or_create(&ResultLabel { result }).inc();
    }

    fn hash_of(&self, username: &str) -> Option<String> {
        self.shared.tenants.load().login(username).map(|(_, login)| login.password.clone())
    }

    /// May this sender send now? The directory is asked again, for a login may be revoked while its session lasts.
    fn check_mail(&mut self) -> Result<Option<Arc<Tenant>>, (Reply, &'static str)> {
        if !self.shared.store.has_room() {
            return Err((replies::no_room(), "room"));
        }
        // Anybody may bring what comes back; only whom it is for counts.
        if self.machine.is_inbound() {
            return Ok(None);
        }
        let Some(tenant) = self.current_tenant()? else { return Ok(None) };
        let from = self.machine.pending_from();
        self.shared.admit.may_send_from(&tenant, from).map_err(|reply| (reply, "from"))?;
        Ok(Some(tenant))
    }

    /// The sender as the directory knows it now; `None` only where nobody needs to be known (the inbound listener).
    fn current_tenant(&mut self) -> Result<Option<Arc<Tenant>>, (Reply, &'static str)> {
        let directory = self.shared.tenants.load();
        if let Some(login) = self.machine.login() {
            let now = directory.login(&login.name);
            let valid = now.filter(|(_, now)| Some(&now.password) == self.proof.as_ref());
            if let Some((tenant, _)) = valid {
                return Ok(Some(Arc::clone(tenant)));
            }
            self.machine.forget_login();
            return Err((replies::login_revoked(), "revoked"));
        }
        let known = self.machine.tenant().is_some();
        let now = directory.network(self.ip).cloned();
        self.machine.set_network(now.clone());
        if known && now.is_none() {
            return Err((replies::login_revoked(), "revoked"));
        }
        Ok(now)
    }

    async fn submit(&mut self, submission: Submission) {
        failpoint::pass(Failpoint::AcceptTaken);
        let taken = self.shared.meter.take(&submission.tenant, self.shared.clock.now());
        let reply = match taken {
            Ok(()) => self.shared.admit.submit(submission).await,
            Err(reached) => {
                let reply = Reply::new(452, Enhanced(4, 7, 0), format!("{reached}; try again later"));
                self.tell_limit(&submission, &reply);
                reply
            }
        };
        self.machine.submitted(&reply);
    }

    fn tell_limit(&self, submission: &Submission, reply: &Reply) {
        let named: Vec<_> = submission.envelope.rcpts.iter().map(|rcpt| rcpt.address.clone()).collect();
        self.shared.log.rejected(&Rejected {
            tenant: Some(&submission.tenant.name),
            from: Some(submission.envelope.from.as_ref()),
            to: &named,
            ..ending::refusal(&self.machine, self.ip, reply, "limit")
        });
    }

    /// Tells the mail log what the machine noted.
    fn tell(&mut self) {
        for note in self.machine.take_notes() {
            if ending::tell(&note, &self.machine, self.ip, &self.shared) {
                (self.wants_tls)();
            }
        }
    }

    async fn goodbye(&mut self) -> io::Result<()> {
        self.tell();
        self.flush().await?;
        let stream = self.stream.as_mut().ok_or_else(lost)?;
        let lingering = async {
            stream.shutdown().await?;
            let (mut left, mut scrap) = (LINGER_OCTETS, BytesMut::with_capacity(COMMAND_READ));
            while left > 0 {
                scrap.clear();
                match stream.read_buf(&mut scrap).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            Ok(())
        };
        timeout(LINGER, lingering).await.unwrap_or(Ok(()))
    }
}

fn lost() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
