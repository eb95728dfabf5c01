//! `init`: a configuration, a certificate for a start, the relay's own key, an empty state directory.

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::key::first_key;
use super::output::{Context, Failure, Outcome};
use crate::admit::classify::ControlKey;
use crate::config::Config;
use crate::fsx;
use crate::mail::address::Domain;

/// The commented sample, which `init` fills in.
const SAMPLE: &str = include_str!("../../config/waxseal.toml");
/// What a tenant's file can hold.
const TENANT_SAMPLE: &str = include_str!("../../config/tenants/example.toml.sample");

/// What `init` is told.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  waxseal init --dir /srv/waxseal --hostname relay.example.com")]
pub struct Args {
    /// Where config/, certs/ and data/ are made.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The relay's name in greeting, EHLO and Received.
    #[arg(long, value_name = "NAME")]
    hostname: String,
}

/// Runs it.
pub(super) fn run(context: &Context, args: Args) -> Outcome {
    let hostname: Domain = args
        .hostname
        .parse()
        .map_err(|error| Failure::Usage(format!("{} is no host name: {error}", args.hostname)))?;
    let file = args.dir.join("config/waxseal.toml");
    if file.exists() {
        return Err(Failure::Bad(format!("{} exists; nothing was changed", file.display())));
    }
    for dir in ["config/tenants", "config/keys", "certs", "data"] {
        fsx::create_dir(&args.dir.join(dir))?;
    }
    certificate(&args.dir.join("certs"), &hostname)?;
    fsx::write_atomically(
        &args.dir.join("config/tenants/example.toml.sample"),
        TENANT_SAMPLE.as_bytes(),
        0o644,
    )?;
    fsx::write_atomically(&file, filled_in(&hostname).as_bytes(), 0o644)?;
    let config = Config::load(Some(&file)).map_err(|error| Failure::Config(error.to_string()))?;
    first_key(&config, &config.relay.domain)?;
    fsx::secret(&config.bounce_secret())?;
    ControlKey::open(&config.state)?;
    report(context, &config)
}

/// The sample with this relay's name, and its state beside it.
fn filled_in(hostname: &Domain) -> String {
    let second = "[[listener]]\naddress = \"0.0.0.0:465\"\ntls = \"implicit\"\n\n# Needed unless";
    SAMPLE
        .replace("hostname = \"relay.example.com\"", &format!("hostname = \"{hostname}\""))
        .replace("# state = \"/var/lib/waxseal\"", "state = \"../data\"")
        .replace("# path = \"/var/log/waxseal/mail.jsonl\"", "path = \"../data/mail.jsonl\"")
        .replace("# socket = \"/run/waxseal/admin.sock\"", "socket = \"../data/admin.sock\"")
        .replace("# Needed unless", second)
}

/// A self-signed P-256 pair: a handshake with it costs two thirds of one with RSA.
fn certificate(dir: &Path, hostname: &Domain) -> Outcome {
    let bad = |error: rcgen::Error| Failure::Bad(format!("the certificate was not made: {error}"));
    let key = KeyPair::generate().map_err(bad)?;
    let params = CertificateParams::new(vec![hostname.as_str().to_owned()]).map_err(bad)?;
    let made = params.self_signed(&key).map_err(bad)?;
    fsx::write_atomically(&dir.join("relay.key"), key.serialize_pem().as_bytes(), 0o600)?;
    fsx::write_atomically(&dir.join("relay.pem"), made.pem().as_bytes(), 0o644)?;
    Ok(())
}

fn report(context: &Context, config: &Config) -> Outcome {
    let file = config.file.display();
    if context.json {
        return context.print_json(&json!({"v": 1, "config": config.file, "hostname": config.hostname}));
    }
    context
        .print(format_args!("{file} is written, with a self-signed certificate for {}", config.hostname))?;
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
        let args = Args { dir: dir.path().to_owned(), hostname: "relay.test".to_owned() };
        let context = Context { config: None, json: true };
        run(&context, args).unwrap();
        let file = dir.path().join("config/waxseal.toml");
        let config = Config::load_with(Some(&file), &|_| None).unwrap();
        assert_eq!(config.hostname.as_str(), "relay.test");
        let secrets = [config.bounce_secret(), config.state.join("secrets/control")];
        assert!(config.state.ends_with("config/../data") && secrets.iter().all(|path| path.is_file()));
        assert_eq!(config.listeners.len(), 2);
        assert!(
            config.log.path.ends_with("../data/mail.jsonl")
                && config.admin.socket.ends_with("../data/admin.sock")
        );
        crate::tenant::load(&config).unwrap();
        assert_eq!(crate::seal::Keyring::load(&config.keys).unwrap().keys(&config.relay.domain).len(), 1);
        let again = Args { dir: dir.path().to_owned(), hostname: "other.test".to_owned() };
        assert!(run(&context, again).is_err(), "a second init changes nothing");
    }
}
