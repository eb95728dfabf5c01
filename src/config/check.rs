//! From the file's form to the checked `Config`: defaults, paths, and what no single key can know.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use toml::Spanned;

use super::file::{self, File};
use super::{
    Admin, Classes, CleartextAuth, Config, ConfigError, Delivery, Dns, Dnssec, Limits, Listener, ListenerTls,
    Log, Queue, RECIPIENTS_MAX, Relay, Role, Seal, Tls, Unsubscribe,
};
use crate::config;
use crate::mail::address::Domain;

/// The queue's usual life, the week that a replaced key stays published after it, and the two days that a new one takes.
const ROTATE_AFTER_MIN: Duration = Duration::from_secs(14 * 86_400);

/// Where the file stands and what is in it, so that a finding can name its place.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    fn wrong(&self, offset: usize, what: impl Into<String>) -> ConfigError {
        ConfigError::at(self.path, self.text, offset, what)
    }

    /// A path of the file, relative to the file.
    fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        let joined = self.path.parent().unwrap_or(Path::new(".")).join(path);
        std::path::absolute(&joined).unwrap_or(joined)
    }
}

/// Fills in the defaults and checks what concerns more than one key.
pub(super) fn check(source: &Source<'_>, file: File) -> Result<Config, ConfigError> {
    let hostname = file.hostname.ok_or_else(|| source.wrong(0, "missing key `hostname`"))?;
    let tls = file.tls.map(|tls| certificates(source, tls)).transpose()?;
    let listeners = listeners(source, &file.listener, tls.is_some())?;
    let wrong = |offset, what| source.wrong(offset, what);
    let unsubscribe = file.unsubscribe.map(|it| unsubscribe(source, it, tls.is_some())).transpose()?;
    let classes = Classes::default().overlaid(&file.class, (true, unsubscribe.is_some()), &wrong)?;
    Ok(Config {
        file: std::path::absolute(source.path).unwrap_or_else(|_| source.path.to_owned()),
        state: source.join(file.state.unwrap_or_else(|| "/var/lib/waxseal".into())),
        tenants: source.join(file.tenants.unwrap_or_else(|| "tenants".into())),
        keys: source.join(file.keys.unwrap_or_else(|| "keys".into())),
        listeners,
        tls,
        relay: relay(file.relay, &hostname),
        seal: seal(source, &file.seal)?,
        limits: limits(source, &file.limits)?,
        dns: dns(source, file.dns)?,
        delivery: delivery(source, file.delivery, &hostname, &classes)?,
        queue: queue(&file.queue),
        log: Log { path: source.join(file.log.path.unwrap_or_else(|| "/var/log/waxseal/mail.jsonl".into())) },
        admin: Admin {
            socket: source.join(file.admin.socket.unwrap_or_else(|| "/run/waxseal/admin.sock".into())),
            http: file.admin.http,
        },
        unsubscribe,
        classes,
        hostname,
    })
}

fn certificates(source: &Source<'_>, tls: file::Tls) -> Result<Tls, ConfigError> {
    let at = source.text.find("[tls]").unwrap_or(0);
    let missing = |key: &str| source.wrong(at, format!("[tls] needs `{key}`"));
    let pair = |pair: file::Pair| (source.join(pair.certificate), source.join(pair.key));
    Ok(Tls {
        certificate: source.join(tls.certificate.ok_or_else(|| missing("certificate"))?),
        key: source.join(tls.key.ok_or_else(|| missing("key"))?),
        more: tls.more.unwrap_or_default().into_iter().map(pair).collect(),
    })
}

/// Characters of a base URL: with the token a header line stays below RFC 5322's 998.
const BASE_MAX: usize = 200;

