//! Google: support.google.com/a/answer/3726730 ("Gmail SMTP errors and codes"), 81126 (sender guidelines), 6140680 (relay). One
//! code says several things (X.7.26, X.7.0, X.7.1), so the words come first; the codes alone are for words that change.

use super::{Excess, Reason, Row, Whose};

const RECEIVING: &str =
    "wait: this recipient gets more mail than Google lets in at once, and the relay tries again by itself";
const DNS: &str =
    "have the From domain's name servers answer: Google could not look up its SPF, DKIM or DMARC records";

pub(super) const ROWS: &[Row] = &[
    // X.7.26 in its three meanings.
    Row::says(&["temporary dns failures prevent authentication"], Reason::Dns).advise(Whose::Tenant, DNS),
    Row::says(&["due to domain's dmarc policy"], Reason::Dmarc),
    Row::says(&["spf record with a hard fail"], Reason::Spf),
    Row::says(&["authenticate with either spf or dkim"], Reason::Unauthenticated),
    Row::says(&["does not have authentication information"], Reason::Unauthenticated),
    Row::says(&["unauthenticated email is not accepted"], Reason::Unauthenticated),
    Row::says(&["spf record of the sending domain has one or more suspicious"], Reason::Spf),
    Row::says(&["authenticate with spf"], Reason::Spf),
    Row::says(&["spf authentication didn't pass"], Reason::Spf),
    Row::says(&["authenticate with dkim"], Reason::Dkim),
    Row::says(&["dkim authentication didn't pass"], Reason::Dkim),
    Row::says(&["isn't aligned with either the authenticated"], Reason::Alignment),
    Row::says(&["dmarc record"], Reason::DmarcMissing),
    // Addresses.
    Row::says(&["ptr record"], Reason::Ptr),
    Row::says(&["does not match the ip address of the hostname"], Reason::Ptr),
    // TLS.
    Row::says(&["use tls/ssl for smtp"], Reason::Tls),
    Row::says(&["sent over a tls connection"], Reason::Tls),
    Row::says(&["tls required for rcpt domain"], Reason::Tls),
    // How much, and who.
    Row::says(&["same message-id"], Reason::Rate)
        .advise(Whose::Tenant, "give every message a Message-ID of its own: Google counts how often it sees one")
        .too_much(Excess::Sender),
    // Google counts by address and by domain (81126, "Increase sending volume slowly"): the domain's is nobody else's matter.
    Row::says(&["unusual rate of", "dkim domain"], Reason::Rate).too_much(Excess::Sender),
    Row::says(&["unusual rate of", "spf domain"], Reason::Rate).too_much(Excess::Sender),
    Row::says(&["unusual rate of", "url domain"], Reason::Rate).too_much(Excess::Sender),
    Row::says(&["unusual rate of"], Reason::Rate).limits(),
    Row::says(&["receiving mail too quickly"], Reason::Rate).advise(Whose::Nobody, RECEIVING),
    Row::says(&["receiving mail at a rate"], Reason::Rate).advise(Whose::Nobody, RECEIVING),
    Row::says(&["daily", "sending", "exceeded"], Reason::Quota),
    Row::says(&["relay limit exceeded"], Reason::Quota),
    Row::says(&["reputation of the sending"], Reason::Reputation),
    Row::says(&["nature of the content"], Reason::Content),
    Row::says(&["likely unsolicited mail"], Reason::Content),
    Row::says(&["potential security issue"], Reason::Content),
    Row::says(&["illegal attachment"], Reason::Content),
    // Form.
    Row::says(&["messages missing a valid"], Reason::Malformed),
    Row::says(&["multiple addresses in from: header"], Reason::Malformed),
    Row::says(&["not rfc 5322 compliant"], Reason::Malformed),
    Row::says(&["encoded-word syntax"], Reason::Malformed),
    Row::says(&["disallowed header"], Reason::Malformed),
    Row::says(&["exceeds google's", "header"], Reason::Malformed),
    Row::says(&["multiple destination domains per transaction"], Reason::Busy),
    // The account, at smtp.gmail.com and the relay service.
    Row::says(&["application-specific password required"], Reason::Credentials).advise(
        Whose::Tenant,
        "make an app password in the Google account (it needs 2-step verification) and set it as the upstream's password, or use xoauth2",
    ),
    Row::says(&["web browser"], Reason::Credentials).advise(
        Whose::Tenant,
        "log in to the Google account once with a browser to lift its block, or use an app password or xoauth2",
    ),
    Row::says(&["too many login attempts"], Reason::Rate),
    Row::says(&["mail relay denied"], Reason::SenderRefused)
        .advise(Whose::Tenant, "register the relay's address in the SMTP relay settings of Google Workspace, or log in"),
    Row::says(&["invalid credentials for relay"], Reason::SenderRefused)
        .advise(Whose::Tenant, "register the relay's address in the SMTP relay settings of Google Workspace, or log in"),
    Row::says(&["policy that prohibited"], Reason::Policy),
    Row::says(&["is not authorized to send email directly"], Reason::Reputation),
    // Codes alone. 24, 27, 29 and 30 mean something else in IANA's registry.
    Row::code(7, 23, Reason::Ptr),
    Row::code(7, 24, Reason::Spf),
    Row::code(7, 25, Reason::Ptr),
    Row::code(7, 26, Reason::Unauthenticated),
    Row::code(7, 27, Reason::Spf),
    Row::code(7, 28, Reason::Rate).limits(),
    Row::code(7, 29, Reason::Tls),
    Row::code(7, 30, Reason::Dkim),
    Row::codes(7, 31, 31, Reason::DmarcMissing),
    Row::code(7, 32, Reason::Alignment),
    Row::code(7, 40, Reason::DmarcMissing),
    Row::code(4, 5, Reason::Quota),
];
