//! Reads the tenants' directory. First each file by itself, then what only all of them together can show: a domain with two
//! owners, networks that overlap, a user name given twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use super::file::{self, File};
use super::{
    Directory, Login, OwnedDomain, Route, SuppressionRules, Tenant, TenantLimits, clash, signing, upstream,
};
use crate::config::{Classes, Config, ConfigError};

/// Bounds of an argon2id hash in a file: one that costs more would let a login attempt take the machine down.
const HASH_MEMORY_MAX_KIB: u32 = 256 * 1024;
/// See `HASH_MEMORY_MAX_KIB`.
const HASH_PASSES_MAX: u32 = 16;
/// Longest name of a tenant: it is a file's name and part of a destination's.
const NAME_MAX: usize = 64;
/// Longest domain of a return path: with our local part and the brackets it stays below the 256 octets of RFC 5321 section
/// 4.5.3.1.3.
const RETURN_PATH_MAX: usize = 200;
/// Longest user name; RFC 4616 section 2 has 255 octets as the least that must be taken.
const USERNAME_MAX: usize = 255;
/// The name under which the relay's own mail is logged.
const RESERVED: &str = "relay";
/// The widest networks that are one tenant's without a word: everybody behind them sends as that tenant.
const WIDEST_V4: u8 = 24;
/// See `WIDEST_V4`.
const WIDEST_V6: u8 = 48;

/// One file, read, with its text, so that later findings can name their place.
pub(super) struct Draft {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) file: File,
}

impl Draft {
    pub(super) fn wrong<T>(&self, at: &toml::Spanned<T>, what: impl Into<String>) -> ConfigError {
        ConfigError::at(&self.path, &self.text, at.span().start, what)
    }

    /// The tenant's name.
    pub(super) fn name(&self) -> &str {
        self.file.name.get_ref()
    }
}

/// Reads and checks every `*.toml` of the directory.
pub(super) fn load(config: &Config) -> Result<Directory, ConfigError> {
    let drafts: Result<Vec<Draft>, _> = paths(&config.tenants)?.into_iter().map(read).collect();
    join(config, &drafts?)
}

/// What `load` would say if this file held this text.
pub(super) fn with(config: &Config, path: &Path, text: &str) -> Result<Directory, ConfigError> {
    let others = paths(&config.tenants)?.into_iter().filter(|other| other != path);
    let drafts: Result<Vec<Draft>, _> = others.map(read).collect();
    let mut drafts = drafts?;
    drafts.push(parse(path.to_owned(), text.to_owned())?);
    join(config, &drafts)
}

fn join(config: &Config, drafts: &[Draft]) -> Result<Directory, ConfigError> {
    clash::check(drafts)?;
    let tenants: Result<Vec<Tenant>, _> = drafts.iter().map(|draft| tenant(config, draft)).collect();
    Ok(Directory::new(tenants?))
}

