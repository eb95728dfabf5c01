//! Replies as they are given, with what each means. The sources: GOOGLE support.google.com/a/answer/3726730; NDR
//! learn.microsoft.com "NDR error codes in Exchange Online"; OLC postmaster.live.com; YAHOO senders.yahooinc.com/smtp-error-codes;
//! APPLE support.apple.com/102322; SEEN: in the logs of others (sisimai's notes, Postfix users' lists); RFC: the registry.

use proptest::prelude::*;

use super::*;

const GMAIL: &str = "gmail-smtp-in.l.google.com";
const M365: &str = "contoso-com.mail.protection.outlook.com";
const OUTLOOK: &str = "outlook-com.olc.protection.outlook.com";
const YAHOO: &str = "mta7.am0.yahoodns.net";
const ICLOUD: &str = "mx01.mail.icloud.com";
const ELSEWHERE: &str = "mx.example.net";

/// A reply as it stands on the wire, without CR.
fn heard(wire: &str) -> PeerReply {
    let code = wire[..3].parse().unwrap();
    let lines: Vec<&str> = wire.lines().map(|line| &line[4..]).collect();
    let last = lines.last().unwrap().split(' ').next().unwrap();
    let mut parts = last.split('.').map(str::parse::<u16>);
    let enhanced = match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(class)), Some(Ok(subject)), Some(Ok(detail))) if class == code / 100 => {
            Some(Enhanced(u8::try_from(class).unwrap(), subject, detail))
        }
        _ => None,
    };
    PeerReply { code, enhanced, text: lines.join("\n").into_bytes() }
}

/// Host, reply, cause, source.
type Cases = &'static [(&'static str, &'static str, Reason, &'static str)];

#[test]
fn replies_mean_what_their_senders_document() {
    for cases in [GOOGLE, MICROSOFT, YAHOO_AND_APPLE, UPSTREAMS, EVERYBODY_ELSE] {
        check(cases);
    }
}

fn check(rows: Cases) {
    for (host, wire, expected, source) in rows {
        let reply = heard(wire);
        let found = Meaning::of_reply(Some(host), &reply);
        assert_eq!(found.reason, *expected, "{source}: {wire}");
        let kept = Meaning::of_words(Some(host), reply.code, reply.enhanced, &reply.escaped());
        assert_eq!(kept, found, "the same when it is read back from the queue: {wire}");
    }
}

