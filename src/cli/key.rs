//! `key`: DKIM keys.

use serde_json::json;

use super::domain::{keyring, make_key, parse};
use super::output::{Context, Outcome};

/// The verbs of `key`.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Make a domain's first key; one that is there is kept.
    Generate {
        /// The domain.
        domain: String,
    },
    /// List the selectors of a domain.
    List {
        /// The domain.
        domain: String,
    },
}

/// Runs it.
pub(super) fn run(context: &Context, verb: Verb) -> Outcome {
    let config = context.load_config()?;
    let (Verb::Generate { domain } | Verb::List { domain }) = &verb;
    let domain = parse(domain)?;
    if matches!(verb, Verb::Generate { .. }) {
        make_key(&config, &domain)?;
        context.tell_daemon(&config)?;
    }
    keyring(&config)?.keys(&domain).iter().try_for_each(|key| {
        let path = config.keys.join(domain.as_str()).join(format!("{}.pem", key.selector));
        if context.json {
            return context
                .print_json(&json!({"v": 1, "domain": domain, "selector": key.selector, "file": path}));
        }
        context.print(format_args!("{}  {}", key.selector, path.display()))
    })
}
