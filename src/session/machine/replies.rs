//! What we say, all of it: code, enhanced code, what happened, what to do. Platforms show these lines to the person who
//! fills in the form. Constants where nothing varies, so that the path of good mail allocates no text.

use crate::mail::address::{BadAddress, Domain};
use crate::mail::reply::{Enhanced, Reply};
use crate::session::params::BadParam;
use crate::session::path::BadPath;

pub(super) const OK: &str = "250 2.0.0 Ok\r\n";
pub(super) const SENDER_OK: &str = "250 2.1.0 Sender ok\r\n";
pub(super) const RECIPIENT_OK: &str = "250 2.1.5 Recipient ok\r\n";
pub(super) const GO_AHEAD: &str = "354 End data with <CR><LF>.<CR><LF>\r\n";
pub(super) const BYE: &str = "221 2.0.0 Bye\r\n";
pub(super) const VRFY: &str = "252 2.5.2 Addresses are not verified here; send the mail\r\n";
pub(super) const HELP: &str = "214 2.0.0 This is Waxseal, a relay for its tenants' mail\r\n";
pub(super) const READY_FOR_TLS: &str = "220 2.0.0 Ready to start TLS\r\n";
pub(super) const AUTHENTICATED: &str = "235 2.7.0 Authentication successful\r\n";

fn reply(code: u16, enhanced: (u8, u16, u16), text: &str) -> Reply {
    Reply::new(code, Enhanced(enhanced.0, enhanced.1, enhanced.2), text)
}

pub(super) fn banner(hostname: &Domain) -> Reply {
    Reply::bare(220, format!("{hostname} ESMTP Waxseal"))
}

pub(super) fn unknown() -> Reply {
    reply(500, (5, 5, 2), "Command not recognised")
}

pub(super) fn not_implemented() -> Reply {
    reply(502, (5, 5, 1), "Command not implemented")
}

pub(super) fn no_argument() -> Reply {
    reply(501, (5, 5, 4), "This command takes no argument")
}

pub(super) fn too_long() -> Reply {
    reply(500, (5, 5, 2), "Line too long")
}

pub(super) fn bare_lf_command() -> Reply {
    reply(500, (5, 5, 2), "Lines must end with <CR><LF>; this one holds a bare <LF>")
}

pub(super) fn bad_characters() -> Reply {
    reply(500, (5, 5, 2), "Commands hold printable characters only")
}

pub(super) fn bad_name() -> Reply {
    reply(501, (5, 5, 4), "A host name is expected, without spaces")
}

pub(super) fn hello_first() -> Reply {
    reply(503, (5, 5, 1), "Send EHLO first")
}

/// RFC 2034 section 4 wants the enhanced code's class to match: 4.7.0 with 421.
pub(super) fn foreign() -> Reply {
    reply(421, (4, 7, 0), "This port speaks SMTP; closing connection")
}

pub(super) fn too_many_errors() -> Reply {
    reply(421, (4, 7, 0), "Too many errors; closing connection")
}

pub(super) fn too_much_junk() -> Reply {
    reply(421, (4, 7, 0), "Too many commands without mail; closing connection")
}

pub(super) fn tls_twice() -> Reply {
    reply(503, (5, 5, 1), "TLS is active already")
}

pub(super) fn injected() -> Reply {
    reply(
        421,
        (4, 7, 0),
        "Commands were sent behind STARTTLS without waiting for its answer; closing connection",
    )
}

pub(super) fn auth_syntax() -> Reply {
    reply(501, (5, 5, 4), "Use: AUTH mechanism [initial-response]")
}

pub(super) fn unknown_mechanism() -> Reply {
    reply(504, (5, 5, 4), "Mechanism not supported; use PLAIN or LOGIN")
}

pub(super) fn auth_twice() -> Reply {
    reply(503, (5, 5, 1), "AUTH comes once, before MAIL")
}

/// RFC 4954 section 4: an AUTH line over 12,288 octets.
pub(super) fn auth_too_long() -> Reply {
    reply(500, (5, 5, 6), "Authentication exchange line is too long")
}