const GOOGLE: Cases = &[
    (
        GMAIL,
        "550-5.7.26 This mail has been blocked because the sender is unauthenticated.\n550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.\n550 5.7.26 https://support.google.com/mail/answer/81126#authentication a1-20020a05.7 - gsmtp",
        Reason::Unauthenticated,
        "GOOGLE, a phrase over two lines",
    ),
    (
        GMAIL,
        "421-4.7.26 This mail has been rate limited because it is unauthenticated. Gmail\n421-4.7.26 requires all senders to authenticate with either SPF or DKIM.\n421 4.7.26 Authentication results: DKIM = did not pass",
        Reason::Unauthenticated,
        "GOOGLE",
    ),
    (
        GMAIL,
        "550-5.7.26 Unauthenticated email from acme.com is not accepted due to domain's\n550-5.7.26 DMARC policy. Please contact the administrator of acme.com domain.\n550 5.7.26 gsmtp",
        Reason::Dmarc,
        "GOOGLE, the same code",
    ),
    (
        GMAIL,
        "550 5.7.26 The MAIL FROM domain [acme.com] has an SPF record with a hard fail policy (-all) but it fails to pass SPF checks with the ip: [192.0.2.1].",
        Reason::Spf,
        "GOOGLE, the same code",
    ),
    (
        GMAIL,
        "451-4.7.26 Unauthenticated email from acme.com is not accepted due to domain's\n451-4.7.26 DMARC policy, but temporary DNS failures prevent authentication.\n451 4.7.26 gsmtp",
        Reason::Dns,
        "GOOGLE, the same code: their lookup failed",
    ),
    (
        GMAIL,
        "451 4.7.24 The SPF record of the sending domain has one or more suspicious entries.",
        Reason::Spf,
        "GOOGLE",
    ),
    (
        GMAIL,
        "421-4.7.27 Your email has been rate limited because SPF authentication didn't pass\n421 4.7.27 for this message. Gmail requires all bulk email senders to authenticate their email with SPF.",
        Reason::Spf,
        "GOOGLE; IANA: the sender's domain has a null MX",
    ),
    (GMAIL, "550 5.7.27 words of next year", Reason::Spf, "GOOGLE, the code alone"),
    (
        GMAIL,
        "550 5.7.30 This mail has been blocked because DKIM does not pass. Gmail requires all large senders to authenticate with DKIM.",
        Reason::Dkim,
        "GOOGLE; IANA: REQUIRETLS needed",
    ),
    (
        GMAIL,
        "421-4.7.29 Your email has been rate limited because this message wasn't sent over a\n421 4.7.29 TLS connection. Gmail requires all bulk email senders to use TLS/SSL for SMTP connections.",
        Reason::Tls,
        "GOOGLE; IANA: ARC failure",
    ),
    (
        GMAIL,
        "421 5.7.32 Your email was blocked because the From: header (RFC5322) in this message isn't aligned with either the authenticated SPF or DKIM organizational domain.",
        Reason::Alignment,
        "GOOGLE: the classes differ",
    ),
    (
        GMAIL,
        "421 5.7.32 words of next year",
        Reason::Alignment,
        "the code is read although its class is not the reply's",
    ),
    (
        GMAIL,
        "421 4.7.40 Your email has been rate limited because the sending domain doesn't have a DMARC record, or the DMARC record doesn't specify a DMARC policy.",
        Reason::DmarcMissing,
        "GOOGLE, codes page",
    ),
    (GMAIL, "550 5.7.31 anything", Reason::DmarcMissing, "GOOGLE, its other page"),
    (
        GMAIL,
        "550-5.7.25 The IP address sending this message does not have a PTR record setup, or\n550 5.7.25 the corresponding forward DNS entry does not point to the sending IP.",
        Reason::Ptr,
        "GOOGLE",
    ),
    (
        GMAIL,
        "421 4.7.0 The IP address sending this message does not have a PTR record, or the corresponding forward DNS entry does not point to the sending IP.",
        Reason::Ptr,
        "GOOGLE: X.7.0 is five causes",
    ),
    (
        GMAIL,
        "550-5.7.1 This message does not meet IPv6 sending guidelines regarding PTR records\n550 5.7.1 and authentication.",
        Reason::Ptr,
        "GOOGLE",
    ),
    (
        GMAIL,
        "421-4.7.28 Gmail has detected an unusual rate of mail originating from your IP address\n421 4.7.28 192.0.2.25. To protect our users from spam, mail has been temporarily rate limited.",
        Reason::Rate,
        "GOOGLE: says spam, and is about the rate",
    ),
    (
        GMAIL,
        "421 4.7.0 This message is suspicious due to the very low reputation of the sending domain.",
        Reason::Reputation,
        "GOOGLE",
    ),
    (
        GMAIL,
        "550-5.7.1 Our system has detected that this message is likely unsolicited mail.\n550 5.7.1 gsmtp",
        Reason::Content,
        "GOOGLE",
    ),
    (
        GMAIL,
        "552 5.7.0 This message was blocked because its content presents a potential security issue.",
        Reason::Content,
        "GOOGLE",
    ),
    (
        GMAIL,
        "550 5.7.1 This message is not RFC 5322 compliant because it has duplicate headers.",
        Reason::Malformed,
        "GOOGLE",
    ),
    (
        GMAIL,
        "550-5.1.1 The email account that you tried to reach does not exist. Please try\n550 5.1.1 double-checking the recipient's email address for typos",
        Reason::NoSuchUser,
        "GOOGLE",
    ),
    (GMAIL, "550 5.2.1 The email account that you tried to reach is inactive.", Reason::Disabled, "GOOGLE"),
    (GMAIL, "452 4.2.2 The recipient's inbox is out of storage space.", Reason::MailboxFull, "GOOGLE"),
    (
        GMAIL,
        "450 4.2.1 The user you are trying to contact is receiving mail too quickly.",
        Reason::Rate,
        "GOOGLE; IANA: disabled",
    ),
    (GMAIL, "552 5.3.4 Your message exceeded Google's message size limits.", Reason::TooLarge, "GOOGLE"),
    (
        GMAIL,
        "451 4.3.0 Multiple destination domains per transaction is unsupported. Please try again.",
        Reason::Busy,
        "GOOGLE",
    ),
    (GMAIL, "554 5.4.6 Message exceeded 50 hops, this may indicate a mail loop.", Reason::Loop, "GOOGLE"),
    (
        "smtp.gmail.com",
        "535-5.7.8 Username and Password not accepted. For more information, go to\n535 5.7.8 https://support.google.com/mail/?p=BadCredentials",
        Reason::Credentials,
        "GOOGLE",
    ),
    ("smtp.gmail.com", "534 5.7.9 Application-specific password required.", Reason::Credentials, "GOOGLE"),
    (
        "smtp.gmail.com",
        "550 5.4.5 Daily user sending limit exceeded.",
        Reason::Quota,
        "GOOGLE; IANA: congestion",
    ),
    (
        "filter.example.net",
        "550 5.7.27 see https://support.google.com/mail/answer/81126",
        Reason::Spf,
        "by its words: a filter passes on what Google said",
    ),
];

