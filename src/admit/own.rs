//! Own the From: who the author is, read in one way only, and whether the author is the tenant's.

use std::collections::HashSet;

use mail_parser::{HeaderName, MessageParser};

use super::refusal::Refusal;
use crate::mail::address::{Address, Domain};
use crate::mail::envelope::Envelope;
use crate::mail::header::{Field, Headers};
use crate::mail::mailbox;
use crate::tenant::{Directory, Tenant};

/// RFC 5322 section 3.6: at most once each. Receivers refuse more, or show one and check the other.
const ONCE: [&str; 10] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Content-Type",
    "Content-Transfer-Encoding",
];

/// Whose words a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Author {
    /// The (first) address of the From field.
    pub(super) address: Address,
    /// The From domain of the tenant that covers it.
    pub(super) owned: Domain,
    /// Where bounces of that domain's mail come back to.
    pub(super) return_path: Option<Domain>,
}

/// The one author of a message, who is the tenant's.
pub(super) fn the_from(message: &[u8], headers: &Headers<'_>, tenant: &Tenant) -> Result<Author, Refusal> {
    for name in ONCE {
        if headers.all(name).nth(1).is_some() {
            let text = format!("the message has more than one {name} header; send it with exactly one");
            return Err(Refusal::bad_form("header", text));
        }
    }
    let field = headers.first("From").ok_or_else(|| {
        Refusal::not_allowed("from", "the message has no From header; add one with an address of your domain")
    })?;
    let addresses = addresses(field)?;
    if second_reading(message.get(..headers.body).unwrap_or_default()).as_ref() != Some(&addresses) {
        return Err(unclear("mail programs would read it differently"));
    }
    let address = one_author(addresses, headers)?;
    let owned = tenant.owns(address.domain()).ok_or_else(|| not_owned(&address, tenant))?;
    Ok(Author { owned: owned.name.clone(), return_path: owned.return_path.clone(), address })
}

fn addresses(field: &Field<'_>) -> Result<Vec<Address>, Refusal> {
    let value = std::str::from_utf8(field.value()).map_err(|_| unclear("it is not UTF-8"))?;
    mailbox::mailboxes(&value.replace("\r\n", "")).map_err(|error| unclear(&error.to_string()))
}

/// What mail-parser, as one of many parsers out there, takes the authors to be (ID4 of the fault catalogue: espoofer's A15 to
/// A19); `None` if it sees no From, or more than one.
fn second_reading(section: &[u8]) -> Option<Vec<Address>> {
    let parser = MessageParser::new().header_address(HeaderName::From).default_header_ignore();
    let message = parser.parse_headers(section)?;
    let mut all = message.headers().iter().filter(|header| header.name == HeaderName::From);
    let (from, None) = (all.next()?, all.next()) else { return None };
    let list = from.value.as_address()?.as_list()?;
    list.iter().map(|author| author.address.as_deref()?.parse().ok()).collect()
}

/// RFC 5322 section 3.6.2: several authors need a Sender. Receivers evaluate one domain (RFC 9989), so all must share it.
fn one_author(addresses: Vec<Address>, headers: &Headers<'_>) -> Result<Address, Refusal> {
    let mut all = addresses.into_iter();
    let first = all.next().ok_or_else(|| unclear("there is no address in it"))?;
    let mut others = all.peekable();
    if others.peek().is_none() {
        return Ok(first);
    }
    if headers.first("Sender").is_none() || others.any(|other| other.domain() != first.domain()) {
        let text =
            "the From header names more than one address; receivers refuse that: send from one address";
        return Err(Refusal::not_allowed("from", text));
    }
    Ok(first)
}

fn unclear(why: &str) -> Refusal {
    let text = format!("the From header names no clear author: {why}. Write it as: Name <user@your-domain>");
    Refusal::not_allowed("from", text)
}

fn not_owned(address: &Address, tenant: &Tenant) -> Refusal {
    let (domain, name) = (address.domain(), &tenant.name);
    let text = format!(
        "{domain} in the From header is not a domain of tenant {name}; nothing was sent.\n\
         Send from a domain of yours, or ask the relay's administrator: waxseal domain add {domain} --tenant {name}"
    );
    Refusal::not_allowed("from", text)
}

/// Whether this reverse-path may be named: not in another tenant's domain. One that belongs to nobody here is rewritten once
/// the author is known.
pub(super) fn reverse_path(
    directory: &Directory,
    tenant: &Tenant,
    from: Option<&Address>,
) -> Result<(), Refusal> {
    let Some(from) = from.filter(|from| tenant.owns(from.domain()).is_none()) else { return Ok(()) };
    if directory.tenants().any(|other| other.owns(from.domain()).is_some()) {
        let text = format!(
            "{} in MAIL FROM is not a domain of yours; use a sender of your own domain",
            from.domain()
        );
        return Err(Refusal::not_allowed("sender", text));
    }
    Ok(())
}

/// The envelope that the queue gets: each recipient once, and a sender of the tenant's own, which is the author where the one
/// given is foreign: bounces and SPF then meet a domain that is ours to speak for. The null reverse-path stays.
pub(super) fn the_envelope(given: &Envelope, tenant: &Tenant, author: &Author) -> Envelope {
    let foreign = |from: &Address| tenant.owns(from.domain()).is_none();
    let from = given.from.as_ref().map(|from| if foreign(from) { &author.address } else { from });
    let mut seen = HashSet::with_capacity(given.rcpts.len());
    let rcpts = given.rcpts.iter().filter(|rcpt| seen.insert(rcpt.address.clone())).cloned().collect();
    Envelope { from: from.cloned(), rcpts, ret: given.ret, envid: given.envid.clone() }
}
