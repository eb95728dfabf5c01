//! `key`: DKIM keys, from made to retired.

use std::path::PathBuf;

use serde_json::json;

use super::ask;
use super::domain::parse;
use super::import;
use super::output::{Context, Failure, Outcome};
use super::publish::{self, Look};
use crate::clock::Clock;
use crate::config::Config;
use crate::dns::Resolver;
use crate::fsx;
use crate::mail::address::Domain;
use crate::seal::keyring::{Key, Keyring};
use crate::seal::keys::{Algorithm, Kind};
use crate::seal::lifecycle::{self, SETTLED};
use crate::seal::stages::{self, Make, Move, Stage};
use crate::seal::{KeyError, published};

/// The verbs of `key`.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Make a key; where the domain has one of this kind that is in use or waits, that one is kept.
    #[command(
        after_help = "Examples:\n  waxseal key generate acme.example\n  waxseal key generate acme.example --algorithm ed25519\n  waxseal key generate acme.example --selector s2026 --algorithm rsa4096"
    )]
    Generate {
        /// The domain.
        domain: String,
        /// What to make.
        #[arg(long, value_enum, default_value = "rsa2048", value_name = "KIND")]
        algorithm: KindName,
        /// Make it at this selector, also beside others [default: the next free one].
        #[arg(long, value_name = "S")]
        selector: Option<String>,
    },
    /// List keys: what each is for, and since when.
    #[command(after_help = "Examples:\n  waxseal key list\n  waxseal key list acme.example --json")]
    List {
        /// The domain [default: all].
        domain: Option<String>,
    },
    /// Let a key sign now; its record must be in DNS. The one that signed so far is retired later, by itself.
    #[command(after_help = "Example:\n  waxseal key activate acme.example wx2")]
    Activate {
        /// The domain.
        domain: String,
        /// The key's selector.
        selector: String,
    },
    /// Let a key sign no more. Its record must stay for mail that is on its way.
    #[command(after_help = "Example:\n  waxseal key retire acme.example wx1")]
    Retire {
        /// The domain.
        domain: String,
        /// The key's selector.
        selector: String,
    },
    /// Make the key that will take the active one's place, and print its record.
    #[command(after_help = "Example:\n  waxseal key rotate acme.example")]
    Rotate {
        /// The domain.
        domain: String,
    },
    /// Take over a PEM file, or the keys of an OpenDKIM; nothing is overwritten.
    #[command(
        after_help = "Examples:\n  waxseal key import acme.example --selector mail --file /root/acme.pem\n  waxseal key import --opendkim-keytable /etc/opendkim/KeyTable --opendkim-signingtable /etc/opendkim/SigningTable\n  (prints a plan; the same with --apply does it)"
    )]
    Import(import::Args),
}

/// The kinds of keys, as they are named on the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum KindName {
    /// Every receiver verifies it.
    Rsa2048,
    /// Larger; its record needs three strings.
    Rsa3072,
    /// Larger still; signing takes six times as long.
    Rsa4096,
    /// Beside an RSA key, never instead.
    Ed25519,
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Rsa2048 => Self::Rsa2048,
            KindName::Rsa3072 => Self::Rsa3072,
            KindName::Rsa4096 => Self::Rsa4096,
            KindName::Ed25519 => Self::Ed25519,
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unfit { .. } | KeyError::State(_) => Self::Config(error.to_string()),
            KeyError::Io { .. } | KeyError::Changed { .. } | KeyError::Generate(_) => {
                Self::Bad(error.to_string())
            }
        }
    }
}

/// Runs it.
pub(super) fn run(context: &Context, verb: Verb) -> Outcome {
    let config = context.load_config()?;
    match verb {
        Verb::Generate { domain, algorithm, selector } => {
            generate(context, &config, &parse(&domain)?, (algorithm.into(), selector.as_deref()))
        }
        Verb::List { domain } => {
            let domain = domain.as_deref().map(parse).transpose()?;
            list(context, &config, domain.as_ref())
        }
        Verb::Activate { domain, selector } => activate(context, &config, &parse(&domain)?, &selector),
        Verb::Retire { domain, selector } => retire(context, &config, &parse(&domain)?, &selector),
        Verb::Rotate { domain } => rotate(context, &config, &parse(&domain)?),
        Verb::Import(args) => import::run(context, &config, args),
    }
}

pub(super) fn keyring(config: &Config) -> Result<Keyring, Failure> {
    fsx::create_dir(&config.keys)?;
    Ok(Keyring::load(&config.keys)?)
}

/// Makes a domain's first key, and says whether it did: one that is there, made or placed by hand, is kept.
pub(super) fn first_key(config: &Config, domain: &Domain) -> Result<bool, Failure> {
    let ring = keyring(config)?;
    if ring.keys(domain).iter().any(|key| key.stage != Stage::Retired) {
        return Ok(false);
    }
    make(config, &ring, domain, (Kind::Rsa2048, None))?;
    Ok(true)
}

