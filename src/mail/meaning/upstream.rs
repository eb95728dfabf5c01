//! Servers that mail is submitted to: Amazon SES (docs.aws.amazon.com, "SMTP response codes"), SendGrid, Mailgun and Postmark.

use super::{Excess, Reason, Row, Whose};

pub(super) const ROWS: &[Row] = &[
    Row::says(&["email address is not verified"], Reason::SenderRefused),
    Row::says(&["identities failed the check"], Reason::SenderRefused),
    Row::says(&["not authorized to perform", "ses:sendrawemail"], Reason::SenderRefused)
        .advise(Whose::Tenant, "allow ses:SendRawEmail to the IAM user behind these SMTP credentials"),
    Row::says(&["verified sender identity"], Reason::SenderRefused),
    Row::says(&["sender signature"], Reason::SenderRefused),
    Row::says(&["sandbox subdomains are for test"], Reason::SenderRefused),
    Row::says(&["not allowed to send"], Reason::SenderRefused),
    // SES counts by the second (docs.aws.amazon.com, "Managing your sending limits"): half as many connections are the cure, not a rest.
    Row::says(&["maximum sending rate exceeded"], Reason::Rate).too_much(Excess::Haste),
    Row::says(&["daily message quota exceeded"], Reason::Quota),
    Row::says(&["maximum credits exceeded"], Reason::Quota),
    Row::says(&["sending paused"], Reason::Reputation)
        .advise(Whose::Tenant, "look at the account's reputation page at the upstream: sending was paused there"),
    Row::says(&["unauthenticated senders not allowed"], Reason::Credentials),
    Row::says(&["authorization grant is invalid"], Reason::Credentials)
        .advise(Whose::Tenant, "make a new API key at the upstream and set it as password; the user name is the word `apikey`"),
    Row::says(&["suppression list"], Reason::NoSuchUser)
        .advise(Whose::Tenant, "take the address off the upstream's own suppression list if it is good: mail to it failed or was complained of there"),
    Row::says(&["marked as inactive"], Reason::NoSuchUser)
        .advise(Whose::Tenant, "reactivate the address at the upstream if it is good: mail to it failed or was complained of there"),
];
