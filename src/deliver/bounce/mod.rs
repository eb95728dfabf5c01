//! Notifications (RFC 3464): what the relay writes when mail failed, is late, or went on to a server that tells nobody.
//!
//! lettre builds the message: headers, dates, encodings, the parts. Three things it cannot do are done here and handed to it
//! ready: its multipart kinds have no `report`, so the Content-Type is ours; it re-encodes bodies, and what is returned must
//! stay octet for octet, so that part is pre-encoded; its addresses refuse some quoted local parts, so `To` is ours.
//!
//! A notification tells of one message, as RFC 3464 has it, or of several that failed within a short time. For the second
//! RFC 3464 has no form: the per-recipient fields then name the message each belongs to (`X-Waxseal-Queue-ID`). That costs a
//! reader who matches by envelope id nothing, because a message whose client gave one always gets a notification of its own.

mod audience;
mod returned;
mod sealed;
mod status;
mod words;

#[cfg(test)]
pub(crate) mod fixture;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};

pub use self::audience::{Audience, audience, wanted};
pub use self::returned::{Content, content, headers};
pub use self::sealed::{Letter, RELAY, Unsent, enqueue, sealed};
use crate::mail::address::{Address, Domain};
use crate::mail::id::Id;
use crate::mail::message::Facts;
use crate::mail::time::Time;
use crate::queue::store::Last;

/// Who writes.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The relay's From domain; its key seals what we write.
    pub domain: Domain,
    /// The host that reports.
    pub hostname: Domain,
}

/// What a notification says of its recipients (RFC 3464 section 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// They will never get it.
    Failed,
    /// They have not got it yet.
    Delayed,
    /// It went to a server that does not report on it.
    Relayed,
}

/// A recipient that a notification tells of.
#[derive(Clone, Debug)]
pub struct Told {
    /// The message.
    pub facts: Arc<Facts>,
    /// The recipient's index.
    pub rcpt: u16,
    /// What was heard.
    pub last: Last,
}

/// A notification to be written.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Its own id.
    pub id: Id,
    /// When it is written.
    pub at: Time,
    /// What it says.
    pub action: Action,
    /// Who is told.
    pub to: Vec<Address>,
    /// Of which recipients; those of one message stand together.
    pub told: Vec<Told>,
    /// What of the messages goes back.
    pub returned: Vec<Content>,
}

/// Why a notification could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    /// lettre refused a header or a part.
    #[error("the notification could not be built: {0}")]
    Build(String),
}

impl Identity {
    /// The address notifications come from: RFC 3464 section 2 asks for a person who looks after the mail system.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        format!("postmaster@{}", self.domain).parse().ok()
    }
}

/// Writes a notification, not yet sealed. Every octet is ASCII, unless one of the addresses told is not.
///
/// # Errors
/// lettre refuses the relay's own address.
pub fn compose(identity: &Identity, notice: &Notice) -> Result<Vec<u8>, Unwritten> {
    let from = lettre::Address::new("postmaster", identity.domain.as_str()).map_err(unbuilt)?;
    let envelope = lettre::address::Envelope::new(None, vec![from.clone()]).map_err(unbuilt)?;
    let message = lettre::Message::builder()
        .envelope(envelope)
        .from(Mailbox::new(Some("Mail Delivery System".to_owned()), from))
        .raw_header(address_list(&notice.to))
        .subject(words::subject(notice))
        .date(UNIX_EPOCH + Duration::from_millis(notice.at.0))
        .message_id(Some(format!("<{}@{}>", notice.id, identity.domain)))
        .raw_header(auto_submitted())
        .multipart(report(identity, notice)?)
        .map_err(unbuilt)?;
    Ok(message.formatted())
}

/// `To`, a line an address. The addresses were parsed and hold no control characters.
pub(super) fn address_list(addresses: &[Address]) -> HeaderValue {
    let listed: Vec<String> = addresses.iter().map(Address::to_string).collect();
    ready("To", listed.join(",\r\n "))
}

/// RFC 3834 section 5: a vacation program must not answer what we write.
pub(super) fn auto_submitted() -> HeaderValue {
    ready("Auto-Submitted", "auto-replied".to_owned())
}

fn ready(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::dangerous_new_pre_encoded(HeaderName::new_from_ascii_str(name), value.clone(), value)
}

/// RFC 6522: words for people, fields for programs, and what is returned.
fn report(identity: &Identity, notice: &Notice) -> Result<MultiPart, Unwritten> {
    // 80 random bits in the id: no returned message can hold this boundary.
    let kind = format!("multipart/report; report-type=delivery-status; boundary=\"=_{}\"", notice.id);
    let fields = Body::dangerous_pre_encoded(
        status::fields(identity, notice).into_bytes(),
        ContentTransferEncoding::SevenBit,
    );
    let report = MultiPart::builder()
        .header(ContentType::parse(&kind).map_err(unbuilt)?)
        .singlepart(SinglePart::plain(words::text(identity, notice)))
        .singlepart(SinglePart::builder().header(media("message/delivery-status")?).body(fields));
    match notice.returned.as_slice() {
        [] => Ok(report),
        [one] => Ok(report.singlepart(returned::part(one)?)),
        many => {
            let kind = format!("multipart/mixed; boundary=\"=_{}_r\"", notice.id);
            let mut inner = MultiPart::builder().header(media(&kind)?).build();
            for content in many {
                inner = inner.singlepart(returned::part(content)?);
            }
            Ok(report.multipart(inner))
        }
    }
}

fn media(kind: &str) -> Result<ContentType, Unwritten> {
    ContentType::parse(kind).map_err(unbuilt)
}

fn unbuilt(error: impl std::fmt::Display) -> Unwritten {
    Unwritten::Build(error.to_string())
}

#[cfg(test)]
mod tests;
