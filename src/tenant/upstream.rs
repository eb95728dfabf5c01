//! A tenant's own SMTP server: what may be named as one, and its secret. A tenant's file must not make the relay knock at doors
//! inside (OB8); deliver looks at the addresses again when it connects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::file::{self, Via};
use super::load::Draft;
use super::oauth::{self, Grant, OAuth};
use super::preset::Preset;
use super::{Fallback, Route, Upstream, UpstreamTls};
use crate::config::{Classes, Config, ConfigError};
use crate::fsx;
use crate::mail::address::Domain;
use crate::mail::secret::SecretString;

/// Below 1024 mail is submitted on these only; anything else there is another service.
const MAIL_PORTS: [u16; 3] = [25, 465, 587];
/// First port that anybody may use.
const UNPRIVILEGED: u16 = 1024;
/// Submission (RFC 6409).
pub(super) const SUBMISSION: u16 = 587;
/// Implicit TLS (RFC 8314 section 7.3).
pub(super) const SUBMISSIONS: u16 = 465;
/// Attempts by the first way before the second is taken.
const FALLBACK_ATTEMPTS: u32 = 3;
/// See `FALLBACK_ATTEMPTS`.
const FALLBACK_ATTEMPTS_MAX: u32 = 100;
/// Longest secret: SASL lines are bounded to 12,288 octets (RFC 4954 section 4).
const SECRET_MAX: usize = 4096;

/// The tenant's upstream, if its mail goes that way.
pub(super) fn route(config: &Config, draft: &Draft) -> Result<Option<Upstream>, ConfigError> {
    let route = &draft.file.route;
    match (&route.via, &route.upstream) {
        (None, None) => Ok(None),
        (Some(via), None) if *via.get_ref() == Via::Mx => Ok(None),
        (Some(via), None) => Err(draft.wrong(via, "via = \"upstream\" needs [route.upstream]")),
        (Some(via), Some(upstream)) if *via.get_ref() == Via::Mx => {
            drop(checked(config, draft, upstream)?);
            Ok(None)
        }
        (Some(_), Some(upstream)) => checked(config, draft, upstream).map(Some),
        (None, Some(upstream)) => {
            Err(draft.wrong(upstream, "[route.upstream] is not used: set via = \"upstream\" in [route]"))
        }
    }
}

/// The second ways. Each must be another than the first.
pub(super) fn fallbacks(
    config: &Config,
    draft: &Draft,
    (first, known): (Option<&Upstream>, &Classes),
) -> Result<Vec<Fallback>, ConfigError> {
    let mut found: Vec<Fallback> = Vec::new();
    for written in draft.file.route.seconds() {
        let classes = of_classes(draft, written, (known, &found))?;
        found.push(Fallback { classes, ..fallback(config, draft, (written, first))? });
    }
    Ok(found)
}

/// Whose mail it is for; each class has one at most, and a list must name some.
fn of_classes(
    draft: &Draft,
    written: file::Second<'_>,
    (known, found): (&Classes, &[Fallback]),
) -> Result<Vec<Arc<str>>, ConfigError> {
    let Some(listed) = written.classes else { return Ok(Vec::new()) };
    if listed.is_empty() {
        let what = "[[route.class_fallback]] needs classes; for all mail it is [route.fallback]";
        return Err(draft.wrong(written.via, what));
    }
    for place in listed {
        let name = place.get_ref();
        if let Some(what) = known.unknown(name) {
            return Err(draft.wrong(place, what));
        }
        if found.iter().any(|other| other.classes.iter().any(|class| **class == **name)) {
            return Err(draft.wrong(place, format!("class `{name}` has a fallback already")));
        }
    }
    Ok(listed.iter().map(|name| name.get_ref().as_str().into()).collect())
}

