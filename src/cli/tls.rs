//! `tls`: what is known of how mail must be protected on its way.

use super::ask::Daemon;
use super::output::{Context, Outcome};
use crate::control::wire::StsPolicy;

/// The verbs of `tls`.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// List the MTA-STS policies in force: whose, what they ask for, and until when.
    #[command(
        after_help = "Policies of domains that mail went to lately; docs/tls.md.\n\nExamples:\n  waxseal tls list\n  waxseal tls list --matching outlook --json"
    )]
    List {
        /// Only domains, and policies with exchangers, that have this in their names.
        #[arg(long, value_name = "TEXT")]
        matching: Option<String>,
    },
}

/// Runs it.
pub(super) fn run(context: &Context, verb: Verb) -> Outcome {
    let Verb::List { matching } = verb;
    let matching = matching.unwrap_or_default().to_ascii_lowercase();
    let mut known: Vec<StsPolicy> = Daemon::of(&context.load_config()?).get("/v1/tls/policies")?;
    let named = |policy: &StsPolicy| {
        policy.domain.as_str().contains(&matching) || policy.mx.iter().any(|mx| mx.contains(&matching))
    };
    known.retain(named);
    if context.json {
        return known.iter().try_for_each(|policy| context.print_json(policy));
    }
    let row = |policy: StsPolicy| {
        let StsPolicy { domain, mode, mx, until, .. } = policy;
        vec![domain.to_string(), mode, mx.join(" "), until]
    };
    context.print_table(&["domain", "mode", "exchangers", "until"], known.into_iter().map(row).collect())
}