fn unsubscribe(
    source: &Source<'_>,
    written: file::Unsubscribe,
    certificate: bool,
) -> Result<Unsubscribe, ConfigError> {
    let at = source.text.find("[unsubscribe]").unwrap_or(0);
    let missing = |key: &str| source.wrong(at, format!("[unsubscribe] needs `{key}`"));
    let base = written.base_url.ok_or_else(|| missing("base_url"))?;
    let text = base.get_ref().trim_end_matches('/');
    let host = text.strip_prefix("https://").unwrap_or_default();
    let sound = |c: char| c.is_ascii_alphanumeric() || "-._~:/".contains(c);
    if host.is_empty() || host.starts_with('/') || text.len() > BASE_MAX || !host.chars().all(sound) {
        let what = format!(
            "`base_url` is how readers reach it, such as \"https://unsubscribe.example.com\": https, at most {BASE_MAX} characters, no query"
        );
        return Err(source.wrong(base.span().start, what));
    }
    let tls = written.tls.unwrap_or(false);
    if tls && !certificate {
        return Err(source.wrong(at, "[unsubscribe] tls = true needs a certificate: add [tls]"));
    }
    let address = written.address.ok_or_else(|| missing("address"))?;
    Ok(Unsubscribe { address, base_url: text.to_owned(), tls })
}

fn listeners(
    source: &Source<'_>,
    written: &[Spanned<file::Listener>],
    certificate: bool,
) -> Result<Vec<Listener>, ConfigError> {
    if written.is_empty() {
        return Err(source.wrong(0, "no [[listener]]: nothing would take mail"));
    }
    let mut checked: Vec<Listener> = Vec::with_capacity(written.len());
    for one in written {
        let address = &one.get_ref().address;
        let same = |other: &Listener| other.address == *address.get_ref() && other.address.port() != 0;
        if checked.iter().any(same) {
            let what = format!("two listeners on {}", address.get_ref());
            return Err(source.wrong(address.span().start, what));
        }
        checked.push(listener(source, one, certificate)?);
    }
    Ok(checked)
}

fn listener(
    source: &Source<'_>,
    written: &Spanned<file::Listener>,
    certificate: bool,
) -> Result<Listener, ConfigError> {
    let one = written.get_ref();
    let tls = one.tls.as_ref().map_or(ListenerTls::Starttls, |tls| *tls.get_ref());
    if tls != ListenerTls::None && !certificate {
        let at = one.tls.as_ref().map_or(written.span().start, |tls| tls.span().start);
        return Err(source.wrong(at, "this listener needs a certificate: add [tls], or set tls = \"none\""));
    }
    let usual = if tls == ListenerTls::Starttls { CleartextAuth::Upgrade } else { CleartextAuth::Hide };
    let cleartext_auth = one.cleartext_auth.as_ref().map_or(usual, |auth| *auth.get_ref());
    if let Some(auth) = &one.cleartext_auth
        && cleartext_auth == CleartextAuth::Upgrade
        && tls == ListenerTls::None
    {
        let what = "`upgrade` asks for STARTTLS, which a listener with tls = \"none\" does not offer; `hide` or `allow`";
        return Err(source.wrong(auth.span().start, what));
    }
    let role = one.role.unwrap_or(Role::Submission);
    Ok(Listener { address: *one.address.get_ref(), role, tls, cleartext_auth })
}

fn relay(written: file::Relay, hostname: &Domain) -> Relay {
    Relay {
        domain: written.domain.unwrap_or_else(|| hostname.clone()),
        dkim_zone: written.dkim_zone,
        bounce_host: written.bounce_host,
    }
}

fn seal(source: &Source<'_>, file: &file::Seal) -> Result<Seal, ConfigError> {
    let usual = Seal::default();
    let rotate_after = file.rotate_after.as_ref().map_or(usual.rotate_after, |age| age.get_ref().0);
    if let Some(age) = &file.rotate_after
        && !rotate_after.is_zero()
        && rotate_after < ROTATE_AFTER_MIN
    {
        let what = "0s (never) or at least 14d: a key that was replaced stays published for longer than that";
        return Err(source.wrong(age.span().start, what));
    }
    Ok(Seal { hold_max: file.hold_max.map_or(usual.hold_max, |n| n.0), rotate_after })
}

