//! What the end of an attempt says about the site: whether it takes more, has too much, or is not there. Pure; the table
//! below is the whole policy.

use super::outcome::{Permanence, Scope, Trouble};
use super::pace::Sign;
use crate::mail::meaning::{self, Excess};
use crate::mail::reply::{Enhanced, PeerReply};

/// Of an attempt that ended in this trouble with this host.
#[must_use]
pub fn of(host: Option<&str>, trouble: &Trouble) -> Sign {
    if let Some(excess) = excess(host, &trouble.reply) {
        return of_excess(excess);
    }
    let (code, enhanced) = (trouble.reply.code, trouble.reply.enhanced);
    // RFC 3463: X.7.x is about security and policy. Who is refused for TLS or a password finds the site as it was.
    let policy = enhanced.is_some_and(|code| code.1 == 7);
    match trouble.scope {
        Scope::Host if (400..500).contains(&code) => Sign::Busy,
        // What is wrong on this side: a tenant without an address of the host's family. Others' sources may have one.
        Scope::Host if trouble.is_unasked() => Sign::Unasked,
        Scope::Host | Scope::Session if code == 0 && policy => Sign::Spoke,
        Scope::Host => Sign::Dead,
        Scope::Session if code == 0 || (400..500).contains(&code) => Sign::Busy,
        Scope::Destination if trouble.permanence == Permanence::Transient => Sign::Dead,
        Scope::Session | Scope::Recipient | Scope::Message | Scope::Destination => Sign::Spoke,
    }
}

/// What it says about the site that there is too much of something.
#[must_use]
pub fn of_excess(excess: Excess) -> Sign {
    match excess {
        Excess::Address => Sign::Limited,
        Excess::Haste => Sign::Busy,
        // The site is well: only that sender's mail rests (`quota.rs`).
        Excess::Sender => Sign::Spoke,
    }
}

