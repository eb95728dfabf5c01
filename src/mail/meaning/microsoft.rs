//! Microsoft: learn.microsoft.com "Email non-delivery reports and SMTP errors" for Microsoft 365, postmaster.live.com (Outlook.com)
//! for RP-, SC-, DY-, OU-, S3140 and S3150. Outlook.com uses 5.5.0 for a mailbox that is not there, Exchange Online 5.1.10 and
//! 5.4.1, which the registry has for a null MX and for no answer.

use super::{Reason, Row, Whose};

const PORTAL: &str = "ask for delisting of the sending address at https://sender.office.com";
const SNDS: &str = "mend what recipients complain of, then ask for mitigation at https://olcsupport.office.com; join SNDS and JMRP to see it coming";
const BASIC: &str = "switch the tenant's upstream to xoauth2, or have SMTP AUTH enabled for this mailbox: Microsoft refuses its password";
const GROUP: &str = "ask the recipient's organisation to let outside senders write to this address";

pub(super) const ROWS: &[Row] = &[
    Row::says(&["required authentication level"], Reason::Unauthenticated).advise(
        Whose::Tenant,
        "let SPF and DKIM both pass and publish a DMARC record: Microsoft wants all three of large senders; `waxseal domain check` prints what is missing",
    ),
    Row::says(&["does not pass dmarc verification"], Reason::Dmarc),
    Row::says(&["sender policy framework violation"], Reason::Spf),
    Row::says(&["must pass either spf or dkim"], Reason::Unauthenticated),
    Row::says(&["must have a reverse dns record"], Reason::Ptr),
    // Lists and reputation.
    Row::says(&["customer block list"], Reason::Policy)
        .advise(Whose::Recipient, "ask the recipient's organisation to take the sending address off its own block list"),
    Row::says(&["block list", "(s31"], Reason::Blocklist).advise(Whose::Operator, SNDS),
    Row::says(&["block list"], Reason::Blocklist).advise(Whose::Operator, PORTAL),
    Row::says(&["banned send"], Reason::Blocklist).advise(Whose::Operator, PORTAL),
    Row::says(&["temporarily rate limited due to ip reputation"], Reason::Reputation).advise(Whose::Operator, SNDS).limits(),
    Row::says(&["rp-00"], Reason::Reputation).advise(Whose::Operator, SNDS).limits(),
    Row::says(&["exceeded the maximum number of connections"], Reason::Rate).limits(),
    Row::says(&["too many connections"], Reason::Rate).limits(),
    Row::says(&["(sc-00"], Reason::Reputation).advise(Whose::Operator, SNDS),
    Row::says(&["(dy-00"], Reason::Reputation).advise(
        Whose::Operator,
        "send from an address that is not a home connection's: Microsoft takes this one for dynamic; its PTR should not look generated",
    ),
    Row::says(&["(ou-00"], Reason::Reputation).advise(Whose::Operator, SNDS),
    Row::says(&["spam abuse detected"], Reason::Reputation),
    Row::says(&["bad outbound sender"], Reason::Reputation)
        .advise(Whose::Tenant, "secure the Microsoft 365 account and have its block lifted in Microsoft Defender"),
    Row::says(&["traffic not accepted from this ip"], Reason::Reputation).advise(Whose::Operator, PORTAL),
    // Recipients.
    Row::says(&["recipientnotfound"], Reason::NoSuchUser),
    Row::says(&["exrecipnotfound"], Reason::NoSuchUser),
    Row::says(&["recipient not found"], Reason::NoSuchUser),
    Row::says(&["recipient address rejected: access denied"], Reason::NoSuchUser),
    Row::says(&["action not taken: mailbox unavailable"], Reason::NoSuchUser),
    Row::says(&["mailbox full"], Reason::MailboxFull),
    Row::says(&["exceeded their limit for receiving"], Reason::Rate)
        .advise(Whose::Nobody, "wait: this recipient gets more mail than Microsoft lets in an hour, and the relay tries again by itself"),
    Row::says(&["allowed-senders list"], Reason::Policy).advise(Whose::Recipient, GROUP),
    Row::says(&["sender not authenticated for"], Reason::Policy).advise(Whose::Recipient, GROUP),
    Row::says(&["sender was not authenticated"], Reason::Policy).advise(Whose::Recipient, GROUP),
    Row::says(&["rejected by recipient"], Reason::Policy),
    // Form.
    Row::says(&["rfc 5322 section 3.6.2"], Reason::Malformed),
    Row::says(&["too large"], Reason::TooLarge),
    // The account, at smtp.office365.com.
    Row::says(&["basic authentication is"], Reason::Credentials).advise(Whose::Tenant, BASIC),
    Row::says(&["smtpclientauthentication is disabled"], Reason::Credentials).advise(Whose::Tenant, BASIC),
    Row::says(&["permissions to send as this sender"], Reason::SenderRefused).advise(
        Whose::Tenant,
        "send as the mailbox that logs in, or grant it Send As for the From address in Microsoft 365",
    ),
    Row::says(&["sender thread limit exceeded"], Reason::Rate),
    Row::says(&["submission", "quota"], Reason::Quota),
    Row::says(&["server busy"], Reason::Rate),
    Row::codes(7, 500, 999, Reason::Rate).with(&["please try again later"]),
    // Codes alone.
    Row::code(1, 10, Reason::NoSuchUser),
    Row::code(4, 1, Reason::NoSuchUser),
    Row::code(6, 11, Reason::Malformed),
    Row::code(7, 23, Reason::Spf),
    Row::code(7, 25, Reason::Ptr),
    Row::code(7, 26, Reason::Unauthenticated),
    Row::code(7, 30, Reason::Credentials).advise(Whose::Tenant, BASIC),
    Row::code(7, 60, Reason::SenderRefused),
    Row::codes(7, 124, 136, Reason::Policy).advise(Whose::Recipient, GROUP),
    Row::code(7, 139, Reason::Credentials).advise(Whose::Tenant, BASIC),
    Row::code(7, 509, Reason::Dmarc),
    Row::code(7, 511, Reason::Blocklist).advise(Whose::Operator, PORTAL),
    Row::code(7, 512, Reason::Malformed),
    Row::code(7, 513, Reason::Policy),
    Row::code(7, 515, Reason::Unauthenticated),
    Row::codes(7, 606, 649, Reason::Blocklist).advise(Whose::Operator, PORTAL),
    Row::codes(7, 650, 699, Reason::Reputation).advise(Whose::Operator, SNDS),
    Row::codes(7, 500, 699, Reason::Reputation),
];
