//! The reverse-path that next hops see (VERP): an address of our own making at the tenant's bounce domain, so that a bounce
//! names the message it is about, and nobody can make one up.
//!
//! ```text
//! b+01jd7k2m8a4v6w0x1y2z3a4b5c.k3m5q7s2u4w6y7a3c5e2.b4d6f2h3j5@bounce.acme.com
//! │  the message's queue id       │                    the first 50 bits of another, over id and recipient
//! │                               the first 100 bits of an HMAC-SHA256 over kind, id and domain, in base32
//! ```
//!
//! The last part stands where the message has one recipient: whoever has the message can write a report about it, and by this a
//! report proves whom it is about, long after the queue has forgotten. Nobody can put another's address on a suppression list by it.
//!
//! Local parts are written and read in lower case, because servers on the way fold them. `p+` marks a probe's recipient, with
//! a number used once in the place of the id. 100 bits cannot be guessed over SMTP, and 60 octets stay below the 64 of RFC 5321
//! section 4.5.3.1.1.

use std::fmt;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::address::{Address, Domain};
use super::id::Id;

/// Octets of a secret.
pub const SECRET: usize = 32;
/// Five bits each.
const MAC: usize = 20;
/// The same, of the part about the recipient.
const TAG: usize = 10;
/// RFC 4648 section 6, in lower case.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What makes and reads the addresses: random, of one installation. Whoever has it can make up bounces.
pub struct Secret(hmac::Key);

impl Secret {
    /// From its octets.
    #[must_use]
    pub fn new(octets: &Zeroizing<[u8; SECRET]>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, octets.as_slice()))
    }

    fn local(&self, kind: char, id: Id, domain: &Domain) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&[u8::try_from(kind).unwrap_or_default()]);
        context.update(&id.to_bytes());
        context.update(domain.as_str().as_bytes());
        let tag = context.sign();
        let mut local = format!("{kind}+{id}.").to_ascii_lowercase();
        letters(tag.as_ref(), MAC, &mut local);
        local
    }

    /// What stands for the recipient, with its point.
    fn tag(&self, id: Id, recipient: &Address) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"r");
        context.update(&id.to_bytes());
        context.update(recipient.to_string().to_lowercase().as_bytes());
        let mut tag = ".".to_owned();
        letters(context.sign().as_ref(), TAG, &mut tag);
        tag
    }
}

