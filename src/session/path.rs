//! Reverse-paths and forward-paths: `<`, a source route to ignore, a mailbox, `>` (RFC 5321 section 4.1.2).

use crate::mail::address::{Address, BadAddress, Domain};

/// RFC 5321 section 4.5.3.1.3: a path with its brackets.
const PATH_MAX: usize = 256;

/// Why a text is no path we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// Brackets are missing or nested, or something other than a space follows.
    Brackets,
    /// Over 256 octets.
    TooLong,
    /// What is inside is no mailbox.
    Mailbox(BadAddress),
}

/// Splits `<...> rest` into what is between the brackets, its source route removed, and the rest. Spaces before `<` are
/// tolerated, for clients write `FROM: <`.
///
/// # Errors
/// Anything but a bracketed path followed by a space or nothing.
pub fn split(text: &str) -> Result<(&str, &str), BadPath> {
    let inside = text.trim_start_matches(' ').strip_prefix('<').ok_or(BadPath::Brackets)?;
    let end = closing(inside).ok_or(BadPath::Brackets)?;
    let (path, rest) = inside.split_at_checked(end).ok_or(BadPath::Brackets)?;
    let rest = rest.strip_prefix('>').filter(|rest| rest.is_empty() || rest.starts_with(' '));
    let rest = rest.ok_or(BadPath::Brackets)?;
    if path.len() + 2 > PATH_MAX {
        return Err(BadPath::TooLong);
    }
    Ok((unrouted(path)?, rest))
}

/// Where the first `>` outside quotes is; `None` if there is none, or another `<` comes first.
fn closing(inside: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            b'<' if !quoted => return None,
            _ => {}
        }
    }
    None
}

/// RFC 5321 section 3.6.1 and appendix C: a source route is accepted and ignored. The hosts it names are never asked.
fn unrouted(path: &str) -> Result<&str, BadPath> {
    if !path.starts_with('@') {
        return Ok(path);
    }
    let shape = BadPath::Mailbox(BadAddress::Shape);
    let (route, mailbox) = path.split_once(':').ok_or(shape)?;
    let hops =
        || route.split(',').map(|hop| hop.strip_prefix('@').and_then(|name| name.parse::<Domain>().ok()));
    if mailbox.is_empty() || !hops().all(|hop| hop.is_some()) {
        return Err(shape);
    }
    Ok(mailbox)
}

/// The mailbox between the brackets.
///
/// # Errors
/// It is none.
pub fn mailbox(text: &str) -> Result<Address, BadPath> {
    text.parse().map_err(BadPath::Mailbox)
}

/// Whether mail for this domain could only mean this machine (RFC 6761 section 6.3).
#[must_use]
pub fn is_localhost(domain: &Domain) -> bool {
    domain.as_str() == "localhost" || domain.as_str().ends_with(".localhost")
}

#[cfg(test)]
mod tests;
