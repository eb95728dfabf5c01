//! Changes tenants' files: comments stay, the result is checked with all the others before it is written, and it is written
//! whole or not at all. Who changes one holds the directory's lock from the first look to the last word: of two changes at once
//! neither is lost, and each is checked beside the other.

use std::path::PathBuf;

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike, value};

use super::upstream::{SUBMISSION, SUBMISSIONS};
use super::{load, upstream};
use crate::config::{Config, ConfigError};
use crate::fsx;
use crate::mail::address::Domain;
use crate::mail::secret::{ExposeSecret, SecretString};

/// Only the owner and the group read password hashes.
const MODE: u32 = 0o640;
/// Only the owner reads a password.
const SECRET_MODE: u32 = 0o600;

/// Why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// What is there, or would be there, is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no such tenant, login or domain.
    #[error("{0}")]
    NotFound(String),
    /// It is there already, or cannot be.
    #[error("{0}")]
    Refused(String),
    /// The file system.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

/// A new tenant with one login.
///
/// # Errors
/// It exists, its name or login cannot be, or the disk.
pub fn add_tenant(config: &Config, name: &str, username: &str, hash: &str) -> Result<PathBuf, EditError> {
    if !load::is_name(name) {
        let what = "a tenant's name is 1 to 64 of a-z, 0-9, - and _, begins with a letter or digit, and is not `relay`";
        return Err(EditError::Refused(what.to_owned()));
    }
    let path = config.tenants.join(format!("{name}.toml"));
    let _lock = lock(config)?;
    if path.exists() {
        return Err(EditError::Refused(format!("tenant `{name}` exists: {}", path.display())));
    }
    let text = "networks = []  # may send without AUTH, such as [\"203.0.113.0/24\"]\n\
                # notify = [\"postmaster@acme.example\"]  # who is told of failures; else the envelope sender\n\n\
                [route]\nvia = \"mx\"  # mx | upstream\n";
    let mut document = parse(&path, &format!("name = \"{name}\"\n{text}"))?;
    push_login(&path, &mut document, username, hash)?;
    save(config, &path, &document)?;
    Ok(path)
}

/// One more login.
///
/// # Errors
/// There is no such tenant, the user name is taken, or the disk.
pub fn add_login(config: &Config, tenant: &str, username: &str, hash: &str) -> Result<(), EditError> {
    change(config, tenant, |path, document| push_login(path, document, username, hash))
}

/// Takes a login away.
///
/// # Errors
/// There is none of this name, or the disk.
pub fn revoke_login(config: &Config, tenant: &str, username: &str) -> Result<(), EditError> {
    change(config, tenant, |path, document| {
        let logins = tables(path, document, "login")?;
        let is = |login: &Table| login.get("username").and_then(Item::as_str) == Some(username);
        let at = logins.iter().position(is);
        let none = || EditError::NotFound(format!("tenant `{tenant}` has no login `{username}`"));
        logins.remove(at.ok_or_else(none)?);
        Ok(())
    })
}

/// One more From domain; what it has is left to the administrator if it is the tenant's already.
///
/// # Errors
/// There is no such tenant, the domain is somebody else's, or the disk.
pub fn add_domain(config: &Config, tenant: &str, domain: &Domain) -> Result<(), EditError> {
    change(config, tenant, |path, document| {
        let domains = tables(path, document, "domain")?;
        let is = |own: &Table| {
            own.get("name").and_then(Item::as_str).and_then(|name| name.parse::<Domain>().ok()).as_ref()
                == Some(domain)
        };
        if !domains.iter().any(is) {
            let mut table = Table::new();
            table.insert("name", value(domain.as_str()));
            table.insert("on_fail", value("reject"));
            domains.push(table);
        }
        Ok(())
    })
}

/// Lets nobody send as a tenant, or lets them again.
///
/// # Errors
/// There is no such tenant, or the disk.
pub fn set_disabled(config: &Config, tenant: &str, disabled: bool) -> Result<(), EditError> {
    change(config, tenant, |_, document| {
        document.insert("disabled", value(disabled));
        Ok(())
    })
}

/// The way a tenant's mail is to leave.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// A preset's name; `None` with `host`, or for exchangers.
    pub preset: Option<String>,
    /// The preset's region.
    pub region: Option<String>,
    /// A host instead of a preset; `None` for both: to the recipients' exchangers.
    pub host: Option<String>,
    /// Its port, if not the usual one.
    pub port: Option<u16>,
    /// How it is encrypted, as the file names it, if not as usual at that port.
    pub tls: Option<String>,
    /// Who logs in.
    pub username: Option<String>,
    /// With what; kept in a file of its own beside the tenant's.
    pub password: Option<SecretString>,
}