const MICROSOFT: Cases = &[
    (
        OUTLOOK,
        "550 5.7.515 Access denied, sending domain ACME.COM does not meet the required authentication level. Spf= Fail , Dkim= Pass , DMARC= Pass",
        Reason::Unauthenticated,
        "NDR",
    ),
    (
        OUTLOOK,
        "550; 5.7.515 Access denied, sending domain ACME.COM does not meet the required authentication level.",
        Reason::Unauthenticated,
        "SEEN with a semicolon behind the code",
    ),
    (
        M365,
        "550 5.7.509 Access denied, sending domain acme.com does not pass DMARC verification and has a DMARC policy of reject.",
        Reason::Dmarc,
        "NDR",
    ),
    (
        M365,
        "550 5.7.23 The message was rejected because of Sender Policy Framework violation",
        Reason::Spf,
        "NDR",
    ),
    (
        M365,
        "450 4.7.26 Access denied, a message sent over IPv6 [2a01::1] must pass either SPF or DKIM validation, this message is not signed",
        Reason::Unauthenticated,
        "NDR",
    ),
    (
        M365,
        "550 5.7.25 Access denied, the sending IPv6 address [2a01::1] must have a reverse DNS record",
        Reason::Ptr,
        "NDR",
    ),
    (
        OUTLOOK,
        "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3150).",
        Reason::Blocklist,
        "OLC",
    ),
    (
        M365,
        "550 5.7.606 Access denied, banned sending IP [192.0.2.1]. To request removal from this list please visit https://sender.office.com/",
        Reason::Blocklist,
        "NDR",
    ),
    (M365, "550 5.7.511 Access denied, banned sender[192.0.2.1].", Reason::Blocklist, "NDR"),
    (
        M365,
        "550 5.7.513 Service unavailable, Client host [192.0.2.1] blocked by contoso.com using Customer Block list (AS16012607)",
        Reason::Policy,
        "NDR: the recipient's own list",
    ),
    (
        OUTLOOK,
        "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)",
        Reason::Reputation,
        "SEEN",
    ),
    (
        OUTLOOK,
        "421 RP-001 (BAY004) Unfortunately, some messages from 192.0.2.1 weren't sent. (RP-001)",
        Reason::Reputation,
        "OLC",
    ),
    (M365, "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)", Reason::Rate, "NDR"),
    (M365, "451 4.3.2 Temporary server error. Please try again later ATTR2", Reason::Busy, "SEEN"),
    (
        M365,
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient bob@contoso.com not found by SMTP address lookup",
        Reason::NoSuchUser,
        "NDR; IANA: null MX",
    ),
    (
        M365,
        "550 5.4.1 Recipient address rejected: Access denied. [AM7EUR03FT012.eop-EUR03.prod.protection.outlook.com]",
        Reason::NoSuchUser,
        "NDR; IANA: no answer from host",
    ),
    (
        OUTLOOK,
        "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).",
        Reason::NoSuchUser,
        "OLC; IANA: protocol",
    ),
    (M365, "552 5.2.2 mailbox full", Reason::MailboxFull, "NDR"),
    (
        M365,
        "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; sender not authenticated for group",
        Reason::Policy,
        "NDR",
    ),
    (M365, "550 5.6.11 Invalid characters", Reason::Malformed, "NDR; IANA has no such code"),
    (
        M365,
        "550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 compliant",
        Reason::Malformed,
        "NDR",
    ),
    (
        "smtp.office365.com",
        "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
        Reason::Credentials,
        "NDR",
    ),
    (
        "smtp.office365.com",
        "550 5.7.30 Basic authentication is not supported for Client Submission.",
        Reason::Credentials,
        "NDR: not Google's DKIM, not IANA's REQUIRETLS",
    ),
    (
        "smtp.office365.com",
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
        Reason::SenderRefused,
        "NDR",
    ),
    (
        "smtp.office365.com",
        "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
        Reason::Rate,
        "NDR",
    ),
];

