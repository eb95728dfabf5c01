//! `classify`: which class a message would get, what each source says, and why one of them decided.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::disposal;
use super::output::{Context, Failure, Outcome};
use crate::admit::classify::{ControlKey, Controls, Finding, Question, explain, take_controls};
use crate::admit::priority::{self, Given, Told};
use crate::config::{Classes, Config};
use crate::mail::address::Address;
use crate::mail::class::{By, Classed};
use crate::mail::envelope::{Envelope, Notify, Recipient};
use crate::mail::header::Headers;
use crate::mail::mailbox::mailboxes;
use crate::mail::priority::Priority;
use crate::maillog::view::clean;
use crate::tenant::{self, Directory, Tenant};

/// What `classify` is told.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "The tenant is --tenant, or the login's, or the one that owns the From domain; without any the server's classes are asked.\n\nExamples:\n  waxseal classify reset.eml\n  waxseal classify reset.eml --tenant acme --login acme-security\n  waxseal classify reset.eml --rcpt \"$(waxseal tenant control-address acme password_reset)\"\n  waxseal classify reset.eml --mt-priority 4\n  waxseal classify --json - < reset.eml | jq -r .class"
)]
pub struct Args {
    /// The message; `-` reads standard input.
    #[arg(value_name = "FILE.eml")]
    file: PathBuf,
    /// Whose mail it would be.
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// The user name it would come by.
    #[arg(long, value_name = "L")]
    login: Option<String>,
    /// A recipient it would have; a control address among them counts.
    #[arg(long, value_name = "ADDRESS")]
    rcpt: Vec<Address>,
    /// The MT-PRIORITY that its client would ask for, -9 to 9; without it the message's MT-Priority field counts.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    mt_priority: Option<Priority>,
}

/// Runs it.
pub(super) fn run(context: &Context, args: Args) -> Outcome {
    let config = context.load_config()?;
    let message = read(&args.file, config.limits.message_size)?;
    let headers = Headers::parse(&message, config.limits.header_size)
        .map_err(|bad| Failure::Bad(format!("{}: {bad}; the relay would refuse it", args.file.display())))?;
    let author = author(&headers);
    let directory = tenant::load(&config).map_err(|error| Failure::Config(error.to_string()))?;
    let tenant = whose(&directory, &args, author.as_ref())?;
    let classes = tenant.as_ref().map_or(&config.classes, |tenant| &tenant.classes);
    let controls = controls(&config, tenant.as_deref(), &args.rcpt)?;
    let question = Question {
        classes,
        login: args.login.as_deref().and_then(|login| tenant.as_ref()?.login_class(login)),
        controls: &controls,
        author: author.as_ref(),
        headers: &headers,
        body: message.get(headers.body..).unwrap_or_default(),
    };
    let given = |class: Option<&Classed>| {
        let most = tenant.as_ref().and_then(|tenant| tenant.limits.priority);
        priority::give(classes, class, (args.mt_priority, &headers), most)
    };
    let answer = Answer::new(tenant.as_deref(), (classes, &config), (&explain(&question), &controls), given);
    if context.json { context.print_json(&answer.json()) } else { answer.print(context) }
}

/// The octets with CRLF at the ends of lines, as a client would send them.
fn read(file: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| Failure::Bad(format!("{}: {error}", file.display()));
    let mut octets = Vec::new();
    let mut reader: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(unreadable)?)
    };
    reader.by_ref().take(most.saturating_add(1)).read_to_end(&mut octets).map_err(unreadable)?;
    if octets.len() as u64 > most {
        return Err(Failure::Bad(format!("{}: larger than limits.message_size", file.display())));
    }
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(line),
        }
    }
    Ok(out)
}

fn author(headers: &Headers<'_>) -> Option<Address> {
    let value = String::from_utf8_lossy(headers.first("From")?.value()).replace("\r\n", "");
    mailboxes(&value).ok()?.into_iter().next()
}

fn whose(
    directory: &Directory,
    args: &Args,
    author: Option<&Address>,
) -> Result<Option<Arc<Tenant>>, Failure> {
    let by_login = match &args.login {
        Some(login) => Some(
            directory
                .login(login)
                .map(|(tenant, _)| Arc::clone(tenant))
                .ok_or_else(|| Failure::NotFound(format!("no tenant has a login `{login}`")))?,
        ),
        None => None,
    };
    let Some(name) = &args.tenant else {
        let owns =
            |tenant: &&Arc<Tenant>| author.is_some_and(|author| tenant.owns(author.domain()).is_some());
        return Ok(by_login.or_else(|| directory.tenants().find(owns).cloned()));
    };
    let tenant =
        directory.tenant(name).ok_or_else(|| Failure::NotFound(format!("there is no tenant `{name}`")))?;
    if by_login.is_some_and(|other| other.name != tenant.name) {
        return Err(Failure::Usage(format!("this login is not one of tenant `{name}`")));
    }
    Ok(Some(Arc::clone(tenant)))
}

fn controls(config: &Config, tenant: Option<&Tenant>, rcpts: &[Address]) -> Result<Controls, Failure> {
    if rcpts.is_empty() {
        return Ok(Controls::default());
    }
    let tenant = tenant
        .ok_or_else(|| Failure::Usage("--rcpt needs to know whose mail it is: add --tenant".to_owned()))?;
    let key = ControlKey::open(&config.state)?;
    let rcpt =
        |address: &Address| Recipient { address: address.clone(), orcpt: None, notify: Notify::default() };
    let mut envelope =
        Envelope { from: None, rcpts: rcpts.iter().map(rcpt).collect(), ret: None, envid: None };
    Ok(take_controls(&mut envelope, &key, (&config.relay.domain, &tenant.name, &tenant.classes)))
}

