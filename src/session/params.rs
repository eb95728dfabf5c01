//! Parameters of MAIL and RCPT: SIZE, BODY, SMTPUTF8, REQUIRETLS, AUTH, RET, ENVID, MT-PRIORITY, BY; NOTIFY, ORCPT. Strict, for what is wrong here
//! would end in somebody else's report.

use std::fmt::Write;

use crate::mail::deliver_by::By;
use crate::mail::envelope::{Notify, Ret};
use crate::mail::priority::Priority;

/// RFC 3461 section 4.4: characters of an ENVID. Counted before xtext, so that whatever the RFC lets through is taken.
const ENVID_MAX: usize = 100;
/// RFC 3461 section 4.2: characters of an ORCPT value.
const ORCPT_MAX: usize = 500;

/// What MAIL asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParams {
    /// RFC 1870: octets announced.
    pub size: Option<u64>,
    /// RFC 6152 `BODY=8BITMIME`.
    pub eight_bit_mime: bool,
    /// RFC 6531. Many clients say it for every message.
    pub smtputf8: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// RFC 3461.
    pub ret: Option<Ret>,
    /// RFC 3461, decoded.
    pub envid: Option<String>,
    /// RFC 6710.
    pub priority: Option<Priority>,
    /// RFC 2852.
    pub deliver_by: Option<By>,
}

/// What RCPT asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParams {
    /// RFC 3461.
    pub notify: Notify,
    /// RFC 3461, as received.
    pub orcpt: Option<String>,
}

/// A parameter that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadParam {
    /// Not one we offered (RFC 5321 section 4.1.1.11: 555).
    Unknown,
    /// Known, with a value it cannot have.
    Value(&'static str),
    /// Given twice.
    Twice(&'static str),
}

#[derive(Clone, Copy)]
enum Keyword {
    Size,
    Body,
    SmtpUtf8,
    RequireTls,
    Auth,
    Ret,
    Envid,
    Priority,
    By,
    Notify,
    Orcpt,
}

const MAIL: [(&str, Keyword); 9] = [
    ("SIZE", Keyword::Size),
    ("BODY", Keyword::Body),
    ("SMTPUTF8", Keyword::SmtpUtf8),
    ("REQUIRETLS", Keyword::RequireTls),
    ("AUTH", Keyword::Auth),
    ("RET", Keyword::Ret),
    ("ENVID", Keyword::Envid),
    ("MT-PRIORITY", Keyword::Priority),
    ("BY", Keyword::By),
];
const RCPT: [(&str, Keyword); 2] = [("NOTIFY", Keyword::Notify), ("ORCPT", Keyword::Orcpt)];

/// Reads what follows the reverse-path.
///
/// # Errors
/// The first parameter that is not taken.
pub fn mail(rest: &str) -> Result<MailParams, BadParam> {
    let mut params = MailParams::default();
    each(rest, &MAIL, |keyword, value| take_mail(&mut params, keyword, value))?;
    Ok(params)
}

/// Reads what follows the forward-path.
///
/// # Errors
/// The first parameter that is not taken.
pub fn rcpt(rest: &str) -> Result<RcptParams, BadParam> {
    let mut params = RcptParams::default();
    each(rest, &RCPT, |keyword, value| {
        if matches!(keyword, Keyword::Notify) {
            params.notify = notify(value?)?;
        } else {
            params.orcpt = Some(orcpt(value?)?);
        }
        Some(())
    })?;
    Ok(params)
}

/// Walks the words of `rest`; `take` answers `None` for a value it does not like.
fn each<'a>(
    rest: &'a str,
    table: &[(&'static str, Keyword)],
    mut take: impl FnMut(Keyword, Option<&'a str>) -> Option<()>,
) -> Result<(), BadParam> {
    let mut seen = 0u32;
    for word in rest.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let known = table.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(name));
        let (name, keyword) = known.ok_or(BadParam::Unknown)?;
        let bit = 1 << *keyword as u32;
        if seen & bit != 0 {
            return Err(BadParam::Twice(name));
        }
        seen |= bit;
        take(*keyword, value).ok_or(BadParam::Value(name))?;
    }
    Ok(())
}

fn take_mail(params: &mut MailParams, keyword: Keyword, value: Option<&str>) -> Option<()> {
    match keyword {
        Keyword::Size => params.size = Some(size(value?)?),
        Keyword::Body => params.eight_bit_mime = eight_bit(value?)?,
        Keyword::SmtpUtf8 if value.is_none() => params.smtputf8 = true,
        Keyword::RequireTls if value.is_none() => params.require_tls = true,
        // RFC 4954 section 5: whoever submitted it elsewhere; checked for its form and not kept.
        Keyword::Auth => auth(value?)?,
        Keyword::Ret => params.ret = Some(ret(value?)?),
        Keyword::Envid => params.envid = Some(envid(value?)?),
        Keyword::Priority => params.priority = Some(value?.parse().ok()?),
        Keyword::By => params.deliver_by = Some(value?.parse().ok()?),
        Keyword::SmtpUtf8 | Keyword::RequireTls | Keyword::Notify | Keyword::Orcpt => return None,
    }
    Some(())
}

/// RFC 1870 section 3: one to twenty digits.
fn size(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 20 && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten()
}

/// RFC 6152. BINARYMIME (RFC 3030) is not offered: nothing here could carry it on.
fn eight_bit(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("8BITMIME") {
        return Some(true);
    }
    value.eq_ignore_ascii_case("7BIT").then_some(false)
}

fn auth(value: &str) -> Option<()> {
    (value == "<>" || decode(value).is_some_and(|text| is_printable(&text))).then_some(())
}

fn ret(value: &str) -> Option<Ret> {
    if value.eq_ignore_ascii_case("FULL") {
        return Some(Ret::Full);
    }
    value.eq_ignore_ascii_case("HDRS").then_some(Ret::Hdrs)
}

fn envid(value: &str) -> Option<String> {
    let text = decode(value)?;
    (!text.is_empty() && text.len() <= ENVID_MAX && is_printable(&text)).then_some(text)
}

/// RFC 3461 section 4.1: `NEVER` alone, or a list.
fn notify(value: &str) -> Option<Notify> {
    let mut wanted = Notify { success: false, failure: false, delay: false, stated: true };
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(wanted);
    }
    for word in value.split(',') {
        match word {
            _ if word.eq_ignore_ascii_case("SUCCESS") => wanted.success = true,
            _ if word.eq_ignore_ascii_case("FAILURE") => wanted.failure = true,
            _ if word.eq_ignore_ascii_case("DELAY") => wanted.delay = true,
            _ => return None,
        }
    }
    Some(wanted)
}

