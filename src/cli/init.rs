//! `init`: a configuration, a certificate for a start, the relay's own key, an empty state directory.

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::key::first_key;
use super::output::{Context, Failure, Outcome, note};
use crate::admit::classify::ControlKey;
use crate::config::Config;
use crate::fsx;
use crate::mail::address::Domain;
use crate::suppress::Links;

/// The commented sample, which `init` fills in.
const SAMPLE: &str = include_str!("../../config/waxseal.toml");
/// What a tenant's file can hold.
const TENANT_SAMPLE: &str = include_str!("../../config/tenants/example.toml.sample");

/// What `init` is told.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  waxseal init --dir /srv/waxseal --hostname relay.example.com\n  \
    sudo waxseal init --dir /etc/waxseal --hostname relay.example.com --system")]
pub struct Args {
    /// Where config/, certs/ and data/ are made.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The relay's name in greeting, EHLO and Received.
    #[arg(long, value_name = "NAME")]
    hostname: String,
    /// Lay the files out as the systemd unit expects them: waxseal.toml, tenants/, keys/ and certs/ in DIR itself, state, log and
    /// socket where they belong on a system.
    #[arg(long)]
    system: bool,
    /// With --system: where the queue is.
    #[arg(long, value_name = "DIR", requires = "system", default_value = "/var/lib/waxseal")]
    state: PathBuf,
}

/// Runs it.
pub(super) fn run(context: &Context, args: Args) -> Outcome {
    let hostname: Domain = args
        .hostname
        .parse()
        .map_err(|error| Failure::Usage(format!("{} is no host name: {error}", args.hostname)))?;
    let config = if args.system { args.dir.clone() } else { args.dir.join("config") };
    let file = config.join("waxseal.toml");
    if file.exists() {
        return Err(Failure::Bad(format!("{} exists; nothing was changed", file.display())));
    }
    let state = if args.system { args.state.clone() } else { args.dir.join("data") };
    for dir in [config.join("tenants"), config.join("keys"), args.dir.join("certs"), state] {
        fsx::create_dir(&dir)?;
    }
    certificate(&args.dir.join("certs"), &hostname)?;
    fsx::write_atomically(&config.join("tenants/example.toml.sample"), TENANT_SAMPLE.as_bytes(), 0o644)?;
    let text = if args.system { for_a_system(&hostname, &args.state) } else { beside(&hostname) };
    fsx::write_atomically(&file, text.as_bytes(), 0o644)?;
    let config = Config::load(Some(&file)).map_err(|error| Failure::Config(error.to_string()))?;
    first_key(&config, &config.relay.domain)?;
    fsx::secret(&config.bounce_secret())?;
    ControlKey::open(&config.state)?;
    Links::open(&config.state)?;
    report(context, &config)
}

/// The sample with this relay's name.
fn filled_in(hostname: &Domain) -> String {
    let second = "[[listener]]\naddress = \"0.0.0.0:465\"\ntls = \"implicit\"\n\n# Needed unless";
    SAMPLE
        .replace("hostname = \"relay.example.com\"", &format!("hostname = \"{hostname}\""))
        .replace("# Needed unless", second)
}

/// As the systemd unit expects it.
fn for_a_system(hostname: &Domain, state: &Path) -> String {
    filled_in(hostname)
        .replace("\"../certs/", "\"certs/")
        .replace("# state = \"/var/lib/waxseal\"", &format!("state = \"{}\"", state.display()))
}

/// With its state beside it.
fn beside(hostname: &Domain) -> String {
    filled_in(hostname)
        .replace("# state = \"/var/lib/waxseal\"", "state = \"../data\"")
        .replace("# path = \"/var/log/waxseal/mail.jsonl\"", "path = \"../data/mail.jsonl\"")
        .replace("# socket = \"/run/waxseal/admin.sock\"", "socket = \"../data/admin.sock\"")
}

