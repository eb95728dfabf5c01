//! The platform's side: a client as customers' platforms have them (lettre), with the three methods of their form.

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use std::net::SocketAddr;

/// The form's "method".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Clear text.
    None,
    /// STARTTLS.
    Tls,
    /// TLS from the first octet.
    Ssl,
}

/// What a customer types into the form.
#[derive(Clone, Debug)]
pub struct Form {
    /// Where the relay listens.
    pub server: SocketAddr,
    /// How.
    pub method: Method,
    /// User name and password; `None` where the relay knows the platform by its network.
    pub login: Option<(String, String)>,
    /// The certificate to trust, PEM.
    pub trust: String,
}

/// Why the platform could not send.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The message could not be written.
    #[error("cannot write the message: {0}")]
    Message(#[from] lettre::error::Error),
    /// An address is none.
    #[error("not an address: {0}")]
    Address(#[from] lettre::address::AddressError),
    /// The server said no, or could not be reached.
    #[error("{0}")]
    Smtp(#[from] lettre::transport::smtp::Error),
}

/// Sends one notification; answers the text of the reply to the final dot.
///
/// # Errors
/// All of `Trouble`.
pub async fn send(form: &Form, from: &str, to: &str, subject: &str) -> Result<String, Trouble> {
    let message = notification(from.parse()?, to.parse()?, subject)?;
    let reply = transport(form)?.send(message).await?;
    Ok(reply.message().collect::<Vec<_>>().join(" "))
}

/// A message such as a platform's template makes: text and HTML.
fn notification(from: Address, to: Address, subject: &str) -> Result<Message, lettre::error::Error> {
    let text = "Your reward is on its way.\r\n";
    let html = "<p>Your <b>reward</b> is on its way.</p>\r\n";
    Message::builder()
        .from(Mailbox::new(Some("Acme Rewards".to_owned()), from))
        .to(Mailbox::new(None, to))
        .subject(subject)
        .multipart(
            MultiPart::alternative()
                .singlepart(SinglePart::builder().header(ContentType::TEXT_PLAIN).body(text.to_owned()))
                .singlepart(SinglePart::builder().header(ContentType::TEXT_HTML).body(html.to_owned())),
        )
}

fn transport(form: &Form) -> Result<AsyncSmtpTransport<Tokio1Executor>, lettre::transport::smtp::Error> {
    let tls = || {
        let trusted = Certificate::from_pem(form.trust.as_bytes())?;
        TlsParameters::builder("localhost".to_owned()).add_root_certificate(trusted).build()
    };
    let tls = match form.method {
        Method::None => Tls::None,
        Method::Tls => Tls::Required(tls()?),
        Method::Ssl => Tls::Wrapper(tls()?),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(form.server.ip().to_string())
        .port(form.server.port())
        .tls(tls);
    if let Some((user, password)) = &form.login {
        builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
    }
    Ok(builder.build())
}