pub(super) fn auth_malformed() -> Reply {
    reply(501, (5, 5, 2), "The response is not valid base64, or malformed")
}

pub(super) fn auth_aborted() -> Reply {
    reply(501, (5, 7, 0), "Authentication cancelled")
}

pub(super) fn auth_refused() -> Reply {
    reply(535, (5, 7, 8), "Authentication failed: check user name and password")
}

pub(super) fn auth_throttled() -> Reply {
    reply(454, (4, 7, 0), "Too many failed logins; try again later")
}

pub(super) fn too_many_refusals() -> Reply {
    reply(421, (4, 7, 0), "Too many failed logins; closing connection")
}

/// The words JavaMail and others know; 530 and not 538, for JavaMail answers it by STARTTLS.
pub(super) fn starttls_first() -> Reply {
    reply(530, (5, 7, 0), "Must issue a STARTTLS command first")
}

pub(super) fn no_cleartext_auth() -> Reply {
    reply(
        538,
        (5, 7, 11),
        "Passwords are not taken in clear text: set the authentication method to TLS or SSL, with its port",
    )
}

/// For MAIL, RCPT and DATA by nobody, over TLS.
pub(super) fn auth_required() -> Reply {
    reply(530, (5, 7, 0), "Authentication required: enter user name and password of a login of this relay")
}

pub(super) fn auth_after_tls() -> Reply {
    reply(
        530,
        (5, 7, 0),
        "Authentication required, and passwords are taken after STARTTLS only:\nset the authentication method to TLS, and enter user name and password",
    )
}

pub(super) fn auth_after_tls_exposed() -> Reply {
    reply(
        530,
        (5, 7, 0),
        "Authentication required, and passwords are taken after STARTTLS only:\nset the authentication method to TLS, and use a new password: the old one was sent in clear text",
    )
}

pub(super) fn auth_elsewhere() -> Reply {
    reply(
        530,
        (5, 7, 0),
        "Authentication required, and this port takes no passwords:\nset the authentication method to TLS or SSL with its port, or have this network listed for method None",
    )
}

/// The login was revoked, or its password changed, while the session lasted.
pub(in crate::session) fn login_revoked() -> Reply {
    reply(535, (5, 7, 8), "This login is no longer valid: authenticate again")
}

pub(in crate::session) fn no_room() -> Reply {
    reply(452, (4, 3, 1), "No room for new mail; try again later")
}

/// At MAIL, at DATA or BDAT, or at the end of a message (RFC 5321 section 4.2.3: 452).
pub(super) fn no_memory() -> Reply {
    reply(
        452,
        (4, 3, 1),
        "The relay is taking in as much mail as it has memory for; send it again in a minute",
    )
}

pub(super) fn mail_syntax() -> Reply {
    reply(501, (5, 5, 4), "Use: MAIL FROM:<address>")
}

pub(super) fn rcpt_syntax() -> Reply {
    reply(501, (5, 5, 4), "Use: RCPT TO:<address>")
}

pub(super) fn mail_twice() -> Reply {
    reply(503, (5, 5, 1), "A sender was given already; RSET starts over")
}

pub(super) fn mail_first() -> Reply {
    reply(503, (5, 5, 1), "Send MAIL first")
}

pub(super) fn rcpt_first() -> Reply {
    reply(503, (5, 5, 1), "Send RCPT first")
}

pub(super) fn no_valid_recipients() -> Reply {
    reply(554, (5, 5, 1), "No valid recipients")
}

pub(super) fn bad_sender(bad: BadPath) -> Reply {
    reply(501, (5, 1, 7), why(bad))
}

pub(super) fn bad_recipient(bad: BadPath) -> Reply {
    reply(501, (5, 1, 3), why(bad))
}