/// RFC 3461 section 4.2: `type;xtext`, kept as it is. Of the type `utf-8` an address may come as it is written (RFC 6533 section 3): it
/// is kept in the form that goes everywhere, with `\x{...}` for each character that is not ASCII.
fn orcpt(value: &str) -> Option<String> {
    let (kind, address) = value.split_once(';')?;
    let atom = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let kept = match kind.eq_ignore_ascii_case("utf-8") {
        true => format!("{kind};{}", embedded(address)),
        false => value.to_owned(),
    };
    let text = decode(kept.get(kind.len() + 1..)?)?;
    (atom && kept.len() <= ORCPT_MAX && !text.is_empty() && is_printable(&text)).then_some(kept)
}

/// RFC 6533 section 3, `EmbeddedUnicodeChar`.
fn embedded(address: &str) -> String {
    let mut out = String::with_capacity(address.len());
    for c in address.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
        }
    }
    out
}

/// Graphic characters and the space; a decoded CR or LF would become a line of its own in a report (CVE-2020-28026).
fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// Decodes xtext (RFC 3461 section 4): `+` and two upper-case hexadecimal digits, or any of `!` to `~` but `+` and `=`.
#[must_use]
pub fn decode(xtext: &str) -> Option<String> {
    let mut text = String::with_capacity(xtext.len());
    let mut rest = xtext.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'+' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => byte,
            _ => return None,
        };
        text.push(char::from(decoded).is_ascii().then_some(char::from(decoded))?);
    }
    Some(text)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
