//! Everybody else: words that many servers share (Postfix, Exim, filters in front), then IANA's registry of enhanced codes (RFC 3463
//! and its successors), then the three digits.

use super::{Reason, Row, Whose};

pub(super) const ROWS: &[Row] = &[
    // Lists, by the words that every text about one has.
    Row::says(&["spamhaus"], Reason::Blocklist)
        .advise(Whose::Operator, "look the sending address up at https://check.spamhaus.org, mend the cause and ask for delisting there"),
    Row::says(&["spamcop"], Reason::Blocklist)
        .advise(Whose::Operator, "look the sending address up at https://www.spamcop.net/bl.shtml; it leaves the list by itself when reports stop"),
    Row::says(&["barracuda"], Reason::Blocklist)
        .advise(Whose::Operator, "ask for delisting of the sending address at https://www.barracudacentral.org/rbl/removal-request"),
    Row::says(&["blocklist"], Reason::Blocklist),
    Row::says(&["block list"], Reason::Blocklist),
    Row::says(&["blacklist"], Reason::Blocklist),
    Row::says(&["black list"], Reason::Blocklist),
    Row::says(&["denylist"], Reason::Blocklist),
    Row::says(&["dnsbl"], Reason::Blocklist),
    Row::says(&["blocked using"], Reason::Blocklist),
    // Comes again, and is taken.
    Row::says(&["greylist"], Reason::Greylisted),
    Row::says(&["graylist"], Reason::Greylisted),
    Row::says(&["grey-list"], Reason::Greylisted),
    Row::says(&["gray-list"], Reason::Greylisted),
    // What greylisting servers say that do not name it (Exim's and rspamd's usual texts).
    Row::code(7, 1, Reason::Greylisted).with(&["try again"]),
    // Who the sender is.
    Row::says(&["dmarc", "no dmarc record"], Reason::DmarcMissing),
    Row::says(&["dmarc"], Reason::Dmarc),
    Row::says(&["dkim"], Reason::Dkim),
    Row::says(&["spf"], Reason::Spf),
    Row::says(&["sender policy framework"], Reason::Spf),
    Row::says(&["reverse dns"], Reason::Ptr),
    Row::says(&["ptr record"], Reason::Ptr),
    Row::says(&["reverse hostname"], Reason::Ptr),
    Row::says(&["client host rejected: cannot find your"], Reason::Ptr),
    Row::says(&["sender address rejected: domain not found"], Reason::SenderDomain),
    Row::says(&["sender verify failed"], Reason::SenderDomain),
    Row::says(&["reputation"], Reason::Reputation),
    // Recipients.
    Row::says(&["relay access denied"], Reason::RelayDenied),
    Row::says(&["relaying denied"], Reason::RelayDenied),
    Row::says(&["relay not permitted"], Reason::RelayDenied),
    Row::says(&["unable to relay"], Reason::RelayDenied),
    Row::says(&["over quota"], Reason::MailboxFull),
    Row::says(&["quota exceeded"], Reason::MailboxFull),
    Row::says(&["mailbox full"], Reason::MailboxFull),
    Row::says(&["mailbox is full"], Reason::MailboxFull),
    Row::says(&["user unknown"], Reason::NoSuchUser),
    Row::says(&["unknown user"], Reason::NoSuchUser),
    Row::says(&["no such user"], Reason::NoSuchUser),
    Row::says(&["does not exist"], Reason::NoSuchUser),
    Row::says(&["no mailbox here"], Reason::NoSuchUser),
    Row::says(&["invalid recipient"], Reason::NoSuchUser),
    Row::says(&["unrouteable address"], Reason::NoSuchUser),
    Row::says(&["undeliverable address"], Reason::NoSuchUser),
    Row::says(&["account", "disabled"], Reason::Disabled),
    Row::says(&["account is inactive"], Reason::Disabled),
    // How much.
    Row::says(&["too many"], Reason::Rate),
    Row::says(&["rate limit"], Reason::Rate),
    Row::says(&["too quickly"], Reason::Rate),
    Row::says(&["message size exceeds"], Reason::TooLarge),
    Row::says(&["too large"], Reason::TooLarge),
    Row::says(&["too big"], Reason::TooLarge),
    // What it says.
    Row::says(&["virus"], Reason::Content),
    Row::says(&["spam"], Reason::Content),
    Row::says(&["starttls"], Reason::Tls),
];

/// By the registry, and where that is silent by the three digits.
pub(super) fn by_code(code: u16, detail: Option<(u16, u16)>) -> Reason {
    // RFC 4954 section 6: these answer AUTH, or ask for it.
    if matches!(code, 530 | 534 | 535 | 538) {
        return Reason::Credentials;
    }
    let registered = detail.and_then(|(subject, detail)| by_registry(subject, detail));
    match registered {
        // A policy that may let it through later, without a word on which: what is known is that it passes.
        Some(Reason::Policy) if code < 500 => Reason::Busy,
        Some(reason) => reason,
        None => by_digits(code),
    }
}

fn by_registry(subject: u16, detail: u16) -> Option<Reason> {
    match subject {
        1 => by_address(detail),
        2 => by_mailbox(detail),
        3 => Some(if detail == 4 { Reason::TooLarge } else { Reason::Busy }),
        4 => Some(match detail {
            3 | 4 => Reason::Dns,
            5 => Reason::Busy,
            6 => Reason::Loop,
            _ => Reason::Network,
        }),
        5 => Some(if detail == 3 { Reason::Rate } else { Reason::Protocol }),
        6 => Some(if matches!(detail, 1..=7) { Reason::Unsupported } else { Reason::Malformed }),
        7 => by_policy(detail),
        _ => None,
    }
}

fn by_address(detail: u16) -> Option<Reason> {
    match detail {
        1 | 3 | 4 | 6 => Some(Reason::NoSuchUser),
        2 => Some(Reason::NoSuchDomain),
        7 | 8 => Some(Reason::SenderDomain),
        10 => Some(Reason::NoMail),
        _ => None,
    }
}

fn by_mailbox(detail: u16) -> Option<Reason> {
    match detail {
        1 => Some(Reason::Disabled),
        2 => Some(Reason::MailboxFull),
        3 => Some(Reason::TooLarge),
        _ => None,
    }
}

fn by_policy(detail: u16) -> Option<Reason> {
    Some(match detail {
        8 | 9 | 13 | 14 => Reason::Credentials,
        10 | 11 | 30 => Reason::Tls,
        20..=22 => Reason::Dkim,
        23 | 24 => Reason::Spf,
        25 => Reason::Ptr,
        26 => Reason::Unauthenticated,
        27 => Reason::SenderDomain,
        28 => Reason::Rate,
        _ => Reason::Policy,
    })
}

fn by_digits(code: u16) -> Reason {
    match code {
        // What these concern stands in no digit: a server that says nothing else has, for now, some trouble.
        400..=499 => Reason::Busy,
        500..=504 | 555 => Reason::Protocol,
        550 | 551 | 553 => Reason::NoSuchUser,
        552 => Reason::MailboxFull,
        554 => Reason::Policy,
        _ => Reason::Other,
    }
}
