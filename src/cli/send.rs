//! `send`: a test message through the front door, as a platform sends one.

use std::io::{IsTerminal, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::ask::wait;
use super::output::{Context, Failure, Outcome};
use crate::config::{Config, ListenerTls, Role};

/// What `send` is told.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "The password is asked for, or read from standard input or a file; it is never an argument.\n\
Without --username the message is sent without AUTH: the tenant's networks must list this machine.\n\nExamples:\n  \
waxseal send --from rewards@acme.com --to me@example.com --username acme\n  \
waxseal send --from rewards@acme.com --to me@example.com --username acme --password-file acme.password"
)]
pub struct Args {
    /// The sender, in the envelope and in the From header.
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// A recipient (may be repeated).
    #[arg(long, value_name = "ADDRESS", required = true)]
    to: Vec<String>,
    /// The subject.
    #[arg(long, default_value = "A test message from waxseal send")]
    subject: String,
    /// The login.
    #[arg(long)]
    username: Option<String>,
    /// A file that holds the password.
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// The relay's address [default: the first submission listener of the configuration].
    #[arg(long, value_name = "IP:PORT")]
    server: Option<SocketAddr>,
}

/// Where and how the front door is.
struct Door {
    address: SocketAddr,
    tls: ListenerTls,
}

/// Runs it.
pub(super) fn run(context: &Context, args: Args) -> Outcome {
    let config = context.load_config()?;
    let door = door(&config, args.server)?;
    let message = write(&args)?;
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(door.address.ip().to_string())
        .port(door.address.port())
        .tls(tls(&config, door.tls)?);
    if let Some(username) = args.username {
        builder = builder.credentials(Credentials::new(username, password(args.password_file.as_deref())?));
    }
    let said = wait(async { builder.build().send(message).await })?;
    let reply = said.map_err(|error| refused(&error))?;
    let text = reply.message().collect::<Vec<_>>().join(" ");
    let id = text.rsplit_once("queued as ").map_or(text.as_str(), |(_, id)| id.trim());
    if context.json {
        return context.print_json(&serde_json::json!({"v": 1, "id": id, "reply": text}));
    }
    context.print(id)
}

fn refused(error: &lettre::transport::smtp::Error) -> Failure {
    if error.status().is_some() {
        Failure::Bad(error.to_string())
    } else {
        Failure::Unreachable(format!("the message could not be submitted: {error}"))
    }
}

fn write(args: &Args) -> Result<Message, Failure> {
    let usage = |what: &str, error: &dyn std::fmt::Display| Failure::Usage(format!("{what}: {error}"));
    let mut builder = Message::builder()
        .from(args.from.parse().map_err(|error| usage("--from", &error))?)
        .subject(args.subject.as_str());
    for to in &args.to {
        builder = builder.to(to.parse().map_err(|error| usage("--to", &error))?);
    }
    let body = "This is a test message, submitted with `waxseal send`.\r\n";
    builder.body(body.to_owned()).map_err(|error| usage("the message", &error))
}

fn door(config: &Config, server: Option<SocketAddr>) -> Result<Door, Failure> {
    let submission = || config.listeners.iter().filter(|listener| listener.role == Role::Submission);
    let listener = match server {
        Some(server) => submission().find(|listener| listener.address.port() == server.port()),
        None => submission().next(),
    };
    let none = || Failure::Config(format!("{}: no listener takes submissions", config.file.display()));
    let address = server.or_else(|| listener.map(|listener| reachable(listener.address))).ok_or_else(none)?;
    Ok(Door { address, tls: listener.map_or(ListenerTls::Starttls, |listener| listener.tls) })
}

/// Where an address that means "all of this machine" is reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => address.ip(),
    };
    SocketAddr::new(ip, address.port())
}

/// The relay's own certificate is trusted, because it may be the self-signed one that `init` made.
fn tls(config: &Config, how: ListenerTls) -> Result<Tls, Failure> {
    let parameters = || {
        let mut builder = TlsParameters::builder(config.hostname.to_string());
        if let Some(own) = &config.tls {
            let pem = std::fs::read(&own.certificate)
                .map_err(|error| Failure::Config(format!("{}: {error}", own.certificate.display())))?;
            let own = Certificate::from_pem(&pem).map_err(|error| Failure::Config(error.to_string()))?;
            builder = builder.add_root_certificate(own);
        }
        builder.build().map_err(|error| Failure::Bad(error.to_string()))
    };
    Ok(match how {
        ListenerTls::None => Tls::None,
        ListenerTls::Starttls => Tls::Required(parameters()?),
        ListenerTls::Implicit => Tls::Wrapper(parameters()?),
    })
}

fn password(file: Option<&Path>) -> Result<String, Failure> {
    let text = match file {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::Bad(format!("{}: {error}", file.display())))?,
        None if std::io::stdin().is_terminal() => rpassword::prompt_password("Password: ")?,
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
