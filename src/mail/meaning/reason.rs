//! The closed list of causes: why mail is not delivered, whose job it is, and what to do. docs/replies.md shows it to people,
//! and a test compares the two.

use serde::{Deserialize, Serialize};

/// Whose job it is to mend a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Who sends: the tenant, its DNS, its templates, its list of addresses, its account at an upstream.
    Tenant,
    /// Who runs this relay.
    Operator,
    /// The recipient, or whoever runs the recipient's server.
    Recipient,
    /// Nobody's: it passes, and the relay tries again by itself.
    Nobody,
}

impl Whose {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Operator => "operator",
            Self::Recipient => "recipient",
            Self::Nobody => "nobody",
        }
    }
}

/// Declares the causes: name as written, whose job, and what to do.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $name:literal $whose:ident $advice:literal;)*) => {
        /// Why mail was not delivered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every cause, in the order of docs/replies.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it is written in the log, in `--json` and as a label.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Whose job it usually is.
            #[must_use]
            pub fn whose(self) -> Whose {
                match self {
                    $(Self::$variant => Whose::$whose,)*
                }
            }

            /// What is usually to be done: a sentence that begins with a verb, without a full stop.
            #[must_use]
            pub fn advice(self) -> &'static str {
                match self {
                    $(Self::$variant => $advice,)*
                }
            }
        }
    };
}