/// The files, in the order of their names, so that errors come in the same order each time.
pub(super) fn paths(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |error: std::io::Error| {
        ConfigError::whole(dir, format!("the tenants' directory cannot be read: {error}"))
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|ending| ending == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads one file and checks what it says of itself.
pub(super) fn read(path: PathBuf) -> Result<Draft, ConfigError> {
    let text = crate::config::read(&path)?;
    parse(path, text)
}

fn parse(path: PathBuf, text: String) -> Result<Draft, ConfigError> {
    let file = toml::from_str(&text).map_err(|error| ConfigError::from_toml(&path, &text, &error))?;
    let draft = Draft { path, text, file };
    name(&draft)?;
    draft.file.login.iter().try_for_each(|login| credentials(&draft, login))?;
    draft.file.networks.iter().try_for_each(|net| network(&draft, net))?;
    draft.file.domain.iter().try_for_each(|domain| return_path(&draft, domain))?;
    Ok(draft)
}

/// Whether a text can be a tenant's name.
pub(crate) fn is_name(name: &str) -> bool {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    first && name.len() <= NAME_MAX && name.chars().all(sound) && name != RESERVED
}

/// Whether a text can be a user name: SASL PLAIN parts its fields with NUL (RFC 4616), and logs are lines.
pub(crate) fn is_username(name: &str) -> bool {
    !name.is_empty() && name.len() <= USERNAME_MAX && !name.chars().any(char::is_control)
}

fn name(draft: &Draft) -> Result<(), ConfigError> {
    let name = draft.name();
    if !is_name(name) {
        let what = "a tenant's name is 1 to 64 of a-z, 0-9, - and _, begins with a letter or digit, and is not `relay`";
        return Err(draft.wrong(&draft.file.name, what));
    }
    if draft.path.file_stem().and_then(|stem| stem.to_str()) != Some(name) {
        return Err(draft.wrong(&draft.file.name, format!("tenant `{name}` belongs in {name}.toml")));
    }
    Ok(())
}

fn credentials(draft: &Draft, login: &file::Login) -> Result<(), ConfigError> {
    if !is_username(login.username.get_ref()) {
        let what = "a user name is 1 to 255 octets without control characters";
        return Err(draft.wrong(&login.username, what));
    }
    hash(login.password.get_ref()).map_err(|what| draft.wrong(&login.password, what))
}

/// Whether a text is an argon2id hash that this machine can be asked to compute.
fn hash(text: &str) -> Result<(), String> {
    let advice = "`waxseal tenant login add` makes one";
    let parsed = argon2::PasswordHash::new(text).map_err(|_| format!("not an argon2id hash; {advice}"))?;
    if parsed.algorithm != argon2::ARGON2ID_IDENT || parsed.hash.is_none() || parsed.salt.is_none() {
        return Err(format!("not an argon2id hash; {advice}"));
    }
    let params = argon2::Params::try_from(&parsed).map_err(|_| format!("not an argon2id hash; {advice}"))?;
    if params.m_cost() > HASH_MEMORY_MAX_KIB || params.t_cost() > HASH_PASSES_MAX {
        return Err(format!("this hash costs more than 256 MiB or 16 passes; {advice}"));
    }
    Ok(())
}

fn network(draft: &Draft, net: &toml::Spanned<IpNet>) -> Result<(), ConfigError> {
    let range = net.get_ref();
    let widest = match range {
        IpNet::V4(_) => WIDEST_V4,
        IpNet::V6(_) => WIDEST_V6,
    };
    if range.prefix_len() == 0 {
        return Err(draft.wrong(net, "this range is everybody: an open relay"));
    }
    if range.prefix_len() < widest && !draft.file.networks_shared {
        let what = format!(
            "{range} is wider than /{widest}: everybody in it could send as `{}`; if that is meant, networks_shared = true",
            draft.name()
        );
        return Err(draft.wrong(net, what));
    }
    if range.addr() != range.network() {
        return Err(draft.wrong(net, format!("{range} has host bits; {} is meant?", range.trunc())));
    }
    Ok(())
}

/// SPF aligns only where the return path is the From domain or below it (RFC 7489 section 3.1.2).
fn return_path(draft: &Draft, domain: &file::OwnedDomain) -> Result<(), ConfigError> {
    match &domain.return_path {
        Some(path) if path.get_ref().as_str().len() > RETURN_PATH_MAX => {
            let what = format!(
                "a return path has at most {RETURN_PATH_MAX} octets: an address of ours stands before it"
            );
            Err(draft.wrong(path, what))
        }
        Some(path) if !path.get_ref().is_within(domain.name.get_ref()) => {
            let name = domain.name.get_ref();
            Err(draft
                .wrong(path, format!("a return path that aligns lies below {name}, such as bounce.{name}")))
        }
        _ => Ok(()),
    }
}

/// The tenant as the rest of the relay sees it. A disabled one keeps its route for the mail already queued, and nobody can
/// send as it.
fn tenant(config: &Config, draft: &Draft) -> Result<Tenant, ConfigError> {
    let file = &draft.file;
    let route = upstream::route(config, draft)?;
    let classes = classes(config, draft)?;
    let fallbacks = upstream::fallbacks(config, draft, (route.as_ref(), &classes))?;
    let active = !file.disabled;
    let networks = file.networks.iter().filter(|_| active).map(|net| *net.get_ref());
    let logins = file.login.iter().filter(|_| active).map(|login| Login {
        username: login.username.get_ref().as_str().into(),
        password: login.password.get_ref().clone(),
        class: login.class.as_ref().map(|class| class.get_ref().as_str().into()),
    });
    Ok(Tenant {
        name: draft.name().into(),
        networks: networks.collect(),
        notify: file.notify.clone(),
        logins: logins.collect(),
        domains: file.domain.iter().map(domain).collect(),
        signing: signing::read(draft, route.is_some())?,
        fallbacks,
        route: Arc::new(route.map_or(Route::Mx, Route::Upstream)),
        limits: limits(&file.limits),
        bare_newlines: file.bare_newlines,
        classes,
        suppression: suppression(file.suppression),
    })
}

fn suppression(written: file::SuppressionRules) -> SuppressionRules {
    let file::SuppressionRules { apply, bounces, complaints } = written;
    SuppressionRules { apply, bounces, complaints }
}

/// The server's classes, with what this tenant wants otherwise, and every name that its file gives checked.
fn classes(config: &Config, draft: &Draft) -> Result<Classes, ConfigError> {
    let wrong = |offset, what| ConfigError::at(&draft.path, &draft.text, offset, what);
    let classes =
        config.classes.overlaid(&draft.file.class, (false, config.unsubscribe.is_some()), &wrong)?;
    let default = draft.file.default_class.as_ref();
    for named in default.into_iter().chain(draft.file.login.iter().filter_map(|login| login.class.as_ref())) {
        if let Some(what) = classes.unknown(named.get_ref()) {
            return Err(draft.wrong(named, what));
        }
    }
    Ok(classes.with_default(default.map(|name| name.get_ref().as_str())))
}

fn domain(written: &file::OwnedDomain) -> OwnedDomain {
    OwnedDomain {
        name: written.name.get_ref().clone(),
        on_fail: written.on_fail,
        return_path: written.return_path.as_ref().map(|path| path.get_ref().clone()),
        subdomains: written.subdomains,
    }
}

fn limits(written: &file::Limits) -> TenantLimits {
    let narrow = |count: crate::config::value::Count| u32::try_from(count.0).unwrap_or(u32::MAX);
    TenantLimits {
        per_hour: written.messages_per_hour.map(narrow),
        per_day: written.messages_per_day.map(narrow),
        message_size: written.message_size.map(|size| size.0),
        recipients: written.recipients.map(|count| count.0),
        priority: written.priority,
    }
}