/// A self-signed P-256 pair: a handshake with it costs two thirds of one with RSA. One that is there already stays.
fn certificate(dir: &Path, hostname: &Domain) -> Outcome {
    let [key, pem] = ["relay.key", "relay.pem"].map(|name| dir.join(name));
    if key.exists() != pem.exists() {
        let (there, other) = if key.exists() { (key, pem) } else { (pem, key) };
        let text = format!(
            "{} is there without {}: put that beside it, or move it away",
            there.display(),
            other.display()
        );
        return Err(Failure::Bad(text));
    }
    if key.exists() {
        note(format_args!("the certificate in {} is kept as it is", dir.display()));
        return Ok(());
    }
    let bad = |error: rcgen::Error| Failure::Bad(format!("the certificate was not made: {error}"));
    let pair = KeyPair::generate().map_err(bad)?;
    let params = CertificateParams::new(vec![hostname.as_str().to_owned()]).map_err(bad)?;
    let made = params.self_signed(&pair).map_err(bad)?;
    fsx::write_atomically(&key, pair.serialize_pem().as_bytes(), 0o600)?;
    fsx::write_atomically(&pem, made.pem().as_bytes(), 0o644)?;
    Ok(())
}

fn report(context: &Context, config: &Config) -> Outcome {
    let file = config.file.display();
    if context.json {
        return context.print_json(&json!({"v": 1, "config": config.file, "hostname": config.hostname}));
    }
    context.print(format_args!(
        "{file} is written, for {}; certs holds its certificate, self-signed if there was none",
        config.hostname
    ))?;
    context.print("next:")?;
    for verb in ["domain dns --relay", "tenant add acme", "domain add acme.example --tenant acme", "serve"] {
        context.print(format_args!("  waxseal --config {file} {verb}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_loads_and_has_its_state_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let args = |hostname: &str| Args {
            dir: dir.path().to_owned(),
            hostname: hostname.to_owned(),
            system: false,
            state: PathBuf::new(),
        };
        let context = Context { config: None, json: true };
        run(&context, args("relay.test")).unwrap();
        let file = dir.path().join("config/waxseal.toml");
        let config = Config::load_with(Some(&file), &|_| None).unwrap();
        std::fs::remove_file(&file).unwrap();
        let key = std::fs::read(dir.path().join("certs/relay.key")).unwrap();
        run(&context, args("relay.test")).unwrap();
        assert_eq!(
            std::fs::read(dir.path().join("certs/relay.key")).unwrap(),
            key,
            "a key that is there stays"
        );
        assert_eq!(config.hostname.as_str(), "relay.test");
        let made = ["bounce", "control", "unsubscribe"].map(|name| config.state.join("secrets").join(name));
        assert!(config.state.ends_with("config/../data") && made.iter().all(|path| path.is_file()));
        assert_eq!(config.listeners.len(), 2);
        assert!(
            config.log.path.ends_with("../data/mail.jsonl")
                && config.admin.socket.ends_with("../data/admin.sock")
        );
        crate::tenant::load(&config).unwrap();
        assert_eq!(crate::seal::Keyring::load(&config.keys).unwrap().keys(&config.relay.domain).len(), 1);
        assert!(run(&context, args("other.test")).is_err(), "a second init changes nothing");
    }

    #[test]
    fn for_a_system_the_files_lie_where_the_unit_looks_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, state) = (dir.path().join("etc"), dir.path().join("lib"));
        let args =
            Args { dir: etc.clone(), hostname: "relay.test".to_owned(), system: true, state: state.clone() };
        run(&Context { config: None, json: true }, args).unwrap();
        let config = Config::load_with(Some(&etc.join("waxseal.toml")), &|_| None).unwrap();
        assert_eq!(config.state, state);
        assert!(config.tls.as_ref().is_some_and(|tls| tls.certificate.is_file() && tls.key.is_file()));
        assert_eq!(crate::seal::Keyring::load(&config.keys).unwrap().keys(&config.relay.domain).len(), 1);
        let unit = include_str!("../../systemd/waxseal.service");
        assert!(unit.contains("--config /etc/waxseal/waxseal.toml"), "{unit}");
        assert!(unit.contains("ReadWritePaths=-/etc/waxseal/keys"), "{unit}");
        assert_eq!(config.log.path, Path::new("/var/log/waxseal/mail.jsonl"), "LogsDirectory");
        assert_eq!(config.admin.socket, Path::new("/run/waxseal/admin.sock"), "RuntimeDirectory");
    }
}
