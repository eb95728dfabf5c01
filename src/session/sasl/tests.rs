//! PLAIN and LOGIN, a row a reason.

use super::*;
use crate::mail::secret::ExposeSecret as _;

fn told(turn: Turn) -> String {
    match turn {
        Turn::Ask(exchange, challenge) => format!("{exchange:?} {challenge}"),
        Turn::Done(given) => format!("{}:{}", given.username, given.password.expose_secret()),
        Turn::Fault(fault) => format!("{fault:?}"),
    }
}

#[test]
fn plain_messages() {
    let rows = [
        ("\0u\0p", "u:p", "no authzid"),
        ("u\0u\0p", "u:p", "JavaMail repeats the name"),
        ("x\0u\0p", "Refused", "in somebody else's name"),
        ("\0u\0", "Refused", "no password"),
        ("\0\0p", "Refused", "no name"),
        ("", "Refused", "nothing"),
        ("u\0p", "Malformed", "one NUL"),
        ("\0u\0p\0", "Malformed", "three NULs"),
    ];
    for (message, expected, why) in rows {
        let text = BASE64.encode(message);
        let initial = if text.is_empty() { "=" } else { text.as_str() };
        assert_eq!(told(begin(Mechanism::Plain, Some(initial))), expected, "{why}");
        assert_eq!(
            told(Exchange::Plain.respond(text.as_bytes())),
            expected,
            "{why}, without initial response"
        );
    }
    assert_eq!(told(Exchange::Plain.respond(b"AHUAcA")), "u:p", "padding left away");
    assert_eq!(told(Exchange::Plain.respond(b"*")), "Aborted", "RFC 4954 section 4");
    assert_eq!(told(Exchange::Plain.respond(b"\xff")), "Malformed", "not even text");
}

#[test]
fn login_asks_twice() {
    assert_eq!(told(begin(Mechanism::Login, None)), "Username VXNlcm5hbWU6");
    assert_eq!(told(begin(Mechanism::Login, Some("dQ=="))), "Password(\"u\") UGFzc3dvcmQ6");
    assert_eq!(told(Exchange::Password("u".to_owned()).respond(b"cA==")), "u:p");
}

#[test]
fn only_plain_exposes_a_password_at_once() {
    assert_eq!(exposed("plain", Some("AHUAcA==")).as_deref(), Some("u"));
    assert_eq!(exposed("LOGIN", Some("dQ==")), None, "a user name is no secret");
    assert_eq!(exposed("PLAIN", None), None, "nothing was sent yet");
}