/// Of what a host's reply says that we send too much: by the words that its provider has for it, or by X.7.28, mail flood
/// detected (IANA's registry), whoever says it.
#[must_use]
pub fn excess(host: Option<&str>, reply: &PeerReply) -> Option<Excess> {
    let flood = (400..500).contains(&reply.code) && reply.enhanced == Some(Enhanced(4, 7, 28));
    meaning::excess(host, reply).or(flood.then_some(Excess::Address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::reply::Reader;

    fn said(scope: Scope, code: u16, enhanced: Enhanced) -> Trouble {
        Trouble::replied(scope, PeerReply { code, enhanced: Some(enhanced), text: Vec::new() })
    }

    #[test]
    fn the_table() {
        let ours = |scope, enhanced| Trouble::transient(scope, enhanced, "ours");
        let rows = [
            (ours(Scope::Host, Enhanced(4, 4, 1)), Sign::Dead, "connection refused, no answer"),
            (
                ours(Scope::Host, Enhanced(4, 3, 5)),
                Sign::Unasked,
                "this tenant's sources are of another family: the host was not asked",
            ),
            (ours(Scope::Host, Enhanced(4, 4, 2)), Sign::Dead, "silence where the greeting should be"),
            (
                ours(Scope::Host, Enhanced(4, 7, 5)),
                Sign::Spoke,
                "a certificate is one domain's matter, not the site's",
            ),
            (
                said(Scope::Host, 421, Enhanced(4, 3, 2)),
                Sign::Busy,
                "a greeting of 421: too many connections",
            ),
            (
                said(Scope::Host, 554, Enhanced(5, 7, 1)),
                Sign::Dead,
                "a greeting of 554: it does not serve us",
            ),
            (said(Scope::Session, 421, Enhanced(4, 7, 0)), Sign::Busy, "421 in the middle (RFC 5321 3.8)"),
            (ours(Scope::Session, Enhanced(4, 4, 2)), Sign::Busy, "the connection was lost in the middle"),
            (said(Scope::Session, 454, Enhanced(4, 7, 0)), Sign::Busy, "AUTH cannot be asked now"),
            (
                said(Scope::Session, 535, Enhanced(5, 7, 8)),
                Sign::Spoke,
                "the password is wrong, the server is well",
            ),
            (
                said(Scope::Session, 421, Enhanced(4, 7, 28)),
                Sign::Limited,
                "Gmail: too much from this address",
            ),
            (said(Scope::Host, 421, Enhanced(4, 7, 28)), Sign::Limited, "the same as a greeting"),
            (
                said(Scope::Message, 550, Enhanced(5, 7, 28)),
                Sign::Spoke,
                "final for the message; no rest mends it",
            ),
            (
                ours(Scope::Destination, Enhanced(4, 4, 3)),
                Sign::Dead,
                "its exchangers' addresses cannot be had",
            ),
        ];
        for (trouble, sign, why) in rows {
            assert_eq!(of(None, &trouble), sign, "{why}");
        }
    }

    const GMAIL: &str = "gmail-smtp-in.l.google.com";
    const OUTLOOK: &str = "outlook-com.olc.protection.outlook.com";
    const YAHOO: &str = "mta7.am0.yahoodns.net";
    const ICLOUD: &str = "mx01.mail.icloud.com";
    const ELSEWHERE: &str = "mx.example.net";
    const SES: &str = "email-smtp.eu-west-1.amazonaws.com";

    const TSS04: &str = "4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1";

    /// Host, code, text, of what it says that we send too much, and why.
    type Words = (&'static str, u16, &'static str, Option<Excess>, &'static str);

    const ADDRESS: Option<Excess> = Some(Excess::Address);
    const SENDER: Option<Excess> = Some(Excess::Sender);
    const HASTE: Option<Excess> = Some(Excess::Haste);

    const WORDS: &[Words] = &[
        (YAHOO, 421, TSS04, ADDRESS, "Yahoo, of the address"),
        (YAHOO, 421, "4.7.0 [TSS05] words of next year", ADDRESS, "its mark alone"),
        (YAHOO, 421, "4.7.0 [TS02] Temporarily deferred", ADDRESS, "its older mark"),
        (
            YAHOO,
            553,
            "5.7.2 [TSS09] All messages will be permanently deferred",
            None,
            "final: no rest mends it",
        ),
        (YAHOO, 451, "4.7.1 [TS03] All messages will be permanently deferred", None, "a block, not a rate"),
        (YAHOO, 421, "Max message per connection reached", None, "the next connection may go on at once"),
        (YAHOO, 450, "4.2.1 The user is receiving mail too quickly", None, "one recipient's limit"),
        (
            OUTLOOK,
            421,
            "RP-001 (BAY004) some messages weren't sent. (RP-001)",
            ADDRESS,
            "the rate of the address",
        ),
        (
            OUTLOOK,
            421,
            "RP-003 The IP has exceeded the connection limit allowed",
            ADDRESS,
            "without brackets",
        ),
        (
            OUTLOOK,
            451,
            "4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)",
            ADDRESS,
            "at RCPT, where 451 is no sign of anything",
        ),
        (
            OUTLOOK,
            451,
            "4.7.652 The mail server has exceeded the maximum number of connections. (S3115)",
            ADDRESS,
            "too many connections",
        ),
        (OUTLOOK, 421, "4.3.2 too many connections", ADDRESS, "the same in other words"),
        (OUTLOOK, 550, "5.7.1 messages weren't sent, our block list (S3150)", None, "a block"),
        (OUTLOOK, 452, "4.5.3 Too many recipients", None, "of one message"),
        (
            OUTLOOK,
            450,
            "4.2.1 user has exceeded their limit for receiving messages",
            None,
            "one recipient's limit",
        ),
        (GMAIL, 421, "4.7.28 words of next year", ADDRESS, "Gmail, by its code"),
        (
            GMAIL,
            421,
            "4.7.0 Our system has detected an unusual rate of unsolicited mail originating from your IP address",
            ADDRESS,
            "Gmail, by its words: X.7.0 is five causes",
        ),
        (
            GMAIL,
            421,
            "4.7.28 Gmail has detected an unusual rate of mail originating from your IP Netblock [192.0.2.0 36]",
            ADDRESS,
            "the address's neighbours",
        ),
        (
            GMAIL,
            421,
            "4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your DKIM domain [acme.com 36]",
            SENDER,
            "one sender's signature, from whatever address",
        ),
        (
            GMAIL,
            421,
            "4.7.28 an unusual rate of unsolicited mail originating from your SPF domain [ 15]",
            SENDER,
            "the same",
        ),
        (
            GMAIL,
            421,
            "4.7.28 an unusual rate of mail containing one of your URL domains",
            SENDER,
            "what it links to",
        ),
        (
            GMAIL,
            421,
            "4.7.28 exceeded its quota for sending messages with the same Message-ID",
            SENDER,
            "one platform's mistake",
        ),
        (
            SES,
            454,
            "Throttling failure: Maximum sending rate exceeded.",
            HASTE,
            "so many a second, and no more",
        ),
        (
            SES,
            454,
            "Throttling failure: Daily message quota exceeded.",
            None,
            "no pace mends it: its schedule does",
        ),
        (ELSEWHERE, 454, "Throttling failure: Maximum sending rate exceeded.", None, "not from SES"),
        (GMAIL, 421, "4.7.0 Try again later, closing connection.", None, "it says no more than that"),
        (GMAIL, 450, "4.2.1 The user is receiving mail at a rate that", None, "one recipient's limit"),
        (
            GMAIL,
            421,
            "4.7.26 This mail has been rate limited because it is unauthenticated",
            None,
            "one sender's DNS must not hold up the others' mail",
        ),
        (ICLOUD, 421, "4.7.1 Messages from 192.0.2.1 deferred due to excessive volume", ADDRESS, "Apple"),
        (ICLOUD, 421, "4.7.0 me.com Error: too many connections from 192.0.2.1", ADDRESS, "Apple"),
        (
            ICLOUD,
            421,
            "4.7.1 Messages to bob@icloud.com deferred due to excessive volume",
            None,
            "one recipient's limit",
        ),
        (ELSEWHERE, 421, "4.7.28 flood", ADDRESS, "the registry's code, whoever says it"),
        (ELSEWHERE, 421, TSS04, None, "a relay that passes on what it heard is not itself the one"),
        (ELSEWHERE, 421, "4.7.0 too many connections", None, "half as many do; ten minutes are Microsoft's"),
    ];

    #[test]
    fn providers_words_for_too_much() {
        for (host, code, text, expected, why) in WORDS.iter().copied() {
            let mut reader = Reader::default();
            reader.buffer().extend_from_slice(format!("{code} {text}\r\n").as_bytes());
            let reply = reader.take().unwrap().unwrap();
            assert_eq!(excess(Some(host), &reply), expected, "{why}: {text}");
            for scope in [Scope::Host, Scope::Session, Scope::Message, Scope::Recipient] {
                let sign = of(Some(host), &Trouble::replied(scope, reply.clone()));
                match expected {
                    Some(excess) => assert_eq!(sign, of_excess(excess), "whatever it answers: {why}"),
                    None => assert_ne!(sign, Sign::Limited, "whatever it answers: {why}"),
                }
            }
        }
    }
}
