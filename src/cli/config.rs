//! `config check`: is what stands in the files sound?

use serde_json::json;

use super::key::keyring;
use super::output::{Context, Failure, Outcome};
use crate::dns::Resolver;
use crate::listen::certs::Certificates;
use crate::tenant;

/// The verbs of `config`.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Check the configuration, the tenants and the keys; exits 78 with file, line and column of the first mistake.
    Check,
}

/// Runs it.
pub(super) fn run(context: &Context, verb: Verb) -> Outcome {
    let Verb::Check = verb;
    let config = context.load_config()?;
    let directory = tenant::load(&config).map_err(|error| Failure::Config(error.to_string()))?;
    let keyring = keyring(&config)?;
    keyring.warnings().iter().for_each(|warning| context.note(warning));
    keyring.without_seal(&config.relay.domain).iter().for_each(|warning| context.note(warning));
    if let Some(tls) = &config.tls {
        Certificates::load(tls).map_err(|error| Failure::Config(error.to_string()))?;
    }
    Resolver::new(&config.dns).map_err(|error| Failure::Config(error.to_string()))?;
    for name in config.delivery.source.iter().flat_map(|source| &source.tenants) {
        if directory.tenant(name).is_none() {
            context.note(format_args!(
                "[[delivery.source]] is for tenant {name}, and there is none of that name"
            ));
        }
    }
    let tenants = directory.tenants().count();
    if context.json {
        return context.print_json(&json!({"v": 1, "config": config.file, "tenants": tenants, "ok": true}));
    }
    context.print(format_args!("{} is sound; {tenants} tenants", config.file.display()))
}