/// So many letters of base32.
fn letters(octets: &[u8], count: usize, into: &mut String) {
    let (mut bits, mut held) = (0_u32, 0_u32);
    let mut octets = octets.iter();
    for _ in 0..count {
        if held < 5 {
            bits = bits << 8 | octets.next().copied().map_or(0, u32::from);
            held += 8;
        }
        held -= 5;
        let five = usize::try_from(bits >> held & 31).unwrap_or_default();
        into.extend(LETTERS.get(five).copied().map(char::from));
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What one of our addresses stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// A bounce of this message.
    Bounce(Id),
    /// The probe of this number.
    Probe(Id),
}

/// The reverse-path of a message.
#[must_use]
pub fn make(secret: &Secret, id: Id, domain: &Domain) -> Address {
    Address::ours(&secret.local('b', id, domain), domain)
}

/// The same of a message with this one recipient.
#[must_use]
pub fn make_for(secret: &Secret, id: Id, domain: &Domain, recipient: &Address) -> Address {
    Address::ours(&(secret.local('b', id, domain) + &secret.tag(id, recipient)), domain)
}

/// Whether a reverse-path that `read` takes was made for a message to this one recipient.
#[must_use]
pub fn proves(secret: &Secret, path: &Address, recipient: &Address) -> bool {
    let given = path.local().to_ascii_lowercase();
    let Some(Token::Bounce(id)) = read(secret, path) else { return false };
    let genuine = secret.local('b', id, path.domain()) + &secret.tag(id, recipient);
    bool::from(genuine.as_bytes().ct_eq(given.as_bytes()))
}

/// The recipient of a probe.
#[must_use]
pub fn probe(secret: &Secret, number: Id, domain: &Domain) -> Address {
    Address::ours(&secret.local('p', number, domain), domain)
}

/// What the address stands for; `None` if we did not make it.
#[must_use]
pub fn read(secret: &Secret, address: &Address) -> Option<Token> {
    let given = address.local().to_ascii_lowercase();
    let (kind, rest) = given.split_once('+')?;
    let (id, _) = rest.split_once('.')?;
    let id: Id = id.parse().ok()?;
    let (kind, token) = match kind {
        "b" => ('b', Token::Bounce(id)),
        "p" => ('p', Token::Probe(id)),
        _ => return None,
    };
    // The whole of it, so that each token has one spelling only but for case. The part about the recipient proves nothing here.
    let genuine = secret.local(kind, id, address.domain());
    let given = if kind == 'b' { untagged(&given) } else { &given };
    bool::from(genuine.as_bytes().ct_eq(given.as_bytes())).then_some(token)
}

fn untagged(local: &str) -> &str {
    let head = local.len().checked_sub(TAG + 1).and_then(|end| local.split_at_checked(end));
    let is_tag = |tail: &str| {
        let letters = tail.strip_prefix('.').unwrap_or_default().as_bytes();
        letters.len() == TAG && letters.iter().all(|letter| LETTERS.contains(letter))
    };
    // The MAC before it has letters only, so a tail of this form is no part of it.
    head.filter(|(_, tail)| is_tag(tail)).map_or(local, |(head, _)| head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::address::LOCAL_PART_MAX;
    use crate::mail::time::Time;

    fn secret(octet: u8) -> Secret {
        Secret::new(&Zeroizing::new([octet; SECRET]))
    }

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    fn id() -> Id {
        Id::new(Time(1_767_225_600_000), 0x1234_5678_9abc_def0_1234)
    }

    #[test]
    fn what_is_made_is_read_and_nothing_else_is() {
        let (ours, at) = (secret(1), domain("bounce.acme.test"));
        let address = make(&ours, id(), &at);
        let text = address.to_string();
        let (local, _) = text.split_once('@').unwrap();
        let rows = [
            (text.clone(), Some(Token::Bounce(id())), "as it was made"),
            (text.to_ascii_uppercase(), Some(Token::Bounce(id())), "a server on the way folded it"),
            (text.replacen('b', "p", 1), None, "a bounce's token is no probe's"),
            (format!("{local}@bounce.other.test"), None, "at another domain"),
            (format!("{local}x@bounce.acme.test"), None, "too long"),
            (format!("{}@bounce.acme.test", &local[..local.len() - 1]), None, "too short"),
            (format!("{}@bounce.acme.test", &local[..28]), None, "without a MAC"),
            (format!("x{}@bounce.acme.test", &local[1..]), None, "another kind"),
            ("postmaster@bounce.acme.test".to_owned(), None, "somebody"),
            (format!("\"{local}\"@bounce.acme.test"), None, "quoted: we never write that"),
        ];
        for (text, expected, why) in rows {
            assert_eq!(read(&ours, &text.parse().unwrap()), expected, "{why}: {text}");
        }
        assert_eq!(read(&secret(2), &address), None, "another installation's");
        assert_eq!(read(&ours, &probe(&ours, id(), &at)), Some(Token::Probe(id())));
    }

    #[test]
    fn a_path_proves_its_one_recipient_and_no_other() {
        let (ours, at) = (secret(1), domain("bounce.acme.test"));
        let address = |text: &str| text.parse::<Address>().unwrap();
        let path = make_for(&ours, id(), &at, &address("Bob@there.test"));
        assert_eq!(read(&ours, &path), Some(Token::Bounce(id())));
        assert!(path.local().len() <= LOCAL_PART_MAX, "{path}");
        assert!(proves(&ours, &path, &address("bob@There.test")), "case counts for nothing");
        assert!(proves(&ours, &address(&path.to_string().to_ascii_uppercase()), &address("bob@there.test")));
        let other = address("eve@there.test");
        let plain = make(&ours, id(), &at);
        let moved = make_for(&ours, Id::new(Time(1), 2), &at, &other);
        let tail = moved.local().rsplit_once('.').unwrap().1;
        let pasted = address(&format!("{}.{tail}@{at}", plain.local()));
        for (path, recipient, why) in [
            (&path, &other, "another recipient"),
            (&plain, &other, "a message to several proves none"),
            (&pasted, &other, "another message's part about the recipient"),
        ] {
            assert!(!proves(&ours, path, recipient), "{why}");
        }
        assert!(!proves(&secret(2), &path, &address("bob@there.test")), "another installation's");
        let probe = probe(&ours, id(), &at);
        let probe = address(&format!("{}.{tail}@{at}", probe.local()));
        assert_eq!(read(&ours, &probe), None, "a probe's recipient has no such part");
    }

    /// Addresses are in other people's queues: the form must not change by accident. Computed apart, with Python's hmac.
    #[test]
    fn the_form_stays() {
        let address = make(&secret(7), id(), &domain("bounce.acme.test"));
        assert_eq!(address.to_string(), "b+01kdvdna0028t5cy4tqkff04hm.4swxrtlxhwxt2mw4oene@bounce.acme.test");
        assert_eq!(format!("{:?}", secret(7)), "Secret");
    }

    proptest! {
        #[test]
        fn every_id_and_domain_comes_back(ms in 0..1_u64 << 48, random in any::<u128>(), host in "[a-z]{1,12}(\\.[a-z]{1,12}){1,3}") {
            let (secret, at, id) = (secret(3), domain(&host), Id::new(Time(ms), random));
            let address = make(&secret, id, &at);
            prop_assert!(address.local().len() <= LOCAL_PART_MAX);
            let parsed: Address = address.to_string().parse().unwrap();
            prop_assert_eq!(read(&secret, &parsed), Some(Token::Bounce(id)));
        }

        #[test]
        fn no_other_letter_passes(at in 0..49_usize, letter in "[a-z2-7]") {
            let (secret, domain) = (secret(3), domain("b.test"));
            let mut local = make(&secret, id(), &domain).local().to_owned();
            let same = local[at..=at] == letter;
            local.replace_range(at..=at, &letter);
            if let Ok(changed) = format!("{local}@b.test").parse() {
                prop_assert_eq!(read(&secret, &changed).is_some(), same);
            }
        }

        #[test]
        fn any_local_part_is_survived(local in "[!-~]{1,64}") {
            if let Ok(address) = format!("{local}@b.test").parse() {
                prop_assert_eq!(read(&secret(3), &address), None);
            }
        }
    }
}