fn fallback(
    config: &Config,
    draft: &Draft,
    (written, first): (file::Second<'_>, Option<&Upstream>),
) -> Result<Fallback, ConfigError> {
    let table = if written.classes.is_some() { "route.class_fallback" } else { "route.fallback" };
    let via = *written.via.get_ref();
    let second = match (via, written.upstream) {
        (Via::Upstream, Some(upstream)) => Some(checked(config, draft, upstream)?),
        (Via::Upstream, None) => {
            return Err(draft.wrong(written.via, format!("via = \"upstream\" needs [{table}.upstream]")));
        }
        (Via::Mx, Some(upstream)) => {
            let what = format!("[{table}.upstream] is not used: set via = \"upstream\" in [{table}]");
            return Err(draft.wrong(upstream, what));
        }
        (Via::Mx, None) => None,
    };
    let place = |upstream: &Upstream| (upstream.host.to_ascii_lowercase(), upstream.port);
    if first.map(place) == second.as_ref().map(place) {
        return Err(draft.wrong(written.via, "the fallback is the same way as [route]"));
    }
    let attempts = written.attempts.as_ref().map_or(FALLBACK_ATTEMPTS, |attempts| *attempts.get_ref());
    if let Some(place) = written.attempts
        && !(1..=FALLBACK_ATTEMPTS_MAX).contains(&attempts)
    {
        return Err(draft.wrong(place, format!("attempts is 1 to {FALLBACK_ATTEMPTS_MAX}")));
    }
    let route = Arc::new(second.map_or(Route::Mx, Route::Upstream));
    let after = written.after.as_ref().map_or(Duration::ZERO, |after| after.0);
    Ok(Fallback { classes: Vec::new(), route, attempts, after })
}

fn checked(config: &Config, draft: &Draft, whole: &Spanned<file::Upstream>) -> Result<Upstream, ConfigError> {
    let written = whole.get_ref();
    let host = host(draft, whole)?;
    let tls = written.tls.as_ref().map_or(UpstreamTls::Starttls, |tls| *tls.get_ref());
    let usual = if tls == UpstreamTls::Implicit { SUBMISSIONS } else { SUBMISSION };
    let port = written.port.as_ref().map_or(usual, |port| port.get_ref().0);
    if let Err(what) = reachable(config, &host, port) {
        return Err(match &written.host {
            Some(place) => draft.wrong(place, what),
            None => draft.wrong(whole, what),
        });
    }
    if let Some(place) = &written.port
        && !config.delivery.allow_private_destinations
        && port < UNPRIVILEGED
        && !MAIL_PORTS.contains(&port)
    {
        return Err(
            draft.wrong(place, format!("{port} is no port for mail: 25, 465, 587, or 1024 and above"))
        );
    }
    let preset = written.preset.as_ref().map(|preset| *preset.get_ref());
    let oauth =
        written.oauth.as_ref().map(|whole| oauth::read(config, draft, (whole, preset))).transpose()?;
    Ok(Upstream {
        host,
        port,
        tls,
        credentials: match &oauth {
            Some(oauth) => Some(bearer(draft, written, (tls, oauth))?),
            None => credentials(draft, written, tls)?,
        },
        oauth: oauth.map(Arc::new),
        cleartext_auth: written.cleartext_auth,
        ca_file: ca_file(draft, written)?,
    })
}

/// As it is written, or as the preset has it.
fn host(draft: &Draft, whole: &Spanned<file::Upstream>) -> Result<String, ConfigError> {
    let file::Upstream { host, preset, region, .. } = whole.get_ref();
    match (host, preset, region) {
        (Some(_), _, Some(region)) | (None, None, Some(region)) => {
            Err(draft.wrong(region, "region chooses a preset's host: it needs preset, and no host"))
        }
        (Some(host), _, None) => Ok(host.get_ref().clone()),
        (None, Some(preset), region) => {
            let found = preset.get_ref().host(region.as_ref().map(|region| region.get_ref().as_str()));
            found.map_err(|what| match region {
                Some(region) => draft.wrong(region, what),
                None => draft.wrong(preset, what),
            })
        }
        (None, None, None) => {
            let presets: Vec<&str> = Preset::names().collect();
            let what = format!("[route.upstream] needs host, or preset: {}", presets.join(", "));
            Err(draft.wrong(whole, what))
        }
    }
}

fn ca_file(draft: &Draft, written: &file::Upstream) -> Result<Option<PathBuf>, ConfigError> {
    let Some(place) = &written.ca_file else { return Ok(None) };
    let path = beside(&draft.path, place.get_ref());
    match std::fs::File::open(&path) {
        Ok(_) => Ok(Some(path)),
        Err(error) => Err(draft.wrong(place, format!("{} cannot be read: {error}", path.display()))),
    }
}

/// Whether a host may be named at all; its addresses are looked at when it is connected to.
pub(super) fn reachable(config: &Config, host: &str, port: u16) -> Result<(), String> {
    if config.delivery.allow_private_destinations {
        return named(host);
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        let allowed =
            config.delivery.allow_destinations.iter().any(|net| net.contains(&address.to_canonical()));
        return if allowed || is_public(address) {
            Ok(())
        } else {
            Err(format!(
                "{host} is a private, loopback or reserved address; delivery.allow_destinations can allow it"
            ))
        };
    }
    named(host)?;
    let lower = host.to_ascii_lowercase();
    if lower == "localhost" || lower.ends_with(".localhost") {
        return Err(format!("{host} is this machine; delivery.allow_private_destinations can allow it"));
    }
    let ours = config.listeners.iter().any(|listener| listener.address.port() == port);
    if lower == config.hostname.as_str() && ours {
        return Err(format!("{host}:{port} is this relay itself: mail would go round in circles"));
    }
    Ok(())
}

fn named(host: &str) -> Result<(), String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let sound = bare.parse::<IpAddr>().is_ok() || host.parse::<Domain>().is_ok();
    if sound { Ok(()) } else { Err(format!("`{host}` is neither a host name nor an address")) }
}