reasons! {
    /// Neither SPF nor DKIM passes.
    Unauthenticated "unauthenticated" Tenant
        "publish the SPF and DKIM records that `waxseal domain check` prints for the From domain";
    /// SPF does not pass.
    Spf "spf" Tenant
        "publish the SPF record that `waxseal domain check` prints: it must name the address that the mail leaves from";
    /// DKIM does not pass.
    Dkim "dkim" Tenant
        "publish the DKIM record that `waxseal domain check` prints; if it is there, `waxseal domain probe` shows what breaks the signature";
    /// The From domain's own DMARC policy refuses the mail.
    Dmarc "dmarc" Tenant
        "let SPF or DKIM pass for the From domain, whose DMARC policy refuses all else: `waxseal domain check` prints what it lacks";
    /// There is no DMARC record.
    DmarcMissing "dmarc_missing" Tenant
        "publish a DMARC record for the From domain: `waxseal domain check` prints it";
    /// What passes is not aligned with the From domain.
    Alignment "alignment" Tenant
        "sign with the From domain's own key, or give it a return path below itself: `waxseal domain check` prints which";
    /// The sender's domain does not exist, or takes no mail itself.
    SenderDomain "sender_domain" Tenant
        "give the sender's domain MX or address records, or send from a domain that can receive mail";
    /// The upstream does not let this account send as this address.
    SenderRefused "sender_refused" Tenant
        "verify the From address or its domain in the account at the upstream, or send as one that is verified there";
    /// The sending address has no PTR record that leads back to it.
    Ptr "ptr" Operator
        "give the address that mail leaves from a PTR record whose name leads back to it: `waxseal doctor` shows both";
    /// The receiver wants TLS.
    Tls "tls" Operator
        "let mail to this server leave over TLS: `waxseal trace` shows whether it did";
    /// TLS that we insist on does not come about.
    TlsFailure "tls_failure" Operator
        "see what is wrong with the server's certificate or TLS; towards an upstream check host, port, tls and ca_file in the tenant's route";
    /// Too much at once.
    Rate "rate" Nobody
        "wait: the relay tries again by itself; if it goes on for hours, send less at once";
    /// The account at the upstream may send no more for now.
    Quota "quota" Tenant
        "raise the sending quota of the account at the upstream, or send less until it is renewed";
    /// The sending address or domain is thought badly of.
    Reputation "reputation" Operator
        "have unwanted mail stop, send little until it recovers, and look at the provider's postmaster pages for address and domain";
    /// The sending address or domain is on a list.
    Blocklist "blocklist" Operator
        "look the sending address up at the list that the reply names, mend the cause, then ask for delisting there";
    /// What the message says, links to or carries is refused.
    Content "content" Tenant
        "change what the message says, links to or attaches: the receiver takes it for spam or a danger";
    /// The message is not well formed.
    Malformed "malformed" Tenant
        "change the template so that every header field is well formed and stands once: `waxseal queue show` prints them";
    /// There is no such mailbox.
    NoSuchUser "no_such_user" Tenant
        "correct or remove the address: there is no such mailbox";
    /// There is no such domain.
    NoSuchDomain "no_such_domain" Tenant
        "correct or remove the address: its domain does not exist, or has no server for mail";
    /// The domain says that it takes no mail.
    NoMail "no_mail" Tenant
        "remove the address: its domain declares that it takes no mail";
    /// The mailbox is there and closed.
    Disabled "disabled" Recipient
        "remove the address, or reach its owner by another way: the mailbox is closed";
    /// The mailbox has no room.
    MailboxFull "mailbox_full" Recipient
        "ask the recipient, by another way, to make room in the mailbox";
    /// The message is too large.
    TooLarge "too_large" Tenant
        "make the message smaller: send a link instead of what is attached";
    /// The server cannot take what the message needs.
    Unsupported "unsupported" Tenant
        "send it without what the receiving server cannot take: 8-bit text, or addresses in other letters than ASCII";
    /// The receiver's own rules refuse it.
    Policy "policy" Recipient
        "ask the recipient's postmaster why the mail is refused, and quote the reply";
    /// The server does not take mail for this recipient's domain.
    RelayDenied "relay_denied" Recipient
        "have the recipient's postmaster look at the domain's MX: the server it names does not take its mail";
    /// The upstream refuses the tenant's user name and password.
    Credentials "credentials" Tenant
        "set the password of the tenant's upstream anew: `waxseal tenant upstream-password`";
    /// Unknown senders are asked to come again.
    Greylisted "greylisted" Nobody
        "wait: the server takes it when it comes again, and the relay tries again by itself";
    /// The server has trouble that passes.
    Busy "busy" Nobody
        "wait: the server has trouble that passes, and the relay tries again by itself";
    /// There was no connection, or it broke.
    Network "network" Operator
        "see whether the server can be reached from here: `waxseal doctor` tries port 25; the relay tries again by itself";
    /// DNS says nothing certain, or nothing usable.
    Dns "dns" Recipient
        "have the domain's DNS mended if this lasts; the relay asks again by itself";
    /// Mail goes round in circles.
    Loop "loop" Operator
        "see where the recipient's domain leads: its MX, or a forwarding behind it, brings the mail back";
    /// An address that mail is never sent to.
    Forbidden "forbidden" Operator
        "if this inside address is meant, allow it with delivery.allow_destinations";
    /// The server does not speak SMTP as it should.
    Protocol "protocol" Operator
        "see with `waxseal trace` what the server answered: it does not speak SMTP as it should";
    /// The relay itself.
    Internal "internal" Operator
        "look at what the relay says of itself on standard error: this is its own fault";
    /// The recipient is on the tenant's suppression list.
    Suppressed "suppressed" Tenant
        "take the address off the list if it is good again: `waxseal suppress remove`";
    /// Its sender's time is over, or no server on the way promises to keep it.
    Late "late" Tenant
        "give the message more time (BY), or ask with mode N to be told and have it tried further: few servers offer DELIVERBY";
    /// A newer mail took its place.
    Superseded "superseded" Nobody
        "nothing: a newer mail of this kind took its place";
    /// A class's mail goes to one recipient, and this is another.
    Extra "extra" Tenant
        "take the further recipient off the platform's template: mail of this kind goes to one";
    /// An administrator of the relay.
    Command "command" Operator
        "ask who runs the relay: an administrator ended it";
    /// None of these.
    Other "other" Recipient
        "read the reply; if it tells nothing, ask the recipient's postmaster and quote it";
}
