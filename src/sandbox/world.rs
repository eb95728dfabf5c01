//! A whole relay on loopback: files as an administrator has them, a zone that publishes what `domain add` prints, an
//! exchanger that every domain's MX leads to, and the real daemon between them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, SaltString};
use rand::RngExt;
use rcgen::{CertificateParams, KeyPair};

use super::client::{Form, Method};
use super::exchanger::Exchanger;
use super::zone::Zone;
use crate::config::{self, Config, ConfigError};
use crate::daemon::{Daemon, StartError};
use crate::dns::Resolver;
use crate::fsx;
use crate::mail::address::Domain;
use crate::mail::secret::ExposeSecret;
use crate::queue::store::StoreError;
use crate::seal::keys::{self, Kind};
use crate::seal::records::{self, Setting};
use crate::seal::{KeyError, Keyring};

/// The relay's name, and the domain of its own identity.
pub const HOSTNAME: &str = "relay.sandbox.test";
/// The tenant's From domain.
pub const FROM_DOMAIN: &str = "acme.test";
/// Where bounces of its mail come back to, if they do.
pub const RETURN_PATH: &str = "bounce.acme.test";
/// The exchanger that every domain's MX leads to.
pub const EXCHANGER: &str = "mx.sandbox.test";
/// The tenant, and its user name.
pub const TENANT: &str = "acme";
/// The listeners, in this order.
pub const METHODS: [Method; 3] = [Method::None, Method::Tls, Method::Ssl];

/// The selector of the first key, as `domain add` names it.
const SELECTOR: &str = "wx1";
/// Any name that nobody published has this exchanger, so that mail to anybody stays on this machine.
const EVERYWHERE: &str = "*. 1 IN MX 10 mx.sandbox.test.\nmx.sandbox.test. 1 IN A 127.0.0.1\n";
/// Characters of a generated password: none that look alike.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Five bits each: 80.
const PASSWORD_LENGTH: usize = 16;

/// Why the world cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A file or a socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The files this wrote are refused.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// No key, or an unusable one.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// The daemon does not start.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The daemon ended badly.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// What tests add to the files.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Lines of `[delivery]`.
    pub delivery: String,
    /// Tables of their own.
    pub tables: String,
    /// Lines at the end of the tenant's file.
    pub tenant: String,
    /// Where a fourth listener takes what comes back, at the exchangers' port; the From domain then has a return path.
    pub inbound: Option<IpAddr>,
}

/// Everything, running.
pub struct World {
    /// The DNS of this world.
    pub zone: Zone,
    /// Where all mail arrives.
    pub exchanger: Exchanger,
    /// The relay.
    pub daemon: Daemon,
    /// Its configuration, which the command line can be pointed at.
    pub config: Config,
    /// The tenant's password.
    pub password: String,
    /// The listeners' certificate, PEM.
    pub certificate: String,
}

impl World {
    /// Lays out the files below `dir` and starts everything; the listeners accept when this answers.
    ///
    /// # Errors
    /// All of `Trouble`.
    pub async fn start(dir: &Path, extra: &Extra) -> Result<Self, Trouble> {
        let home = extra.inbound.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let zone = Zone::start(&format!("{EVERYWHERE}{HOSTNAME}. 1 IN A {home}\n")).await?;
        let resolver =
            Resolver::new(&config::Dns { servers: vec![zone.address()], ..config::Dns::default() })
                .map_err(io::Error::other)?;
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let exchanger = Exchanger::start(here, EXCHANGER, resolver.hickory().clone()).await?;

        let layout = Layout { dir, zone: zone.address(), port: exchanger.address().port() };
        let password = password();
        let certificate = layout.write(extra, &password)?;
        // Nothing of the environment: a variable meant for a real relay must not lead the sandbox to its files.
        let config = Config::load_with(Some(&layout.file()), &|_| None)?;
        publish(&zone, &config, extra).await?;
        let daemon = Box::pin(Daemon::start(config.clone())).await?;
        Ok(Self { zone, exchanger, daemon, config, password, certificate })
    }

    /// Where the listener of this method accepts.
    #[must_use]
    pub fn door(&self, method: Method) -> Option<SocketAddr> {
        let at = METHODS.iter().position(|one| *one == method)?;
        self.daemon.addresses().get(at).copied()
    }

    /// What a customer types into the platform's form for this method.
    #[must_use]
    pub fn form(&self, method: Method) -> Option<Form> {
        Some(Form {
            server: self.door(method)?,
            method,
            login: (method != Method::None).then(|| (TENANT.to_owned(), self.password.clone())),
            trust: self.certificate.clone(),
        })
    }

    /// Ends the relay as SIGTERM does.
    ///
    /// # Errors
    /// The store failed.
    pub async fn end(self) -> Result<(), Trouble> {
        Ok(self.daemon.drain().await?)
    }
}

