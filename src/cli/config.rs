//! `config check`: is what stands in the files sound?

use serde_json::json;

use super::key::keyring;
use super::output::{Context, Failure, Outcome};
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
    for path in config.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]) {
        std::fs::File::open(path)
            .map_err(|error| Failure::Config(format!("{}: cannot be read: {error}", path.display())))?;
    }
    let tenants = directory.tenants().count();
    if context.json {
        return context.print_json(&json!({"v": 1, "config": config.file, "tenants": tenants, "ok": true}));
    }
    context.print(format_args!("{} is sound; {tenants} tenants", config.file.display()))
}
