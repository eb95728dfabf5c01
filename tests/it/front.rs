//! A front door for tests: real listeners with the real gate and admission on a real store, and clients for clear text,
//! STARTTLS and implicit TLS.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::intake::unasked;
use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio_util::sync::CancellationToken;
use waxseal::admit::classify::ControlKey;
use waxseal::admit::{Admit, Parts};
use waxseal::clock::Clock;
use waxseal::config::{Config, Listener, ListenerTls, Role, Tls};
use waxseal::dns::Resolver;
use waxseal::inbound::{self, Inbound};
use waxseal::listen::{self, Listeners, certs::Certificates};
use waxseal::maillog::MailLog;
use waxseal::queue::embedded::Embedded;
use waxseal::queue::store::Store;
use waxseal::seal::Keyring;
use waxseal::session::{Shared, Waits};
use waxseal::tenant::auth::Gate;
use waxseal::tenant::{Directory, Login, OnFail, OwnedDomain, Route, Tenant, TenantLimits};

use crate::dialogue::{self, Options};
use crate::store_model;

/// A running front door.
pub struct Front {
    pub runtime: tokio::runtime::Runtime,
    /// The listener as the options have it, and an implicit one beside it.
    pub addresses: Vec<SocketAddr>,
    store: Arc<Embedded>,
    pub shared: Arc<Shared>,
    pub stop: CancellationToken,
    pub served: Option<tokio::task::JoinHandle<()>>,
    client: Arc<ClientConfig>,
    dir: tempfile::TempDir,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn store(dir: &Path, config: &Config) -> Arc<Embedded> {
    let mut room = store_model::options(&Clock::System);
    room.disk_reserve = config.queue.disk_reserve;
    Embedded::open(&dir.join("state"), room).unwrap()
}

fn list(store: &Arc<Embedded>) -> Arc<waxseal::suppress::List> {
    Arc::new(waxseal::suppress::List::new(Arc::clone(store) as _, Arc::default()))
}

fn hash() -> String {
    use argon2::password_hash::{PasswordHasher as _, SaltString};
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let salt = SaltString::from_b64("c2FsdHNhbHRzYWx0").unwrap();
    argon.hash_password(b"secret", &salt).unwrap().to_string()
}

/// Who a front door's options ask for.
pub fn tenant(options: &Options) -> Tenant {
    let networks = if options.network { vec!["127.0.0.1/32".parse().unwrap()] } else { Vec::new() };
    let name = "t.example".parse().unwrap();
    let return_path = (options.role == Role::Inbound).then(|| "bounce.t.example".parse().unwrap());
    Tenant {
        name: "t".into(),
        networks,
        notify: Vec::new(),
        logins: vec![Login { username: "t".into(), password: hash(), class: None }],
        domains: vec![OwnedDomain { name, on_fail: OnFail::Off, return_path, subdomains: false }],
        route: Arc::new(Route::Mx),
        fallbacks: Vec::new(),
        signing: waxseal::tenant::Signing::default(),
        limits: TenantLimits::default(),
        bare_newlines: options.bare,
        classes: waxseal::config::Classes::default(),
        suppression: waxseal::tenant::SuppressionRules::default(),
    }
}

/// Another customer, whose domain the first may not use.
pub fn other() -> Tenant {
    let mut other = tenant(&Options { network: false, ..Options::default() });
    other.name = "other".into();
    other.logins.clear();
    other.domains[0].name = "other.example".parse().unwrap();
    other
}

fn config(options: &Options, dir: &Path) -> Config {
    let mut config = Config::new("relay.test".parse().unwrap(), dir);
    config.limits.message_size = 4096;
    config.limits.recipients = 100;
    config.limits.hello_wait = Duration::ZERO;
    // Nobody answers there: nothing here may wait for DNS.
    config.dns.servers = vec!["127.0.0.1:9".parse().unwrap()];
    let made = rcgen::generate_simple_self_signed(vec!["relay.test".to_owned()]).unwrap();
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    config.tls = Some(Tls { certificate, key, more: Vec::new() });
    let listener = |tls| Listener {
        address: "127.0.0.1:0".parse().unwrap(),
        role: options.role,
        tls,
        cleartext_auth: options.auth,
    };
    config.listeners = vec![listener(options.listener), listener(ListenerTls::Implicit)];
    config
}

/// The tenant's key, so that no test waits for one to be made.
fn lay_key(dir: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let keys = dir.join("keys/t.example");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::write(keys.join("s1.pem"), include_str!("data/rsa2048.pem")).unwrap();
    std::fs::set_permissions(keys.join("s1.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl Front {
    pub fn open(options: &Options, adjust: impl FnOnce(&mut Config)) -> Self {
        Self::open_with(options, Waits { auth: Duration::ZERO, ..Waits::default() }, adjust)
    }

    /// With other waits.
    pub fn open_with(options: &Options, waits: Waits, adjust: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(options, dir.path());
        adjust(&mut config);
        lay_key(dir.path());
        let certificates = Certificates::load(config.tls.as_ref().unwrap()).unwrap();
        let tls = certificates.server_config().unwrap();
        let client = trusting(&config.tls.as_ref().unwrap().certificate, rustls::ALL_VERSIONS);
        let store = store(dir.path(), &config);
        let tenants = Arc::new(ArcSwap::from_pointee(Directory::new([tenant(options), other()])));
        let log = MailLog::open(&dir.path().join("mail.jsonl"), Clock::System).unwrap();
        let listeners = config.listeners.clone();
        let keyring = Arc::new(ArcSwap::from_pointee(Keyring::load(&config.keys).unwrap()));
        let config = Arc::new(ArcSwap::from_pointee(config));
        let runtime = runtime();
        let resolver = runtime.block_on(async { Resolver::new(&config.load().dns).unwrap() });
        let secret = Arc::new(dialogue::secret());
        let admit = Admit::new(Parts {
            outlook: runtime.block_on(async { unasked(&Clock::System) }),
            metrics: Arc::default(),
            config: Arc::clone(&config),
            tenants: Arc::clone(&tenants),
            store: Arc::clone(&store) as _,
            keyring: Arc::clone(&keyring),
            resolver,
            log: Arc::clone(&log),
            secret: Arc::clone(&secret),
            clock: Clock::System,
            control: ControlKey::new(&[7; 32]),
            links: waxseal::suppress::Links::new(&[7; 32]),
        });
        let inbound = Inbound::new(inbound::Parts {
            config: Arc::clone(&config),
            tenants: Arc::clone(&tenants),
            store: Arc::clone(&store) as _,
            keyring,
            log: Arc::clone(&log),
            suppressions: list(&store),
            secret,
            clock: Clock::System,
        });
        let shared = Arc::new(Shared {
            config,
            gate: Arc::new(Gate::new(Arc::clone(&tenants))),
            tenants,
            meter: Arc::default(),
            admit: Arc::new(admit),
            inbound: Arc::new(inbound),
            store: Arc::clone(&store) as _,
            memory: Arc::default(),
            log,
            metrics: Arc::default(),
            clock: Clock::System,
            tls: Some(tls),
            waits,
        });
        let bound = runtime.block_on(async { Listeners::bind(&listeners).unwrap() });
        let (addresses, stop) = (bound.addresses(), CancellationToken::new());
        let served = Some(runtime.spawn(listen::serve(bound, Arc::clone(&shared), stop.clone())));
        Self { runtime, addresses, store, shared, stop, served, client, dir }
    }

    /// Messages in the queue.
    pub fn queued(&self) -> u64 {
        self.runtime.block_on(async {
            store_model::ready(&*self.store).await;
            self.store.stats().await.unwrap().messages
        })
    }

    /// Waits until no session is open.
    pub fn quiet(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.shared.metrics.sessions.get() > 0 {
            assert!(Instant::now() < deadline, "a session does not end");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    pub fn connect(&self, at: usize) -> TcpStream {
        let stream = TcpStream::connect(self.addresses[at]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub fn secure(&self, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("relay.test").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::clone(&self.client), name).unwrap(), stream)
    }

    /// Under TLS by STARTTLS, with nothing said before but what is needed.
    pub fn starttls(&self) -> StreamOwned<ClientConnection, TcpStream> {
        self.secure(self.up_to_starttls())
    }

    /// Where the client's ClientHello comes next.
    pub fn up_to_starttls(&self) -> TcpStream {
        let mut reader = BufReader::new(self.connect(0));
        line(&mut reader);
        reader.get_mut().write_all(b"STARTTLS\r\n").unwrap();
        assert_eq!(line(&mut reader), "220 2.0.0 Ready to start TLS");
        assert!(reader.buffer().is_empty());
        reader.into_inner()
    }

    /// The certificate, PEM.
    pub fn certificate(&self) -> PathBuf {
        self.shared.config.load().tls.as_ref().unwrap().certificate.clone()
    }

    pub fn log(&self) -> String {
        self.shared.log.flush();
        std::fs::read_to_string(self.dir.path().join("mail.jsonl")).unwrap()
    }
}

/// A client that trusts this certificate and speaks these versions of TLS.
pub fn trusting(
    certificate: &Path,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

pub fn line(reader: &mut impl std::io::BufRead) -> String {
    let mut text = String::new();
    reader.read_line(&mut text).unwrap();
    text.trim_end().to_owned()
}

/// Sends everything after the banner, in pieces of `size` (0: one write), then reads to the end.
pub fn converse(mut stream: impl Read + Write, sent: &[u8], size: usize, banner: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if banner {
        lines.push(line(&mut BufReader::with_capacity(1, &mut stream)));
    } else {
        lines.push("220 relay.test ESMTP Waxseal".to_owned());
    }
    let size = if size == 0 { sent.len().max(1) } else { size };
    for piece in sent.chunks(size) {
        // The server may have ended the conversation already; what it said is read below.
        if stream.write_all(piece).and_then(|()| stream.flush()).is_err() {
            break;
        }
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    lines.extend(String::from_utf8_lossy(&rest).split_terminator("\r\n").map(String::from));
    lines
}