/// Where the files go, and what they point at.
struct Layout<'a> {
    dir: &'a Path,
    zone: SocketAddr,
    port: u16,
}

impl Layout<'_> {
    fn file(&self) -> PathBuf {
        self.dir.join("config/waxseal.toml")
    }

    /// Writes configuration, tenant, keys and a certificate; answers the certificate.
    fn write(&self, extra: &Extra, password: &str) -> Result<String, Trouble> {
        let config = self.dir.join("config");
        for name in ["config/tenants", "certs", "data"] {
            fsx::create_dir(&self.dir.join(name))?;
        }
        for domain in [FROM_DOMAIN, HOSTNAME] {
            let path = config.join("keys").join(domain);
            fsx::create_dir(&path)?;
            let key = keys::generate(Kind::Rsa2048)?;
            fsx::write_atomically(
                &path.join(format!("{SELECTOR}.pem")),
                key.pem.expose_secret().as_bytes(),
                0o600,
            )?;
        }
        let (certificate, key) = certificate().map_err(io::Error::other)?;
        fsx::write_atomically(&self.dir.join("certs/relay.pem"), certificate.as_bytes(), 0o644)?;
        fsx::write_atomically(&self.dir.join("certs/relay.key"), key.as_bytes(), 0o600)?;
        let tenant = tenant(password, extra)?;
        fsx::write_atomically(
            &config.join("tenants").join(format!("{TENANT}.toml")),
            tenant.as_bytes(),
            0o600,
        )?;
        fsx::write_atomically(&self.file(), self.settings(extra).as_bytes(), 0o644)?;
        Ok(certificate)
    }

    fn settings(&self, extra: &Extra) -> String {
        let Self { zone, port, .. } = self;
        let Extra { delivery, tables, .. } = extra;
        let inbound = extra.inbound.map_or_else(String::new, |ip| {
            let address = SocketAddr::new(ip, *port);
            format!("[[listener]]\naddress = \"{address}\"\nrole = \"inbound\"\n")
        });
        format!(
            r#"hostname = "{HOSTNAME}"
state = "../data"
tenants = "tenants"
keys = "keys"

[[listener]]
address = "127.0.0.1:0"
tls = "none"
cleartext_auth = "allow"

[[listener]]
address = "127.0.0.1:0"
tls = "starttls"

[[listener]]
address = "127.0.0.1:0"
tls = "implicit"

[tls]
certificate = "../certs/relay.pem"
key = "../certs/relay.key"

[dns]
servers = ["{zone}"]

[delivery]
port = {port}
public_addresses = ["127.0.0.1"]
allow_private_destinations = true
{delivery}

[log]
path = "../data/mail.jsonl"

[admin]
socket = "../data/admin.sock"

{inbound}
{tables}
"#
        )
    }
}

/// The tenant's file: known by its login, and by this machine's address for method None.
fn tenant(password: &str, extra: &Extra) -> io::Result<String> {
    let mut octets = [0; 16];
    rand::rng().fill(&mut octets);
    let salt = SaltString::encode_b64(&octets).map_err(io::Error::other)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(io::Error::other)?;
    Ok(format!(
        r#"name = "{TENANT}"
networks = ["127.0.0.1/32"]
notify = ["postmaster@{FROM_DOMAIN}"]

[[login]]
username = "{TENANT}"
password = "{hash}"

[[domain]]
name = "{FROM_DOMAIN}"
{}
{}
"#,
        extra.inbound.map_or_else(String::new, |_| format!("return_path = \"{RETURN_PATH}\"\n")),
        extra.tenant
    ))
}

fn password() -> String {
    let mut rng = rand::rng();
    (0..PASSWORD_LENGTH)
        .filter_map(|_| LETTERS.get(rng.random_range(0..LETTERS.len())))
        .map(|letter| char::from(*letter))
        .collect()
}

/// A certificate for `localhost` and 127.0.0.1, and its key, PEM.
fn certificate() -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let names = vec![HOSTNAME.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Publishes what `domain dns` prints for the tenant's domain and for the relay's own.
async fn publish(zone: &Zone, config: &Config, extra: &Extra) -> Result<(), Trouble> {
    let keyring = Keyring::load(&config.keys)?;
    let bounces: Option<Domain> = RETURN_PATH.parse().ok();
    for name in [FROM_DOMAIN, HOSTNAME] {
        let domain: Domain = name.parse().map_err(io::Error::other)?;
        let setting = Setting {
            hostname: &config.hostname,
            bounce_host: None,
            dkim_zone: None,
            public_addresses: &config.delivery.public_addresses,
            return_path: bounces.as_ref().filter(|_| extra.inbound.is_some() && name == FROM_DOMAIN),
            upstream: false,
        };
        let text = records::zone_text(&records::for_domain(&domain, &keyring, &setting));
        zone.publish(&format!("$TTL 1\n{text}")).await.map_err(io::Error::other)?;
    }
    Ok(())
}
