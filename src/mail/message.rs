//! A message as it was accepted: everything decided at its 250, immutable from then on.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::address::{Address, Domain};
use super::class::Classed;
use super::deliver_by::{DeliverBy, Mode};
use super::envelope::Envelope;
use super::id::Id;
use super::priority::Priority;
use super::time::Time;

/// What was decided about a message when it was accepted. The body travels beside it (`Message`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its queue id.
    pub id: Id,
    /// Whose mail it is: a tenant's name, or `relay` for what the relay writes itself.
    pub tenant: Arc<str>,
    /// The login it came by; `None` for method None (by network) and for the relay's own.
    pub login: Option<Arc<str>>,
    /// The address in the From header.
    pub header_from: Option<Address>,
    /// The kind of notification it is, as configured, and by what that was recognised; `None`: nothing told.
    pub class: Option<Classed>,
    /// How it takes its turn.
    pub lane: Lane,
    /// How urgent it is to the servers behind us, as its sender asked or its class has it (RFC 6710).
    pub priority: Priority,
    /// Whether a failure of it is told of.
    pub kind: Kind,
    /// Who sends, who receives.
    pub envelope: Envelope,
    /// The reverse-path that next hops see instead of `envelope.from`, so that bounces come back to us; `None`: as it is.
    pub return_path: Option<Address>,
    /// The octets bear no signature of ours yet: before they leave they are sealed for this domain. Held mail is like that.
    pub unsealed: Option<Domain>,
    /// When it was accepted.
    pub received: Time,
    /// When the queue gives up.
    pub expires: Time,
    /// What the next hop must be able to carry.
    pub needs: Needs,
    /// Octets of the sealed message.
    pub size: u64,
    /// What an administrator asked for mail of its class, which whoever sent it told.
    pub asked: Asked,
    /// By when its sender wants it delivered (RFC 2852).
    pub deliver_by: Option<DeliverBy>,
}

/// What may end recipients of a message before their time, because an administrator asked for that and the message's class is
/// certain. Empty for all other mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// `Facts::expires` is the end of its useful life, not of the queue's: what is older is not attempted any more.
    pub life: bool,
    /// Once it is delivered, older mail of the same tenant, From, class and recipient that asks for this too has no more use.
    pub supersede: bool,
    /// Recipients that stand in no To or Cc and do not get it; never all of them.
    pub extra: Vec<u16>,
}

/// A message: its facts, and the octets that leave, exactly as they were sealed (CRLF line ends, not dot-stuffed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What was decided.
    pub facts: Facts,
    /// Headers and body, ready for the wire.
    pub body: Bytes,
}

/// Order of service: lanes share by weight, and a lower one is never starved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Somebody waits at a screen for it.
    Urgent,
    /// Soon.
    Important,
    /// The default.
    #[default]
    Normal,
    /// Whenever there is room.
    Bulk,
}

impl Lane {
    /// As files and commands name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Important => "important",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }
}

/// Whose words it is, and so who is told of its failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A tenant's mail: its failure is told.
    Mail,
    /// A notification of ours: its failure is logged, and nobody is told (RFC 5321 section 6.1).
    Notification,
}

/// What the next hop must offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// The body has octets over 127 that could not be re-encoded (RFC 6152).
    pub eight_bit: bool,
    /// An address or header is not ASCII (RFC 6531).
    pub smtputf8: bool,
    /// What must protect it on its way there.
    pub tls: TlsNeed,
}

/// What must protect a message on its way to the next hop, the weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsNeed {
    /// Even what the recipient's domain asks for may be left out (`TLS-Required: No`, RFC 8689 section 3).
    Waived,
    /// What the route and the recipient's domain ask for, else TLS where it is offered.
    #[default]
    Usual,
    /// TLS: never clear text.
    Required,
    /// TLS with a server that proves its name.
    Verified,
    /// The same, and a server that promises to pass it on likewise (REQUIRETLS, RFC 8689 section 2).
    RequireTls,
}

impl TlsNeed {
    /// What comes of what the sender asks for and what the class needs: a waiver counts where the class needs nothing.
    #[must_use]
    pub fn joined(self, class: Self) -> Self {
        if self == Self::Waived && class == Self::Usual { Self::Waived } else { self.max(class) }
    }

    /// As the log names it; the usual is not worth a word.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Waived => Some("waived"),
            Self::Usual => None,
            Self::Required => Some("required"),
            Self::Verified => Some("verified"),
            Self::RequireTls => Some("requiretls"),
        }
    }
}

impl Facts {
    /// Whether its sender wants it back rather than late, whichever life of it ends first.
    #[must_use]
    pub fn wants_back(&self) -> bool {
        self.deliver_by.is_some_and(|by| by.mode == Mode::Return)
    }

    /// Whether it is only for servers that offer something (RFC 5321 section 2.2).
    #[must_use]
    pub fn needs_ehlo(&self) -> bool {
        let Needs { eight_bit, smtputf8, tls } = self.needs;
        eight_bit || smtputf8 || tls == TlsNeed::RequireTls || self.wants_back()
    }

    /// Whether `expires` is the end of the time after which its sender wants it back.
    #[must_use]
    pub fn is_returned(&self) -> bool {
        self.wants_back() && self.deliver_by.is_some_and(|by| by.at == self.expires)
    }

    /// When its sender wants to be told of a delay, if it said so.
    #[must_use]
    pub fn notify_at(&self) -> Option<Time> {
        self.deliver_by.filter(|by| by.mode == Mode::Notify).map(|by| by.at)
    }

    /// The domain of the From header, for logs and lookups.
    #[must_use]
    pub fn from_domain(&self) -> Option<&Domain> {
        self.header_from.as_ref().map(Address::domain)
    }
}