/// Sets a tenant's route; what its file says of signing stays, and of the same server also what is not said anew.
///
/// # Errors
/// There is no such tenant, the route cannot be, or the disk.
pub fn set_route(config: &Config, tenant: &str, way: &Way) -> Result<(), EditError> {
    path_of(config, tenant)?;
    let _lock = lock(config)?;
    // In a file of its own: in that of the route so far, a kill before the route is written would leave the new password for the
    // old server.
    let fresh = match &way.password {
        Some(password) => Some(keep_fresh(config, tenant, password)?),
        None => None,
    };
    let mut left = None;
    let written = rewrite(config, tenant, |path, document| {
        left = write_route(path, document, way, fresh.as_deref())?;
        Ok(())
    });
    if let Some(spare) = if written.is_ok() { left } else { fresh } {
        forget(config, tenant, &spare);
    }
    written
}

/// Answers the password file of the route that was.
fn write_route(
    path: &std::path::Path,
    document: &mut DocumentMut,
    way: &Way,
    secret: Option<&str>,
) -> Result<Option<String>, EditError> {
    let wrong = |key| ConfigError::whole(path, format!("`{key}` is not written as [{key}]"));
    let route = document.entry("route").or_insert(Item::Table(Table::new()));
    let route = route.as_table_mut().ok_or_else(|| wrong("route"))?;
    let old = route.get("upstream");
    let left = old.and_then(|old| old.get("password_file")).and_then(Item::as_str).map(str::to_owned);
    if way.preset.is_none() && way.host.is_none() {
        route.insert("via", value("mx"));
        route.remove("upstream");
        return Ok(left);
    }
    if !old.is_some_and(|old| is_same_server(old, way)) {
        route.insert("upstream", Item::Table(Table::new()));
    }
    route.insert("via", value("upstream"));
    let upstream = route.get_mut("upstream").and_then(Item::as_table_like_mut);
    fill(upstream.ok_or_else(|| wrong("route.upstream"))?, way, secret);
    Ok(left)
}

fn is_same_server(old: &Item, way: &Way) -> bool {
    [("preset", &way.preset), ("region", &way.region), ("host", &way.host)].iter().all(|(key, said)| {
        let written = old.get(key).and_then(Item::as_str).map(str::to_ascii_lowercase);
        written == said.as_deref().map(str::to_ascii_lowercase)
    })
}

fn fill(upstream: &mut dyn TableLike, way: &Way, secret: Option<&str>) {
    for (key, text) in [("preset", &way.preset), ("region", &way.region), ("host", &way.host)] {
        if let Some(text) = text {
            upstream.insert(key, value(text));
        }
    }
    let implicit = upstream.get("tls").and_then(Item::as_str) == Some("implicit");
    let port = upstream.get("port").and_then(Item::as_integer);
    let usual = [SUBMISSION, SUBMISSIONS].into_iter().map(i64::from).any(|usual| port == Some(usual));
    match (way.port, &way.tls) {
        (Some(SUBMISSIONS), None) => drop(upstream.insert("tls", value("implicit"))),
        (Some(SUBMISSION), None) if implicit => drop(upstream.remove("tls")),
        // It may be another method's.
        (None, Some(_)) if usual => drop(upstream.remove("port")),
        (Some(_) | None, _) => {}
    }
    if let Some(port) = way.port {
        upstream.insert("port", value(i64::from(port)));
    }
    let said =
        [("tls", way.tls.as_deref()), ("username", way.username.as_deref()), ("password_file", secret)];
    for (key, text) in said {
        if let Some(text) = text {
            upstream.insert(key, value(text));
        }
    }
}

/// Lays a password into a file that was not there and that no tenant's file names; answers its name.
fn keep_fresh(config: &Config, tenant: &str, password: &SecretString) -> Result<String, EditError> {
    let texts = texts(config)?;
    let mut name = format!("{tenant}.upstream");
    let mut next = 2_u64;
    while names(&texts, &name) || config.tenants.join(&name).exists() {
        name = format!("{tenant}.upstream.{next}");
        next += 1;
    }
    let path = config.tenants.join(&name);
    // What takes the place of a file belongs to whom that belongs to, and its group reads it as before: the daemon can read the new
    // password if it could read the old one.
    if let Ok(Some(old)) = password_file(config, tenant) {
        drop(std::fs::hard_link(old, &path));
    }
    keep_secret(&path, password).inspect_err(|_| drop(std::fs::remove_file(&path)))?;
    Ok(name)
}

/// Removes a password's file that `keep_fresh` named, once no tenant's file names it. The route is what it is by then: a file that
/// cannot be removed is no failure.
fn forget(config: &Config, tenant: &str, name: &str) {
    let rest = name.strip_prefix(tenant).and_then(|rest| rest.strip_prefix(".upstream"));
    let number = |rest: &str| rest.strip_prefix('.').is_some_and(|number| number.parse::<u64>().is_ok());
    let ours = rest.is_some_and(|rest| rest.is_empty() || number(rest));
    if ours && texts(config).is_ok_and(|texts| !names(&texts, name)) {
        drop(std::fs::remove_file(config.tenants.join(name)));
    }
}