/// What is told.
struct Answer<'a> {
    tenant: Option<&'a Tenant>,
    sources: Vec<Value>,
    class: Option<Classed>,
    given: Given,
    waits: Vec<Duration>,
    hidden: Vec<&'static str>,
    disposal: Vec<(&'static str, String)>,
}

impl<'a> Answer<'a> {
    fn new(
        tenant: Option<&'a Tenant>,
        (classes, config): (&Classes, &Config),
        (findings, controls): (&[Finding], &Controls),
        given: impl Fn(Option<&Classed>) -> Given,
    ) -> Self {
        let first = findings.iter().find(|finding| finding.class.is_some());
        let class = first.and_then(|one| Some(Classed { name: one.class.clone()?, by: one.by }));
        let hides = classes.hides(class.as_ref());
        let hidden = [("subject", hides.subject), ("link", hides.link)];
        Self {
            tenant,
            sources: findings.iter().map(|finding| source(finding, controls)).collect(),
            given: given(class.as_ref()),
            waits: classes.waits(class.as_ref(), &config.delivery.retry),
            hidden: hidden.into_iter().filter(|(_, hides)| *hides).map(|(what, _)| what).collect(),
            disposal: disposal::rules(tenant, classes, class.as_ref()),
            class,
        }
    }

    fn why(&self) -> String {
        match &self.class {
            None => "no source knows a class".to_owned(),
            Some(Classed { by, .. }) if by.is_certain() => {
                format!("{by} is the most trusted source that knows one, and it is certain")
            }
            Some(Classed { by: By::Default, .. }) => "no other source knows one".to_owned(),
            Some(Classed { by: By::From, .. }) => "from is the most trusted source that knows one".to_owned(),
            Some(Classed { by, .. }) => {
                format!(
                    "{by} is the most trusted source that knows one; it is a guess, which may speed the mail up and never slows it down"
                )
            }
        }
    }

    fn json(&self) -> Value {
        json!({
            "v": 1,
            "tenant": self.tenant.map(|tenant| &tenant.name),
            "class": self.class.as_ref().map(|class| &class.name),
            "by": self.class.as_ref().map(|class| class.by),
            "certain": self.class.as_ref().is_some_and(|class| class.by.is_certain()),
            "why": self.why(),
            "lane": self.given.lane,
            "priority": self.given.priority,
            "priority_by": self.given.told.name(),
            "retry": self.waits.iter().map(|wait| spelled(*wait)).collect::<Vec<_>>(),
            "hide": self.hidden,
            "disposal": self.disposal.iter().map(|(name, what)| (*name, what.as_str())).collect::<BTreeMap<_, _>>(),
            "sources": self.sources,
        })
    }

    fn print(&self, context: &Context) -> Outcome {
        let text =
            |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
        let mut rows = Vec::new();
        for source in &self.sources {
            let found = source.get("found").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let shown: Vec<String> = found.iter().map(|one| clean(&text(one, "what"))).collect();
            let shown = if shown.is_empty() { "-".to_owned() } else { shown.join("; ") };
            let note = source
                .get("note")
                .and_then(Value::as_str)
                .map(|note| format!(" ({note})"))
                .unwrap_or_default();
            rows.push(vec![text(source, "by"), text(source, "class"), shown + &note]);
        }
        context.print_table(&["SOURCE", "CLASS", "FOUND"], rows)?;
        context.print("")?;
        let class = self.class.as_ref().map_or("none", |class| &*class.name);
        let waits: Vec<String> = self.waits.iter().map(|wait| spelled(*wait)).collect();
        let hidden = if self.hidden.is_empty() { "nothing".to_owned() } else { self.hidden.join(", ") };
        let rows = [
            ("class", format!("{class}: {}", self.why())),
            ("tenant", self.tenant.map_or("none: the server's classes", |tenant| &*tenant.name).to_owned()),
            ("lane", self.given.lane.name().to_owned()),
            ("priority", format!("{}: {}", self.given.priority, told(self.given.told))),
            ("retry", format!("{}, the last one repeats", waits.join(" "))),
            ("hides", hidden),
        ];
        for (name, value) in rows.iter().chain(&self.disposal) {
            context.print(format_args!("{name:7} {value}"))?;
        }
        Ok(())
    }
}

fn told(by: Told) -> &'static str {
    match by {
        Told::Parameter => "MT-PRIORITY asks for it",
        Told::Header => "the MT-Priority field asks for it",
        Told::Class => "nobody asks for one, so the class has the word",
    }
}

fn source(finding: &Finding, controls: &Controls) -> Value {
    let void = controls.void.iter().filter(|_| finding.by == By::Control);
    let void = void.map(|(_, why)| json!({"what": format!("a control address that proves nothing: {why}")}));
    let found = finding.found.iter().map(|found| json!({"what": found.what, "class": found.class}));
    let known = finding.found.iter().any(|found| found.class.is_some());
    let note = match (finding.class.is_some(), known, finding.found.is_empty()) {
        (false, true, _) => Some("they contradict one another, so none counts"),
        (false, false, false) => Some("no such class"),
        _ => None,
    };
    json!({
        "by": finding.by, "class": finding.class, "note": note,
        "found": found.chain(void).collect::<Vec<_>>(),
    })
}

/// A duration in the largest unit that divides it.
pub(super) fn spelled(wait: Duration) -> String {
    let seconds = wait.as_secs();
    match seconds {
        0 => format!("{}ms", wait.as_millis()),
        _ if seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}