/// Octets as the length of something in memory.
fn length(octets: u64) -> usize {
    usize::try_from(octets).unwrap_or(usize::MAX)
}

/// A count as the width its user has.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn limits(source: &Source<'_>, file: &file::Limits) -> Result<Limits, ConfigError> {
    let usual = Limits::default();
    let recipients = file.recipients.as_ref().map_or(usual.recipients, |n| n.get_ref().0);
    if let Some(count) = file.recipients.as_ref().filter(|_| recipients > RECIPIENTS_MAX) {
        let what = format!(
            "at most {RECIPIENTS_MAX} recipients: one record of the queue holds all that is known of a message"
        );
        return Err(source.wrong(count.span().start, what));
    }
    Ok(Limits {
        connections: file.connections.map_or(usual.connections, |n| n.0),
        connections_per_address: file.connections_per_address.map_or(usual.connections_per_address, |n| n.0),
        message_size: file.message_size.map_or(usual.message_size, |n| n.0),
        body_memory: file.body_memory.map_or(usual.body_memory, |n| n.0),
        recipients,
        errors: file.errors.map_or(usual.errors, |n| narrow(n.0)),
        junk_commands: file.junk_commands.map_or(usual.junk_commands, |n| narrow(n.0)),
        command_timeout: file.command_timeout.map_or(usual.command_timeout, |n| n.0),
        data_timeout: file.data_timeout.map_or(usual.data_timeout, |n| n.0),
        handshake_timeout: file.handshake_timeout.map_or(usual.handshake_timeout, |n| n.0),
        minimum_rate: file.minimum_rate.map_or(usual.minimum_rate, |n| n.0),
        hello_wait: file.hello_wait.map_or(usual.hello_wait, |n| n.0),
        header_size: file.header_size.map_or(usual.header_size, |n| length(n.0)),
        hops: file.hops.map_or(usual.hops, |n| n.0),
        deliver_by: file.deliver_by.map_or(usual.deliver_by, |n| n.0),
    })
}

fn dns(source: &Source<'_>, file: file::Dns) -> Result<Dns, ConfigError> {
    let usual = Dns::default();
    let (servers, dnssec) = (file.servers.unwrap_or_default(), file.dnssec.unwrap_or(usual.dnssec));
    let local = !servers.is_empty() && servers.iter().all(|server| server.ip().to_canonical().is_loopback());
    if dnssec == Dnssec::TrustAd && !local {
        let at = source.text.find("dnssec").unwrap_or(0);
        return Err(source.wrong(
            at,
            "dnssec = \"trust_ad\" needs `servers`, all of them on this machine (127.0.0.1, [::1]): \
             on any other way the bit can be forged; else dnssec = \"validate\"",
        ));
    }
    Ok(Dns {
        servers,
        dnssec,
        trust_anchors: file.trust_anchors.map(|path| source.join(path)),
        timeout: file.timeout.map_or(usual.timeout, |n| n.0),
    })
}