fn credentials(
    draft: &Draft,
    written: &file::Upstream,
    tls: UpstreamTls,
) -> Result<Option<(String, SecretString)>, ConfigError> {
    let preset = written.preset.as_ref();
    let usual = preset.and_then(|preset| preset.get_ref().username());
    let username = written.username.as_ref().map(|name| name.get_ref().as_str()).or(usual);
    let (username, place) = match (username, &written.password_file, preset) {
        (None, None, None) => return Ok(None),
        (Some(username), Some(place), _) => (username, place),
        (_, _, Some(preset)) => {
            let (name, login) = (preset.get_ref().name(), preset.get_ref().login());
            let what = format!("preset \"{name}\" needs username and password_file: {login}");
            return Err(draft.wrong(preset, what));
        }
        (Some(_), None, None) => {
            return Err(wrong_username(draft, written, "username needs password_file"));
        }
        (None, Some(place), None) => return Err(draft.wrong(place, "password_file needs username")),
    };
    if tls == UpstreamTls::None && !written.cleartext_auth {
        let what =
            "the password would travel in clear text; set tls, or cleartext_auth = true if that is meant";
        return Err(wrong_username(draft, written, what));
    }
    let secret = secret(&draft.path, place.get_ref()).map_err(|what| draft.wrong(place, what))?;
    Ok(Some((username.to_owned(), secret)))
}

/// Who logs in with tokens: the user name, and the secret that they are asked for with, which tells this use of the server from
/// another's.
fn bearer(
    draft: &Draft,
    written: &file::Upstream,
    (tls, oauth): (UpstreamTls, &OAuth),
) -> Result<(String, SecretString), ConfigError> {
    if let Some(place) = &written.password_file {
        return Err(draft.wrong(place, "password_file is not used with [route.upstream.oauth]"));
    }
    let Some(username) = &written.username else {
        return Err(ConfigError::whole(
            &draft.path,
            "[route.upstream.oauth] needs username: the mailbox's address",
        ));
    };
    if tls == UpstreamTls::None && !written.cleartext_auth {
        let what = "the token would travel in clear text; set tls, or cleartext_auth = true if that is meant";
        return Err(draft.wrong(username, what));
    }
    let secret = match (&oauth.grant, &oauth.client_secret) {
        (Grant::RefreshToken(token), _) => token.clone(),
        (Grant::ClientCredentials, Some(secret)) => secret.clone(),
        (Grant::ClientCredentials, None) => SecretString::from(String::new()),
    };
    Ok((username.get_ref().clone(), secret))
}

/// At the user name, or at the preset that it comes from.
fn wrong_username(draft: &Draft, written: &file::Upstream, what: &str) -> ConfigError {
    match (&written.username, &written.preset) {
        (Some(place), _) => draft.wrong(place, what),
        (None, Some(place)) => draft.wrong(place, what),
        (None, None) => ConfigError::whole(&draft.path, what),
    }
}

/// A path of a tenant's file, relative to that file.
pub(super) fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new(".")).join(path)
}

/// The secret in systemd's credentials, if it is there, or beside the tenant's file.
pub(super) fn secret(file: &Path, name: &Path) -> Result<SecretString, String> {
    let systems = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let of_system = systems.filter(|_| name.components().count() == 1).map(|dir| dir.join(name));
    let path = of_system.filter(|path| path.is_file()).unwrap_or_else(|| beside(file, name));
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    fsx::check_secret_mode(&path).map_err(|error| {
        let unfit = error.kind() == std::io::ErrorKind::PermissionDenied;
        if unfit { error.to_string() } else { unreadable(error) }
    })?;
    let text = std::fs::read_to_string(&path).map_err(unreadable)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    check_secret(secret).map_err(|what| format!("{}: {what}", path.display()))?;
    Ok(SecretString::from(secret))
}

/// Whether a text can be a secret.
pub(super) fn check_secret(secret: &str) -> Result<(), &'static str> {
    let unfit = secret.is_empty() || secret.len() > SECRET_MAX || secret.chars().any(char::is_control);
    if unfit { Err("a secret is one line of 1 to 4096 octets") } else { Ok(()) }
}

/// Whether an address is one of the public Internet's (IANA special-purpose registries, RFC 6890).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && b & 0xc0 == 64; // RFC 6598
    let protocols = a == 192 && b == 0 && c == 0; // RFC 6890
    let benchmark = a == 198 && b & 0xfe == 18; // RFC 2544
    let reserved = a >= 240 || a == 0; // RFC 1112 section 4, RFC 1122 section 3.2.1.3
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || shared
        || protocols
        || benchmark
        || reserved)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, _, _, _, _, g, h] = address.segments();
    // RFC 6052 and RFC 3056: an IPv4 address inside decides.
    if a == 0x64 && b == 0xff9b {
        let [p, q] = g.to_be_bytes();
        let [r, s] = h.to_be_bytes();
        return is_public_v4(Ipv4Addr::new(p, q, r, s));
    }
    if a == 0x2002 {
        let [p, q] = b.to_be_bytes();
        let [r, s] = address.segments().get(2).copied().unwrap_or(0).to_be_bytes();
        return is_public_v4(Ipv4Addr::new(p, q, r, s));
    }
    let documentation = a == 0x2001 && b == 0xdb8; // RFC 3849
    // Of the global unicast space (RFC 4291 section 2.4) IANA has given out 2000::/3 so far; all else is loopback, ULA, link-local,
    // multicast or unassigned.
    a & 0xe000 == 0x2000 && !documentation
}