/// Makes a key and answers its selector.
fn make(
    config: &Config,
    ring: &Keyring,
    domain: &Domain,
    (kind, selector): (Kind, Option<&str>),
) -> Result<String, Failure> {
    let chosen = selector.map(str::to_owned);
    let selector = chosen.unwrap_or_else(|| lifecycle::free_selector(ring.keys(domain), kind.algorithm()));
    let why = "an administrator made it".to_owned();
    let order = Make { domain: domain.clone(), selector, kind, replaces: None, why };
    stages::make(&config.keys, &order, Clock::System.now())?;
    Ok(order.selector)
}

fn generate(
    context: &Context,
    config: &Config,
    domain: &Domain,
    (kind, selector): (Kind, Option<&str>),
) -> Outcome {
    let ring = keyring(config)?;
    if let Some(name) = selector {
        check_selector(name)?;
        if ring.keys(domain).iter().any(|key| key.selector == name && key.stage != Stage::Retired) {
            let what = format!("{domain} has a key at {name} already; nothing was changed");
            return Err(Failure::Bad(what));
        }
    } else if let Some(kept) = in_use(ring.keys(domain), kind.algorithm()) {
        context.note(format_args!(
            "{domain} has the key {} ({}) already, and it is kept; `waxseal key rotate {domain}` renews it, --selector makes \
             another one beside it",
            kept.selector, kept.stage
        ));
        return show(context, config, [(domain, kept)]);
    }
    let made = make(config, &ring, domain, (kind, selector))?;
    // The daemon is told also where nobody reads our output any more.
    let shown = show_made(context, config, domain, &made);
    context.tell_daemon(config)?;
    shown
}

fn show_made(context: &Context, config: &Config, domain: &Domain, made: &str) -> Outcome {
    let ring = keyring(config)?;
    show(
        context,
        config,
        ring.keys(domain).iter().filter(|key| key.selector == made).map(|key| (domain, key)),
    )?;
    if !context.json {
        context.note("publish its record:");
        for record in publish::of_key(config, &ring, domain, made) {
            context.print(record.line())?;
        }
    }
    Ok(())
}

pub(super) fn check_selector(name: &str) -> Outcome {
    // RFC 6376 section 3.1: one or more labels below _domainkey.
    name.parse::<Domain>()
        .map(drop)
        .map_err(|error| Failure::Usage(format!("{name} is no selector: {error}")))
}

/// The key of this kind that signs, will sign, or waits.
fn in_use(keys: &[Key], algorithm: Algorithm) -> Option<&Key> {
    let same = |key: &&Key| key.public.algorithm.is_rsa() == algorithm.is_rsa();
    let used = |key: &&Key| matches!(key.stage, Stage::Pending | Stage::Ready | Stage::Active);
    keys.iter().filter(same).find(used)
}

fn list(context: &Context, config: &Config, domain: Option<&Domain>) -> Outcome {
    let ring = keyring(config)?;
    let mut domains: Vec<&Domain> =
        ring.domains().filter(|own| domain.is_none_or(|wanted| wanted == *own)).collect();
    domains.sort();
    if let (Some(domain), []) = (domain, domains.as_slice()) {
        let what = format!("there is no key for {domain}; `waxseal key generate {domain}` makes one");
        return Err(Failure::NotFound(what));
    }
    show(context, config, domains.iter().flat_map(|own| ring.keys(own).iter().map(move |key| (*own, key))))
}

/// Prints keys: a table, or JSON Lines.
fn show<'k>(
    context: &Context,
    config: &Config,
    keys: impl IntoIterator<Item = (&'k Domain, &'k Key)>,
) -> Outcome {
    let mut rows = Vec::new();
    for (domain, key) in keys {
        let file: PathBuf = config.keys.join(domain.as_str()).join(format!("{}.pem", key.selector));
        let since = key.since.map(|since| since.utc().to_string());
        let (algorithm, bits) = match key.public.algorithm {
            Algorithm::Rsa(bits) => ("rsa", bits),
            Algorithm::Ed25519 => ("ed25519", 256),
        };
        if context.json {
            context.print_json(&json!({
                "v": 1, "domain": domain, "selector": key.selector, "stage": key.stage, "since": since,
                "replaces": key.replaces, "algorithm": algorithm, "bits": bits, "file": file,
            }))?;
        }
        rows.push(vec![
            domain.to_string(),
            key.selector.clone(),
            key.stage.to_string(),
            since.unwrap_or_else(|| "-".to_owned()),
            algorithm.to_owned(),
            bits.to_string(),
            file.display().to_string(),
        ]);
    }
    if context.json {
        return Ok(());
    }
    context.print_table(&["domain", "selector", "stage", "since", "algorithm", "bits", "file"], rows)
}

fn named<'k>(ring: &'k Keyring, domain: &Domain, selector: &str) -> Result<&'k Key, Failure> {
    let found = ring.keys(domain).iter().find(|key| key.selector == selector);
    found.ok_or_else(|| {
        Failure::NotFound(format!("{domain} has no key {selector}; look with `waxseal key list {domain}`"))
    })
}