const YAHOO_AND_APPLE: Cases = &[
    (
        YAHOO,
        "421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
        Reason::Rate,
        "YAHOO",
    ),
    (
        YAHOO,
        "553 5.7.2 [TSS09] All messages from 192.0.2.25 will be permanently deferred; Retrying will NOT succeed.",
        Reason::Reputation,
        "YAHOO",
    ),
    (
        YAHOO,
        "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.25, because the ip is in Spamhaus's list",
        Reason::Blocklist,
        "YAHOO",
    ),
    (
        YAHOO,
        "550 5.7.9 This mail has been blocked because the sender is unauthenticated. Yahoo requires all senders to authenticate with either SPF or DKIM.",
        Reason::Unauthenticated,
        "YAHOO; IANA: mechanism too weak",
    ),
    (
        YAHOO,
        "554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes",
        Reason::Policy,
        "YAHOO, the same code",
    ),
    (
        YAHOO,
        "554 Message not allowed - [PH01] Email not accepted for policy reasons.",
        Reason::Content,
        "YAHOO: a link known for phishing",
    ),
    (
        YAHOO,
        "451 Message temporarily deferred due to unresolvable RFC.5321 from domain.",
        Reason::SenderDomain,
        "YAHOO",
    ),
    (
        YAHOO,
        "554 delivery error: dd This user doesn't have a yahoo.com account (bob@yahoo.com) [0] - mta1",
        Reason::NoSuchUser,
        "SEEN; by its digits it would be policy",
    ),
    (
        YAHOO,
        "552 1 Requested mail action aborted, mailbox not found",
        Reason::NoSuchUser,
        "SEEN; by its digits it would be a full mailbox",
    ),
    (
        YAHOO,
        "554 30 Sorry, your message to bob@aol.jp cannot be delivered. This mailbox is disabled (554.30).",
        Reason::Disabled,
        "SEEN",
    ),
    (YAHOO, "554 5.0.0 Message headers are not RFC compliant", Reason::Malformed, "YAHOO"),
    (YAHOO, "421 Max message per connection reached, closing transmission channel", Reason::Rate, "YAHOO"),
    (
        ICLOUD,
        "554 5.7.1 Your message was rejected due to acme.com's DMARC policy. See https://support.apple.com/en-us/HT204137 for info",
        Reason::Dmarc,
        "APPLE",
    ),
    (
        ICLOUD,
        "554 5.7.1 [HME1] This message was blocked for failing both SPF and DKIM authentication checks.",
        Reason::Unauthenticated,
        "SEEN",
    ),
    (
        ICLOUD,
        "550 5.7.1 [CS01] Message rejected due to local policy. Please visit https://support.apple.com/en-us/HT204137",
        Reason::Reputation,
        "APPLE",
    ),
    (
        ICLOUD,
        "550 5.7.1 Mail from IP 192.0.2.1 was rejected due to listing in Spamhaus SBL.",
        Reason::Blocklist,
        "SEEN",
    ),
    (
        ICLOUD,
        "421 4.7.1 Messages to bob@icloud.com deferred due to excessive volume. Try again later",
        Reason::Rate,
        "APPLE",
    ),
    (ICLOUD, "550 5.1.6 recipient no longer on server: bob@icloud.com", Reason::NoSuchUser, "SEEN"),
    (ICLOUD, "552 5.2.2 <bob@icloud.com>: user is over quota", Reason::MailboxFull, "SEEN"),
];

