//! Apple: support.apple.com/102322 (iCloud Mail, information for postmasters), with the marks in brackets that its texts bear.

use super::{Reason, Row, Whose};

const BEST_PRACTICES: &str = "see that SPF, DKIM and DMARC pass (`waxseal domain check`), then write to icloudadmin@apple.com with the sending address and the reply";

const RECEIVING: &str =
    "wait: this recipient gets more mail than Apple lets in at once, and the relay tries again by itself";

pub(super) const ROWS: &[Row] = &[
    Row::says(&["dmarc policy"], Reason::Dmarc),
    Row::says(&["failing both spf and dkim"], Reason::Unauthenticated),
    Row::says(&["spamhaus"], Reason::Blocklist)
        .advise(Whose::Operator, "look address and domain up at https://check.spamhaus.org, mend the cause and ask for delisting there"),
    Row::says(&["proofpoint.com/dnsbl-lookup"], Reason::Blocklist)
        .advise(Whose::Operator, "look the sending address up at https://ipcheck.proofpoint.com and ask for delisting there"),
    Row::says(&["messages to", "excessive volume"], Reason::Rate).advise(Whose::Nobody, RECEIVING),
    Row::says(&["excessive volume"], Reason::Rate).limits(),
    Row::says(&["too many connections"], Reason::Rate).limits(),
    Row::says(&["too much mail from"], Reason::Rate).limits(),
    Row::says(&["[cs01]"], Reason::Reputation).advise(Whose::Operator, BEST_PRACTICES),
    Row::says(&["[hm"], Reason::Reputation).advise(Whose::Operator, BEST_PRACTICES),
    Row::says(&["due to local policy"], Reason::Reputation).advise(Whose::Operator, BEST_PRACTICES),
    Row::says(&["not accepting connections"], Reason::Reputation).advise(Whose::Operator, BEST_PRACTICES),
    Row::says(&["inactive email address"], Reason::NoSuchUser),
    Row::says(&["unknown or illegal alias"], Reason::NoSuchUser),
    Row::says(&["recipient no longer on server"], Reason::NoSuchUser),
    Row::says(&["over quota"], Reason::MailboxFull),
];