fn delivery(
    source: &Source<'_>,
    file: file::Delivery,
    hostname: &Domain,
    classes: &Classes,
) -> Result<Delivery, ConfigError> {
    let usual = Delivery::default();
    let named = egress(source, file.source.unwrap_or_default(), hostname, classes)?;
    let mut sources = file.sources.unwrap_or_default();
    for one in &named {
        if !sources.contains(&one.address) {
            sources.push(one.address);
        }
    }
    let retry = file.retry.map_or(usual.retry, |waits| waits.iter().map(|wait| wait.0).collect());
    if retry.is_empty() {
        let at = source.text.find("retry").unwrap_or(0);
        return Err(source.wrong(at, "`retry` needs at least one duration; the last one repeats"));
    }
    Ok(Delivery {
        port: file.port.map_or(usual.port, |n| n.0),
        sources,
        source: named,
        public_addresses: file.public_addresses.unwrap_or_default(),
        allow_private_destinations: file
            .allow_private_destinations
            .unwrap_or(usual.allow_private_destinations),
        allow_destinations: file.allow_destinations.unwrap_or_default(),
        ca_file: file.ca_file.map(|written| roots(source, &written)).transpose()?,
        mta_sts: file.mta_sts.unwrap_or(usual.mta_sts),
        tls_reports: file.tls_reports.unwrap_or(usual.tls_reports),
        mta_sts_port: file.mta_sts_port.map_or(usual.mta_sts_port, |n| n.0),
        concurrency: file.concurrency.map_or(usual.concurrency, |n| n.0),
        concurrency_per_destination: file
            .concurrency_per_destination
            .map_or(usual.concurrency_per_destination, |n| n.0),
        sites: file.sites.unwrap_or(usual.sites),
        rest_max: file.rest_max.map_or(usual.rest_max, |n| n.0),
        messages_per_connection: file
            .messages_per_connection
            .map_or(usual.messages_per_connection, |n| u32::try_from(n.0).unwrap_or(u32::MAX)),
        idle: file.idle.map_or(usual.idle, |n| n.0),
        retry,
        give_up: file.give_up.map_or(usual.give_up, |n| n.0),
        delay_notice: file.delay_notice.map_or(usual.delay_notice, |n| n.0),
        gather: file.gather.map_or(usual.gather, |n| n.0),
        drain: file.drain.map_or(usual.drain, |n| n.0),
        connect_timeout: file.connect_timeout.map_or(usual.connect_timeout, |n| n.0),
        command_timeout: file.command_timeout.map_or(usual.command_timeout, |n| n.0),
        data_init_timeout: file.data_init_timeout.map_or(usual.data_init_timeout, |n| n.0),
        data_block_timeout: file.data_block_timeout.map_or(usual.data_block_timeout, |n| n.0),
        data_done_timeout: file.data_done_timeout.map_or(usual.data_done_timeout, |n| n.0),
    })
}

/// A file of root certificates: whoever names one wants to be told now that it cannot be used.
fn roots(source: &Source<'_>, written: &Spanned<PathBuf>) -> Result<PathBuf, ConfigError> {
    let path = source.join(written.get_ref());
    let wrong = |what: &str| source.wrong(written.span().start, format!("{} {what}", path.display()));
    let pem = std::fs::read(&path).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(path),
        Some(Err(_)) | None => Err(wrong("has no certificate in it; PEM is expected")),
    }
}

/// The addresses that have something said of them.
fn egress(
    source: &Source<'_>,
    written: Vec<Spanned<file::EgressSource>>,
    hostname: &Domain,
    classes: &Classes,
) -> Result<Vec<config::Source>, ConfigError> {
    let mut checked: Vec<config::Source> = Vec::with_capacity(written.len());
    for one in written {
        let at = one.span().start;
        let file::EgressSource { address, hostname: own, tenants, classes: only } = one.into_inner();
        if address.is_unspecified() || address.is_multicast() {
            let what = format!("{address} is no address to send from: name one of this machine's");
            return Err(source.wrong(at, what));
        }
        if checked.iter().any(|other| other.address == address) {
            let what = format!("two [[delivery.source]] with the address {address}: one says it all");
            return Err(source.wrong(at, what));
        }
        if let Some(unknown) = only.iter().find(|name| !classes.names().contains(&name.as_str())) {
            let known = classes.names().join(", ");
            return Err(source.wrong(at, format!("no class `{unknown}`; there are {known}")));
        }
        let hostname = own.unwrap_or_else(|| hostname.clone());
        checked.push(config::Source { address, hostname, tenants, classes: only });
    }
    Ok(checked)
}

fn queue(file: &file::Queue) -> Queue {
    let usual = Queue::default();
    Queue {
        window: file.window.map_or(usual.window, |n| n.0),
        body_cache: file.body_cache.map_or(usual.body_cache, |n| n.0),
        read_memory: file.read_memory.map_or(usual.read_memory, |n| n.0),
        index_cache: file.index_cache.map_or(usual.index_cache, |n| n.0),
        disk_reserve: file.disk_reserve.map_or(usual.disk_reserve, |n| n.0),
    }
}