const UPSTREAMS: Cases = &[
    (
        "email-smtp.eu-west-1.amazonaws.com",
        "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: acme.com",
        Reason::SenderRefused,
        "docs.aws.amazon.com",
    ),
    (
        "email-smtp.eu-west-1.amazonaws.com",
        "454 Throttling failure: Maximum sending rate exceeded.",
        Reason::Rate,
        "docs.aws.amazon.com",
    ),
    (
        "email-smtp.eu-west-1.amazonaws.com",
        "454 Throttling failure: Daily message quota exceeded.",
        Reason::Quota,
        "docs.aws.amazon.com",
    ),
    (
        "email-smtp.eu-west-1.amazonaws.com",
        "535 Authentication Credentials Invalid",
        Reason::Credentials,
        "docs.aws.amazon.com",
    ),
    (
        "smtp.sendgrid.net",
        "550 The from address does not match a verified Sender Identity.",
        Reason::SenderRefused,
        "docs.sendgrid.com",
    ),
    (
        "smtp.sendgrid.net",
        "535 Authentication failed: The provided authorization grant is invalid, expired, or revoked",
        Reason::Credentials,
        "docs.sendgrid.com",
    ),
    (
        "smtp.sendgrid.net",
        "451 Authentication failed: Maximum credits exceeded",
        Reason::Quota,
        "docs.sendgrid.com",
    ),
    (
        "smtp.postmarkapp.com",
        "422 The 'From' address you supplied is not a Sender Signature on your account",
        Reason::SenderRefused,
        "postmarkapp.com",
    ),
];

const EVERYBODY_ELSE: Cases = &[
    (
        ELSEWHERE,
        "450 4.2.0 <bob@example.net>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/",
        Reason::Greylisted,
        "SEEN: Postgrey",
    ),
    (
        ELSEWHERE,
        "451 4.7.1 Greylisting in action, please come back later",
        Reason::Greylisted,
        "SEEN: milter-greylist",
    ),
    (ELSEWHERE, "451 4.7.1 Try again later", Reason::Greylisted, "SEEN: rspamd"),
    (
        ELSEWHERE,
        "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
        Reason::Blocklist,
        "SEEN: Postfix reject_rbl_client",
    ),
    (
        ELSEWHERE,
        "550 5.1.1 <bob@example.net>: Recipient address rejected: User unknown in virtual mailbox table",
        Reason::NoSuchUser,
        "SEEN: Postfix",
    ),
    (ELSEWHERE, "550 Unrouteable address", Reason::NoSuchUser, "SEEN: Exim"),
    (ELSEWHERE, "554 5.7.1 <bob@example.net>: Relay access denied", Reason::RelayDenied, "SEEN: Postfix"),
    (
        ELSEWHERE,
        "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]",
        Reason::Ptr,
        "SEEN: Postfix",
    ),
    (ELSEWHERE, "552 5.2.2 Mailbox size limit exceeded", Reason::MailboxFull, "RFC 3463"),
    (ELSEWHERE, "552 5.3.4 Message size exceeds fixed limit", Reason::TooLarge, "SEEN: Postfix"),
    (
        ELSEWHERE,
        "530 5.7.0 Must issue a STARTTLS command first",
        Reason::Tls,
        "RFC 3207: 530 asks for AUTH or for TLS",
    ),
    (ELSEWHERE, "530 5.7.0 Authentication required", Reason::Credentials, "RFC 4954"),
    (ELSEWHERE, "535 whatever", Reason::Credentials, "RFC 4954"),
    (ELSEWHERE, "454 4.7.0 Temporary authentication failure", Reason::Busy, "RFC 4954: passes"),
    (
        ELSEWHERE,
        "556 5.1.10 recipient domain has a null MX",
        Reason::NoMail,
        "RFC 7505: the registry, not Microsoft's",
    ),
    (
        ELSEWHERE,
        "550 5.7.27 Sender address has null MX",
        Reason::SenderDomain,
        "RFC 7505: the registry, not Google's",
    ),
    (ELSEWHERE, "554 5.6.7 needs SMTPUTF8", Reason::Unsupported, "RFC 6531"),
    (ELSEWHERE, "452 4.3.1 Insufficient system storage", Reason::Busy, "RFC 3463"),
    (ELSEWHERE, "421 mx.example.net closing connection", Reason::Busy, "the digits alone"),
    (ELSEWHERE, "550 no", Reason::NoSuchUser, "the digits alone"),
    (ELSEWHERE, "554 no", Reason::Policy, "the digits alone"),
    (ELSEWHERE, "250 what", Reason::Other, "no refusal at all"),
    (ELSEWHERE, "554 5.7.1 refused, id 4xSpf9kDkim2", Reason::Policy, "letters within an id are no words"),
];

