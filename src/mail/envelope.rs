//! The envelope: who sends, who receives, and what was asked of the relays (RFC 5321, 3461, 6152, 6531).

use serde::{Deserialize, Serialize};

use super::address::Address;

/// What MAIL and RCPT said. `from` is `None` for the null reverse-path `<>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The reverse-path.
    pub from: Option<Address>,
    /// The recipients; a recipient is named elsewhere by its index here.
    pub rcpts: Vec<Recipient>,
    /// RFC 3461 RET: how much of the message a failure notice returns.
    pub ret: Option<Ret>,
    /// RFC 3461 ENVID, decoded from xtext; printable ASCII, at most 100 characters.
    pub envid: Option<String>,
}

/// One RCPT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The forward-path.
    pub address: Address,
    /// RFC 3461 ORCPT as received, still xtext (`rfc822;a+2Bb@example.com`).
    pub orcpt: Option<String>,
    /// RFC 3461 NOTIFY.
    pub notify: Notify,
}

/// RFC 3461 section 4.3: how much of the message to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ret {
    /// The whole message.
    Full,
    /// The header section only.
    Hdrs,
}

/// RFC 3461 section 4.1: which notifications the sender wants of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// On delivery or relaying to a server without DSN.
    pub success: bool,
    /// On failure.
    pub failure: bool,
    /// On delay.
    pub delay: bool,
    /// Whether the client said anything; if not, it is not passed on either.
    pub stated: bool,
}

impl Notify {
    /// Whether the sender wants to hear anything at all of the recipient: it did not say NEVER.
    #[must_use]
    pub fn ever(self) -> bool {
        self.success || self.failure || self.delay
    }

    /// The same with DELAY, said aloud; NEVER stays (RFC 2852 section 4.1.4.2).
    #[must_use]
    pub fn with_delay(self) -> Self {
        if self.ever() { Self { delay: true, stated: true, ..self } } else { self }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self { success: false, failure: true, delay: true, stated: false }
    }
}
