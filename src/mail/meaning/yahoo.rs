//! Yahoo and AOL: senders.yahooinc.com/smtp-error-codes, with the marks in brackets that its texts bear.

use super::{Reason, Row, Whose};

const SLOWER: &str = "wait and send less at once; if it goes on, look for complaints: Yahoo's feedback loop at https://senders.yahooinc.com shows them";

pub(super) const ROWS: &[Row] = &[
    Row::says(&["authenticate with either spf or dkim"], Reason::Unauthenticated),
    Row::says(&["sender is unauthenticated"], Reason::Unauthenticated),
    Row::says(&["dmarc policy"], Reason::Dmarc),
    Row::says(&["[bl2"], Reason::Blocklist)
        .advise(Whose::Operator, "look the sending address up at https://check.spamhaus.org, mend the cause and ask for delisting there"),
    Row::says(&["spamhaus"], Reason::Blocklist)
        .advise(Whose::Operator, "look the sending address up at https://check.spamhaus.org, mend the cause and ask for delisting there"),
    Row::says(&["will be permanently deferred"], Reason::Reputation)
        .advise(Whose::Operator, "stop sending from this address to Yahoo and write to its postmaster at https://senders.yahooinc.com/contact"),
    Row::says(&["unexpected volume or user complaints"], Reason::Rate).advise(Whose::Operator, SLOWER).limits(),
    Row::says(&["[tss"], Reason::Rate).advise(Whose::Operator, SLOWER).limits(),
    Row::says(&["[ts0"], Reason::Rate).advise(Whose::Operator, SLOWER).limits(),
    Row::says(&["receiving mail too quickly"], Reason::Rate),
    Row::says(&["max message per connection"], Reason::Rate),
    Row::says(&["unresolvable rfc.5321"], Reason::SenderDomain),
    Row::says(&["[ph01]"], Reason::Content),
    Row::says(&["not rfc compliant"], Reason::Malformed),
    Row::says(&["doesn't have a", "account"], Reason::NoSuchUser),
    Row::says(&["not a valid recipient"], Reason::NoSuchUser),
    Row::says(&["mailbox not found"], Reason::NoSuchUser),
    Row::says(&["no longer valid"], Reason::Disabled),
    Row::says(&["mailbox is disabled"], Reason::Disabled),
    Row::says(&["over quota"], Reason::MailboxFull),
    Row::says(&["not accepted for policy reasons"], Reason::Policy).advise(
        Whose::Tenant,
        "see that SPF, DKIM and DMARC pass (`waxseal domain check`) and what the message links to: Yahoo does not say which rule it broke",
    ),
    Row::code(7, 9, Reason::Unauthenticated),
];