#[test]
fn our_own_words() {
    let rows = [
        (Enhanced(4, 4, 1), Reason::Network, "cannot connect"),
        (Enhanced(4, 4, 3), Reason::Dns, "SERVFAIL"),
        (Enhanced(5, 4, 4), Reason::Forbidden, "an inside address"),
        (Enhanced(4, 4, 4), Reason::Dns, "no address"),
        (Enhanced(5, 4, 6), Reason::Loop, "we listen there ourselves"),
        (Enhanced(5, 1, 10), Reason::NoMail, "null MX"),
        (Enhanced(5, 1, 2), Reason::NoSuchDomain, "NXDOMAIN"),
        (Enhanced(4, 7, 5), Reason::TlsFailure, "the handshake"),
        (Enhanced(4, 7, 10), Reason::TlsFailure, "STARTTLS is not offered"),
        (Enhanced(4, 7, 0), Reason::Credentials, "no TLS for the password"),
        (Enhanced(5, 3, 4), Reason::TooLarge, "SIZE"),
        (Enhanced(5, 6, 3), Reason::Unsupported, "8BITMIME is not offered"),
        (Enhanced(4, 5, 0), Reason::Protocol, "not an SMTP reply"),
        (Enhanced(5, 0, 0), Reason::Command, "queue bounce"),
        (Enhanced(4, 3, 5), Reason::Network, "no source of the host's family"),
        (Enhanced(4, 3, 0), Reason::Internal, "an attempt broke"),
    ];
    for (enhanced, expected, why) in rows {
        let reply = PeerReply::local(enhanced, "blocked by spamhaus, says somebody");
        let found = Meaning::of_reply(Some(GMAIL), &reply);
        assert_eq!(found.reason, expected, "{why}: what others say inside our words decides nothing");
    }
}

#[test]
fn a_host_is_known_by_its_domain_and_not_by_a_name_that_ends_alike() {
    let text = "550 5.7.27 no";
    let rows = [
        ("ASPMX.L.GOOGLE.COM.", Reason::Spf, "case and the last dot do not matter"),
        ("notgoogle.com", Reason::SenderDomain, "another domain: the registry"),
        ("google.com.evil.example", Reason::SenderDomain, "and another"),
    ];
    for (host, expected, why) in rows {
        assert_eq!(Meaning::of_reply(Some(host), &heard(text)).reason, expected, "{why}");
    }
}

#[test]
fn every_cause_is_documented_with_its_name_whose_job_it_is_and_what_to_do() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/replies.md")).unwrap();
    let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| format!("| `{}` | {} | {} |", reason.name(), reason.whose().name(), reason.advice()))
        .collect();
    assert_eq!(listed, expected, "docs/replies.md lists the causes as the code has them");
    for reason in Reason::ALL {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.name(), "one name everywhere");
        assert!(!reason.advice().ends_with('.'), "{}: whoever shows it ends the sentence", reason.name());
    }
}

proptest! {
    #[test]
    fn any_octets_are_survived(
        host in ".{0,40}", code in 0u16..700, subject in any::<u16>(), detail in any::<u16>(),
        text in prop::collection::vec(any::<u8>(), 0..5000),
    ) {
        let reply = PeerReply { code, enhanced: Some(Enhanced(5, subject, detail)), text };
        let meaning = Meaning::of_reply(Some(&host), &reply);
        prop_assert!(Reason::ALL.contains(&meaning.reason));
        prop_assert!(!meaning.advice.is_empty());
    }

    #[test]
    fn what_stands_far_behind_decides_nothing(filler in "[a-z ]{2000,3000}") {
        let far = PeerReply { code: 550, enhanced: None, text: format!("{filler} spamhaus").into_bytes() };
        let none = PeerReply { code: 550, enhanced: None, text: filler.into_bytes() };
        prop_assert_eq!(Meaning::of_reply(None, &far), Meaning::of_reply(None, &none));
    }
}
