//! The records to publish, merged with what DNS has now, as a zone file or as JSON.

use serde_json::json;

use super::ask;
use super::output::{Context, Failure, Outcome};
use crate::config::Config;
use crate::dns::Resolver;
use crate::mail::address::Domain;
use crate::seal::Keyring;
use crate::seal::merge::{self, Zone};
use crate::seal::published;
use crate::seal::records::{self, Kind, Record, Setting};
use crate::seal::stages::Stage;

/// Names told of that got no answer; the rest is counted.
const SILENT_SHOWN: usize = 3;

/// Where to look before records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nowhere.
    Nowhere,
    /// At everything but DKIM keys: those that were just made cannot be there, and a resolver that is asked too early says
    /// so for an hour.
    ButKeys,
    /// At everything.
    Everywhere,
}

/// What a domain's records depend on.
pub(super) fn setting<'a>(
    config: &'a Config,
    domain: &Domain,
    return_path: Option<&'a Domain>,
    upstream: bool,
) -> Setting<'a> {
    let delivery = &config.delivery;
    let seen =
        if delivery.public_addresses.is_empty() { &delivery.sources } else { &delivery.public_addresses };
    Setting {
        hostname: &config.hostname,
        // The relay's own keys stand in its own zone, where a CNAME would point at itself.
        dkim_zone: config.relay.dkim_zone.as_ref().filter(|_| *domain != config.relay.domain),
        bounce_host: config.relay.bounce_host.as_ref(),
        public_addresses: seen,
        return_path,
        upstream,
    }
}

/// The records by which receivers find one key: the domain's, and the relay's where the domain's is a CNAME.
pub(super) fn of_key(config: &Config, keyring: &Keyring, domain: &Domain, selector: &str) -> Vec<Record> {
    let all = records::for_domain(domain, keyring, &setting(config, domain, None, true));
    let name = records::dkim_name(selector, domain);
    let mut found: Vec<Record> = all.into_iter().filter(|record| record.name == name).collect();
    if let Some(zone) = &config.relay.dkim_zone {
        let targets: Vec<String> = found.iter().map(|record| record.value.clone()).collect();
        let ours = records::delegated([domain], keyring, zone).into_iter();
        found.extend(ours.filter(|record| targets.contains(&record.name)));
    }
    found
}

/// The names of a domain's retired keys: what stands there serves nothing any more. Where the name is a CNAME's, or the next
/// key's, it is wanted.
pub(super) fn retired(keyring: &Keyring, domain: &Domain) -> Vec<String> {
    let retired = keyring.keys(domain).iter().filter(|key| key.stage == Stage::Retired);
    retired.map(|key| records::dkim_name(&key.selector, domain)).collect()
}

/// Prints records, each with how it stands with it now, and which of the retired keys' are still there.
pub(super) fn print(
    context: &Context,
    config: &Config,
    (wanted, retired): (&[Record], &[String]),
    look: Look,
) -> Outcome {
    let mut questions = merge::questions(wanted);
    questions.extend(retired.iter().map(|name| (name.clone(), Kind::Txt)));
    let zone = zone(context, config, questions, look)?;
    let entries = merge::merge(wanted, &zone);
    let there = |name: &&String| {
        let stands = zone.get(&((*name).clone(), Kind::Txt)).is_some_and(|texts| !texts.is_empty());
        stands && !wanted.iter().any(|record| record.name == **name)
    };
    let gone: Vec<&String> = retired.iter().filter(there).collect();
    if context.json {
        return context.print_json(&json!({"v": 1, "records": entries, "remove": gone}));
    }
    let mut text = merge::zone_text(&entries);
    for name in gone {
        text.push_str(&format!("; the key is retired, its record can go: {name}\n"));
    }
    context.print(text.trim_end())
}

/// What DNS has. Silence is told of and is no failure: then the records are printed as they are without it.
fn zone(
    context: &Context,
    config: &Config,
    mut questions: Vec<(String, Kind)>,
    look: Look,
) -> Result<Zone, Failure> {
    if look == Look::Nowhere {
        return Ok(Zone::new());
    }
    let is_key = |name: &str| name.contains("._domainkey.");
    questions.retain(|(name, _)| look == Look::Everywhere || !is_key(name));
    let count = questions.len();
    let zone = ask::wait(async {
        match Resolver::new(&config.dns) {
            Ok(resolver) => Ok(published::look(&resolver, questions.clone()).await),
            Err(error) => Err(error.to_string()),
        }
    })?;
    let zone = zone.unwrap_or_else(|why| {
        context.note(why);
        Zone::new()
    });
    let mut silent: Vec<&str> =
        questions.iter().filter(|asked| !zone.contains_key(*asked)).map(|(name, _)| name.as_str()).collect();
    silent.dedup();
    if !silent.is_empty() {
        let shown = silent.iter().take(SILENT_SHOWN).copied().collect::<Vec<_>>().join(", ");
        let what = if zone.is_empty() && count > 0 {
            "DNS could not be asked"
        } else {
            "DNS did not answer in time"
        };
        let more = silent.len().saturating_sub(SILENT_SHOWN);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        context.note(format_args!(
            "{what} ({shown}{rest}): compare with the records that are there before you publish these"
        ));
    }
    Ok(zone)
}