fn texts(config: &Config) -> Result<Vec<String>, ConfigError> {
    load::paths(&config.tenants)?.iter().map(|path| crate::config::read(path)).collect()
}

/// Whether one names this file as a secret, of whatever kind.
fn names(texts: &[String], name: &str) -> bool {
    let ends = [format!("{name}\""), format!("{name}'")];
    texts.iter().any(|text| ends.iter().any(|end| text.contains(end.as_str())))
}

/// Puts another secret into the file that a tenant's upstream takes its password from; answers which file that is.
///
/// # Errors
/// There is no such tenant, it has no upstream with a password, the secret cannot be one, or the disk.
pub fn set_upstream_password(
    config: &Config,
    tenant: &str,
    secret: &SecretString,
) -> Result<PathBuf, EditError> {
    path_of(config, tenant)?;
    let _lock = lock(config)?;
    let none =
        || EditError::NotFound(format!("tenant `{tenant}` has no [route.upstream] with a password_file"));
    let path = password_file(config, tenant)?.ok_or_else(none)?;
    keep_secret(&path, secret)?;
    Ok(path)
}

/// The file that a tenant's upstream takes its password from.
fn password_file(config: &Config, tenant: &str) -> Result<Option<PathBuf>, EditError> {
    let draft = load::read(path_of(config, tenant)?)?;
    let upstream = draft.file.route.upstream.as_ref();
    let written = upstream.and_then(|upstream| upstream.get_ref().password_file.as_ref());
    Ok(written.map(|name| upstream::beside(&draft.path, name.get_ref())))
}

fn keep_secret(path: &std::path::Path, secret: &SecretString) -> Result<(), EditError> {
    upstream::check_secret(secret.expose_secret()).map_err(|what| EditError::Refused(what.to_owned()))?;
    let text = format!("{}\n", secret.expose_secret());
    let io = |source| EditError::Io { path: path.to_owned(), source };
    fsx::write_atomically(path, text.as_bytes(), SECRET_MODE).map_err(io)
}

/// Whether nobody can send as a tenant.
///
/// # Errors
/// There is no such tenant, or its file is wrong.
pub fn is_disabled(config: &Config, tenant: &str) -> Result<bool, EditError> {
    Ok(load::read(path_of(config, tenant)?)?.file.disabled)
}

fn path_of(config: &Config, tenant: &str) -> Result<PathBuf, EditError> {
    let path = config.tenants.join(format!("{tenant}.toml"));
    if load::is_name(tenant) && path.is_file() {
        return Ok(path);
    }
    Err(EditError::NotFound(format!("there is no tenant `{tenant}` in {}", config.tenants.display())))
}

fn change(
    config: &Config,
    tenant: &str,
    edit: impl FnOnce(&PathBuf, &mut DocumentMut) -> Result<(), EditError>,
) -> Result<(), EditError> {
    path_of(config, tenant)?;
    let _lock = lock(config)?;
    rewrite(config, tenant, edit)
}

fn lock(config: &Config) -> Result<fsx::Lock, ConfigError> {
    let dir = &config.tenants;
    fsx::Lock::of_dir(dir)
        .map_err(|error| ConfigError::whole(dir, format!("the tenants' directory cannot be locked: {error}")))
}

/// `change`, of who holds the lock.
fn rewrite(
    config: &Config,
    tenant: &str,
    edit: impl FnOnce(&PathBuf, &mut DocumentMut) -> Result<(), EditError>,
) -> Result<(), EditError> {
    let path = path_of(config, tenant)?;
    let mut document = parse(&path, &crate::config::read(&path)?)?;
    edit(&path, &mut document)?;
    save(config, &path, &document)
}

fn parse(path: &std::path::Path, text: &str) -> Result<DocumentMut, EditError> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        let at = error.span().map_or(0, |span| span.start);
        ConfigError::at(path, text, at, error.message().replace('\n', " ")).into()
    })
}

fn tables<'d>(
    path: &std::path::Path,
    document: &'d mut DocumentMut,
    key: &str,
) -> Result<&'d mut ArrayOfTables, EditError> {
    let item = document.entry(key).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let what = format!("`{key}` is not written as [[{key}]]");
    item.as_array_of_tables_mut().ok_or_else(|| ConfigError::whole(path, what).into())
}

fn push_login(
    path: &std::path::Path,
    document: &mut DocumentMut,
    username: &str,
    hash: &str,
) -> Result<(), EditError> {
    let mut table = Table::new();
    table.insert("username", value(username));
    table.insert("password", value(hash));
    tables(path, document, "login")?.push(table);
    Ok(())
}

/// Checks the new text beside all other tenants' files, then writes it.
fn save(config: &Config, path: &std::path::Path, document: &DocumentMut) -> Result<(), EditError> {
    let text = document.to_string();
    load::with(config, path, &text)?;
    let io = |source| EditError::Io { path: path.to_owned(), source };
    fsx::write_atomically(path, text.as_bytes(), MODE).map_err(io)
}
