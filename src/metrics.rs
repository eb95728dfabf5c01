//! Every number that is exported, with the values of its labels. Names, units and labels stand here and in
//! docs/running.md; a test compares them.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds: from a fast local answer to a slow exchanger.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// Declares a label set with one label whose values are a closed list of static texts.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $field:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name {
            /// The label's value.
            pub $field: &'static str,
        }

        impl EncodeLabelSet for $name {
            fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
                let name = stringify!($field);
                [(name.trim_start_matches("r#"), self.$field)].encode(encoder)
            }
        }
    };
}

label!(
    /// `type`: the mail log's types, such as `received` and `delivered`.
    EventLabel,
    r#type
);
label!(
    /// `method`: `none`, `starttls`, `implicit`, as the listener is set.
    MethodLabel,
    method
);
label!(
    /// `result`: each number's own list.
    ResultLabel,
    result
);
label!(
    /// `reason`: each number's own list.
    ReasonLabel,
    reason
);

label!(
    /// `health`: both, dkim_only, spf_only, fail, unknown, unjudged.
    HealthLabel,
    health
);

label!(
    /// `by`: by what a class was recognised, or `none`.
    ByLabel,
    by
);

label!(
    /// `state`: each number's own list.
    StateLabel,
    state
);

/// The numbers.
#[derive(Debug)]
pub struct Metrics {
    /// Connections taken by the listeners, by `method`: none, starttls, implicit.
    pub connections: Family<MethodLabel, Counter>,
    /// Connections refused, by `reason`: total, address, descriptors.
    pub connections_refused: Family<ReasonLabel, Counter>,
    /// Sessions open now.
    pub sessions: Gauge,
    /// TLS handshakes with clients, by `result`: ok, failed.
    pub handshakes: Family<ResultLabel, Counter>,
    /// AUTH commands, by `result`: ok, refused, throttled, exposed.
    pub auth: Family<ResultLabel, Counter>,
    /// Octets of memory that messages on their way in hold.
    pub body_memory: Gauge,
    /// Messages, and MAILs, refused because they found no memory.
    pub body_memory_refused: Counter,
    /// Octets of accepted messages.
    pub received_bytes: Counter,
    /// From the end of the data to the answer, of accepted messages.
    pub accept_seconds: Histogram,
    /// Time to seal a message.
    pub seal_seconds: Histogram,
    /// Mail log records, by `type`: received, rejected, held, released, attempt, deferred, delivered, relayed, bounced,
    /// expired, superseded, suppressed, dropped, dsn, alert, remote_bounce, complaint, platform_seal, seal_check, volume, tls_report, probe, audit. A recipient's fate is
    /// one record.
    pub events: Family<EventLabel, Counter>,
    /// Accepted messages, `by` what their class was recognised: login, header, control, from, link, subject, default, none. The
    /// classes themselves are no label: their names are configured, and no closed list.
    pub classed: Family<ByLabel, Counter>,
    /// Recipients of mail whose sender set a time (RFC 2852): passed_on, handed_over, returned, delayed.
    pub deliver_by: Family<ResultLabel, Counter>,
    /// Accepted messages by what told their priority: parameter, header, class.
    pub priorities: Family<ByLabel, Counter>,
    /// Connections to exchangers and upstreams, by `result`: opened, reused, failed.
    pub hops: Family<ResultLabel, Counter>,
    /// Sites of exchangers that were sent to lately, by `state`: open, probing, resting.
    pub sites: Family<StateLabel, Gauge>,
    /// Rests that sites were given, by `reason`: busy, limited, unreachable.
    pub site_rests: Family<ReasonLabel, Counter>,
    /// Legs that went back to wait for their site's turn.
    pub turned_away: Counter,
    /// Sessions with exchangers and upstreams opened under TLS, `by` what asked for it: nobody, route, class, requiretls,
    /// mta-sts, dane.
    pub tls_protected: Family<ByLabel, Counter>,
    /// Hosts to which nothing was sent because they did not give what was asked for, `by` what asked for it: the same.
    pub tls_refused: Family<ByLabel, Counter>,
    /// Fetches of MTA-STS policies, by `result`: ok, failed.
    pub sts_fetches: Family<ResultLabel, Counter>,
    /// Recipients that an attempt did not deliver, by `reason`: the causes of docs/replies.md.
    pub undelivered: Family<ReasonLabel, Counter>,
    /// Tenants whose upstream refuses their user name and password now: more than 0 wants a look.
    pub lockouts: Gauge,
    /// Access tokens asked for, by `result`: ok, refused, failed.
    pub tokens: Family<ResultLabel, Counter>,
    /// From accept to the reply that delivered, for each recipient.
    pub delivery_seconds: Histogram,
    /// Our own signatures verified as receivers do, a sample, by `result`: pass, fail, unknown.
    pub seal_checks: Family<ResultLabel, Counter>,
    /// DNS lookups, by `result`: found, none, failed.
    pub lookups: Family<ResultLabel, Counter>,
    /// From domains, by `health`: both, dkim_only, spf_only, fail, unknown, unjudged.
    pub domains: Family<HealthLabel, Gauge>,
    /// Addresses on suppression lists, by `reason`: bounce, complaint, unsubscribe, manual.
    pub suppressions: Family<ReasonLabel, Gauge>,
    /// Messages not yet ended.
    pub queue_messages: Gauge,
    /// Recipients still open.
    pub queue_recipients: Gauge,
    /// Legs with an attempt under way.
    pub queue_active: Gauge,
    /// Legs parked.
    pub queue_held: Gauge,
    /// Failures not yet told of.
    pub queue_owed: Gauge,
    /// Messages kept in memory because the index's files do not have their last change yet.
    pub queue_unindexed: Gauge,
    /// Octets of the journal on disk.
    pub journal_bytes: Gauge,
    /// Octets of the journal that still matter.
    pub journal_live_bytes: Gauge,
    /// Groups synced to the journal since the start.
    pub journal_syncs: Gauge,
    /// Damaged records found since the start: more than 0 wants a look.
    pub journal_quarantined: Gauge,
    /// Damaged segments that were set aside and not removed yet: more than 0 wants a look.
    pub journal_set_aside: Gauge,
    /// Writes of the mail log that failed: more than 0 wants a look.
    pub log_errors: Counter,
    /// Times that somebody had to wait because the mail log's writer was behind.
    pub log_waits: Counter,
    /// Mail log records lost, because the file could not be written for long: more than 0 wants a look.
    pub log_lost: Counter,
    /// Reloads, by `result`: ok, refused.
    pub reloads: Family<ResultLabel, Counter>,
    /// When the daemon started, in seconds since the epoch.
    pub started: Gauge<f64, AtomicU64>,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let seconds = || Histogram::new(SECONDS);
        let mut metrics = Self {
            connections: Family::default(),
            connections_refused: Family::default(),
            sessions: Gauge::default(),
            handshakes: Family::default(),
            auth: Family::default(),
            body_memory: Gauge::default(),
            body_memory_refused: Counter::default(),
            received_bytes: Counter::default(),
            accept_seconds: seconds(),
            seal_seconds: seconds(),
            events: Family::default(),
            classed: Family::default(),
            priorities: Family::default(),
            deliver_by: Family::default(),
            hops: Family::default(),
            sites: Family::default(),
            site_rests: Family::default(),
            turned_away: Counter::default(),
            tls_protected: Family::default(),
            tls_refused: Family::default(),
            sts_fetches: Family::default(),
            undelivered: Family::default(),
            lockouts: Gauge::default(),
            tokens: Family::default(),
            delivery_seconds: seconds(),
            seal_checks: Family::default(),
            lookups: Family::default(),
            domains: Family::default(),
            suppressions: Family::default(),
            queue_messages: Gauge::default(),
            queue_recipients: Gauge::default(),
            queue_active: Gauge::default(),
            queue_held: Gauge::default(),
            queue_owed: Gauge::default(),
            queue_unindexed: Gauge::default(),
            journal_bytes: Gauge::default(),
            journal_live_bytes: Gauge::default(),
            journal_syncs: Gauge::default(),
            journal_quarantined: Gauge::default(),
            journal_set_aside: Gauge::default(),
            log_errors: Counter::default(),
            log_waits: Counter::default(),
            log_lost: Counter::default(),
            reloads: Family::default(),
            started: Gauge::default(),
            registry: Registry::default(),
        };
        let mut registry = Registry::with_prefix("waxseal");
        metrics.register_listener(&mut registry);
        metrics.register_delivery(&mut registry);
        metrics.register_queue(&mut registry);
        metrics.register_house(&mut registry);
        metrics.registry = registry;
        metrics
    }

    /// The numbers as Prometheus reads them (OpenMetrics text).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn register_listener(&self, to: &mut Registry) {
        to.register("connections", "Connections taken by the listeners", self.connections.clone());
        to.register("connections_refused", "Connections refused", self.connections_refused.clone());
        to.register("sessions", "Sessions open now", self.sessions.clone());
        to.register("tls_handshakes", "TLS handshakes with clients", self.handshakes.clone());
        to.register("auth", "AUTH commands", self.auth.clone());
        let held = "Memory that messages on their way in hold";
        to.register_with_unit("body_memory", held, Unit::Bytes, self.body_memory.clone());
        let refused = "Messages refused for want of memory";
        to.register("body_memory_refused", refused, self.body_memory_refused.clone());
        let octets = "Octets of accepted messages";
        to.register_with_unit("received", octets, Unit::Bytes, self.received_bytes.clone());
        let accept = "From the end of the data to the answer";
        to.register_with_unit("accept", accept, Unit::Seconds, self.accept_seconds.clone());
        to.register_with_unit("seal", "Time to seal a message", Unit::Seconds, self.seal_seconds.clone());
        to.register("events", "Mail log records", self.events.clone());
        to.register("classed", "Accepted messages by what told their class", self.classed.clone());
        let by = "Recipients of mail with a time set by its sender";
        to.register("deliver_by", by, self.deliver_by.clone());
        to.register("priorities", "Accepted messages by what told their priority", self.priorities.clone());
    }

    fn register_delivery(&self, to: &mut Registry) {
        to.register("hop_connections", "Connections to exchangers and upstreams", self.hops.clone());
        to.register("sites", "Sites of exchangers that were sent to lately", self.sites.clone());
        to.register("site_rests", "Rests that sites were given", self.site_rests.clone());
        let waits = "Legs that went back to wait for their site's turn";
        to.register("turned_away", waits, self.turned_away.clone());
        let protected = "Sessions out under TLS, by what asked for it";
        to.register("tls_protected", protected, self.tls_protected.clone());
        let refused = "Hosts that got nothing for want of TLS, by what asked for it";
        to.register("tls_refused", refused, self.tls_refused.clone());
        to.register("mta_sts_fetches", "Fetches of MTA-STS policies", self.sts_fetches.clone());
        let undelivered = "Recipients that an attempt did not deliver";
        to.register("undelivered", undelivered, self.undelivered.clone());
        let lockouts = "Tenants whose upstream refuses their user name and password now";
        to.register("upstream_lockouts", lockouts, self.lockouts.clone());
        to.register("token_requests", "Access tokens asked for", self.tokens.clone());
        let delivery = "From accept to the reply that delivered";
        to.register_with_unit("delivery", delivery, Unit::Seconds, self.delivery_seconds.clone());
        to.register("seal_checks", "Own signatures verified, a sample", self.seal_checks.clone());
        to.register("dns_lookups", "DNS lookups", self.lookups.clone());
        to.register("domains", "From domains by how they stand with receivers", self.domains.clone());
    }

    fn register_queue(&self, to: &mut Registry) {
        to.register("suppressions", "Addresses on suppression lists", self.suppressions.clone());
        to.register("queue_messages", "Messages not yet ended", self.queue_messages.clone());
        to.register("queue_recipients", "Recipients still open", self.queue_recipients.clone());
        to.register("queue_active", "Legs with an attempt under way", self.queue_active.clone());
        to.register("queue_held", "Legs parked", self.queue_held.clone());
        to.register("queue_owed", "Failures not yet told of", self.queue_owed.clone());
        let unindexed = "Messages kept in memory until the index's files have their last change";
        to.register("queue_unindexed", unindexed, self.queue_unindexed.clone());
        let disk = "Octets of the journal on disk";
        to.register_with_unit("journal", disk, Unit::Bytes, self.journal_bytes.clone());
        let live = "Octets of the journal that still matter";
        to.register_with_unit("journal_live", live, Unit::Bytes, self.journal_live_bytes.clone());
        to.register("journal_syncs", "Groups synced since the start", self.journal_syncs.clone());
        to.register("journal_quarantined", "Damaged records found", self.journal_quarantined.clone());
        to.register("journal_set_aside", "Damaged segments set aside", self.journal_set_aside.clone());
    }

    fn register_house(&self, to: &mut Registry) {
        to.register("log_errors", "Writes of the mail log that failed", self.log_errors.clone());
        to.register("log_waits", "Waits for the mail log's writer", self.log_waits.clone());
        to.register("log_lost", "Mail log records lost", self.log_lost.clone());
        to.register("reloads", "Reloads of the configuration", self.reloads.clone());
        let started = "When the daemon started, since the epoch";
        to.register_with_unit("start_time", started, Unit::Seconds, self.started.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every number with its labels, as Prometheus sees it.
    fn exported() -> BTreeSet<String> {
        let metrics = Metrics::new();
        metrics.connections.get_or_create(&MethodLabel { method: "none" }).inc();
        for family in [&metrics.connections_refused, &metrics.undelivered] {
            family.get_or_create(&ReasonLabel { reason: "total" }).inc();
        }
        for family in [
            &metrics.handshakes,
            &metrics.auth,
            &metrics.hops,
            &metrics.tokens,
            &metrics.seal_checks,
            &metrics.lookups,
            &metrics.reloads,
            &metrics.deliver_by,
        ] {
            family.get_or_create(&ResultLabel { result: "ok" }).inc();
        }
        metrics.domains.get_or_create(&HealthLabel { health: "both" }).set(1);
        metrics.sites.get_or_create(&StateLabel { state: "open" }).set(1);
        metrics.site_rests.get_or_create(&ReasonLabel { reason: "busy" }).inc();
        metrics.suppressions.get_or_create(&ReasonLabel { reason: "bounce" }).set(1);
        metrics.events.get_or_create(&EventLabel { r#type: "received" }).inc();
        metrics.sts_fetches.get_or_create(&ResultLabel { result: "ok" }).inc();
        for family in [&metrics.classed, &metrics.priorities, &metrics.tls_protected, &metrics.tls_refused] {
            family.get_or_create(&ByLabel { by: "none" }).inc();
        }
        let text = metrics.render();
        let numbers = text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
        let name = |line: &str| {
            let (name, label) = line.split_once('{').unwrap_or((line.split(' ').next().unwrap(), ""));
            let label = label.split_once('=').map_or(String::new(), |(label, _)| format!("{{{label}}}"));
            name.trim_end_matches("_sum").trim_end_matches("_count").to_owned() + &label
        };
        numbers.map(name).collect()
    }

    #[test]
    fn running_md_lists_every_number_and_no_other() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/running.md")).unwrap();
        let first =
            |line: &str| line.strip_prefix("| `waxseal_")?.split_once('`').map(|(name, _)| name.to_owned());
        let (_, table) = text.split_once("## Metrics").unwrap();
        let listed: BTreeSet<String> =
            table.lines().filter_map(first).map(|name| format!("waxseal_{name}")).collect();
        assert_eq!(listed, exported());
    }
}