fn activate(context: &Context, config: &Config, domain: &Domain, selector: &str) -> Outcome {
    let ring = keyring(config)?;
    let key = named(&ring, domain, selector)?;
    match key.stage {
        Stage::Active => {
            context.note(format_args!("{selector} of {domain} is active already"));
            return Ok(());
        }
        Stage::Retired => {
            let what =
                format!("{selector} is retired for good; `waxseal key rotate {domain}` makes a new key");
            return Err(Failure::Bad(what));
        }
        Stage::Pending | Stage::Ready | Stage::Retiring => {}
    }
    let now = Clock::System.now();
    seen(config, &ring, domain, key)?;
    stages::settle(&config.keys, domain, &lifecycle::activate(domain, ring.keys(domain), selector), now)?;
    context.note(format_args!("{selector} signs for {domain} from now on"));
    let fresh = key.stage == Stage::Pending || key.since.is_none_or(|since| now.since(since) < SETTLED);
    if fresh && key.stage != Stage::Retiring {
        context
            .note("its record is new: resolvers that asked for it too early may not see it for up to a day");
    }
    context.tell_daemon(config)
}

/// Refuses what receivers could not verify.
fn seen(config: &Config, ring: &Keyring, domain: &Domain, key: &Key) -> Outcome {
    let answer = ask::wait(async {
        let resolver = Resolver::new(&config.dns).map_err(|error| Failure::Bad(error.to_string()))?;
        Ok::<_, Failure>(published::is_seen(&resolver, domain, &key.selector, &key.public).await)
    })??;
    let selector = &key.selector;
    match answer {
        Some(true) => Ok(()),
        None => {
            let what =
                "DNS did not answer, so nobody knows whether receivers could verify it; nothing was changed";
            Err(Failure::Bad(format!("{selector} of {domain}: {what}. Try again, or look at [dns] servers")))
        }
        Some(false) => {
            let lines: Vec<String> = publish::of_key(config, ring, domain, selector)
                .iter()
                .map(|record| format!("  {}", record.line()))
                .collect();
            Err(Failure::Bad(format!(
                "{selector} of {domain} is not published with this key, so receivers could not verify it; nothing was changed. \
                 Publish, and try again:\n{}",
                lines.join("\n")
            )))
        }
    }
}

fn retire(context: &Context, config: &Config, domain: &Domain, selector: &str) -> Outcome {
    let ring = keyring(config)?;
    let key = named(&ring, domain, selector)?;
    if matches!(key.stage, Stage::Retiring | Stage::Retired) {
        context.note(format_args!("{selector} of {domain} is {} already", key.stage));
        return Ok(());
    }
    if lifecycle::is_last(ring.keys(domain), key) {
        return Err(Failure::Bad(format!(
            "{selector} is the only key that signs for {domain}; nothing was changed. First: waxseal key rotate {domain}"
        )));
    }
    // What was never seen in DNS has no mail on its way.
    let to = if key.stage == Stage::Pending { Stage::Retired } else { Stage::Retiring };
    let why = "an administrator retired it".to_owned();
    let step = Move { domain: domain.clone(), selector: selector.to_owned(), from: key.stage, to, why };
    stages::settle(&config.keys, domain, &[step], Clock::System.now())?;
    context.note(format_args!("{selector} of {domain} is {to}"));
    if to == Stage::Retiring {
        context.note("leave its record in DNS until `waxseal key list` shows it as retired");
    }
    context.tell_daemon(config)
}

fn rotate(context: &Context, config: &Config, domain: &Domain) -> Outcome {
    let ring = keyring(config)?;
    let active: Vec<&Key> = ring.keys(domain).iter().filter(|key| key.stage == Stage::Active).collect();
    if active.is_empty() {
        return Err(Failure::Bad(format!(
            "no key of {domain} is active yet, so there is none to renew; publish what `waxseal domain dns {domain}` prints"
        )));
    }
    let mut selectors = Vec::new();
    for old in active {
        let waits = ring.keys(domain).iter().find(|key| {
            matches!(key.stage, Stage::Pending | Stage::Ready)
                && key.public.algorithm.is_rsa() == old.public.algorithm.is_rsa()
        });
        if let Some(key) = waits {
            if key.replaces.as_ref() != Some(&old.selector) {
                stages::succeed(&config.keys, domain, &key.selector, &old.selector)?;
            }
            context
                .note(format_args!("{} waits already to take the place of {}", key.selector, old.selector));
            selectors.push(key.selector.clone());
            continue;
        }
        let order = lifecycle::successor(domain, ring.keys(domain), old, "an administrator asked for it");
        stages::make(&config.keys, &order, Clock::System.now())?;
        context.note(format_args!(
            "{} of {domain} is made. Once its record is published and has been in DNS for a day, the relay signs with it by \
             itself; {} stays published until it is retired",
            order.selector, old.selector
        ));
        selectors.push(order.selector);
    }
    let ring = keyring(config)?;
    let wanted: Vec<_> =
        selectors.iter().flat_map(|selector| publish::of_key(config, &ring, domain, selector)).collect();
    let shown = publish::print(context, config, (&wanted, &[]), Look::Nowhere);
    context.tell_daemon(config)?;
    shown
}