fn why(bad: BadPath) -> &'static str {
    match bad {
        BadPath::Brackets => "An address in angle brackets is expected",
        BadPath::TooLong => "The address is longer than 256 octets",
        BadPath::Mailbox(BadAddress::Shape) => "An address is local-part@domain",
        BadPath::Mailbox(BadAddress::Local) => "The local part is malformed",
        BadPath::Mailbox(BadAddress::LocalTooLong) => "The local part is longer than 64 octets",
        BadPath::Mailbox(BadAddress::Domain) => "The domain is malformed",
        BadPath::Mailbox(BadAddress::Literal) => "Address literals are not accepted",
    }
}

pub(super) fn no_literals() -> Reply {
    reply(550, (5, 1, 2), "Mail goes to domains, not to addresses of machines")
}

pub(super) fn needs_smtputf8() -> Reply {
    reply(553, (5, 6, 7), "An address that is not ASCII needs SMTPUTF8")
}

pub(super) fn bad_param(bad: BadParam) -> Reply {
    match bad {
        BadParam::Unknown => reply(555, (5, 5, 4), "Parameter not recognised"),
        BadParam::Value(name) => reply(501, (5, 5, 4), &format!("The value of {name} is malformed")),
        BadParam::Twice(name) => reply(501, (5, 5, 4), &format!("{name} was given twice")),
    }
}

/// RFC 8689 section 2: only in a session under TLS.
pub(super) fn require_tls_in_clear() -> Reply {
    reply(530, (5, 7, 10), "REQUIRETLS is for sessions under TLS, where it is offered: issue STARTTLS first")
}

/// RFC 2852 sections 3 and 4: less than the minimum that EHLO named is refused for good, with 55z and a suitable code.
pub(super) fn by_too_soon(least: u64) -> Reply {
    reply(555, (5, 5, 4), &format!("With mode R the time in BY is {least} seconds at least"))
}

pub(super) fn too_many_recipients(limit: usize) -> Reply {
    reply(452, (4, 5, 3), &format!("At most {limit} recipients; send the others with the next message"))
}

pub(super) fn not_a_relay() -> Reply {
    reply(550, (5, 7, 1), "No mail is relayed here")
}

pub(super) fn too_big(limit: u64) -> Reply {
    reply(552, (5, 3, 4), &format!("The message is larger than {limit} octets"))
}

pub(super) fn nul() -> Reply {
    reply(550, (5, 6, 0), "The message holds a NUL octet")
}

pub(super) fn bare_lf() -> Reply {
    reply(550, (5, 5, 2), "The message holds a bare <LF>: lines must end with <CR><LF>")
}

pub(super) fn bare_cr() -> Reply {
    reply(550, (5, 5, 2), "The message holds a bare <CR>: lines must end with <CR><LF>")
}

pub(super) fn empty() -> Reply {
    reply(554, (5, 6, 0), "The message is empty")
}

pub(super) fn in_chunks() -> Reply {
    reply(503, (5, 5, 1), "A message is being sent with BDAT; finish it, or RSET")
}

pub(super) fn chunk_syntax() -> Reply {
    reply(501, (5, 5, 4), "Use: BDAT octets [LAST]")
}

/// What follows cannot be told from commands, so nothing is read any more.
pub(super) fn chunk_unknown() -> Reply {
    reply(501, (5, 5, 4), "Use: BDAT octets [LAST]; closing connection")
}

/// For a full house, before the banner.
#[must_use]
pub fn too_many_connections() -> Reply {
    reply(421, (4, 3, 2), "Too many connections; try again later")
}

/// A client that talks before the banner (RFC 5321 section 4.3.1).
#[must_use]
pub fn early_talker() -> Reply {
    reply(554, (5, 5, 1), "Wait for the greeting; closing connection")
}

/// At shutdown.
#[must_use]
pub fn shutting_down() -> Reply {
    reply(421, (4, 3, 2), "Service is shutting down; try again later")
}

/// RFC 5321 section 4.5.3.2.7.
#[must_use]
pub fn timed_out() -> Reply {
    reply(421, (4, 4, 2), "Timed out waiting for the client; closing connection")
}
