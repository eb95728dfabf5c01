//! When a key moves on, as a pure function of the keys, of what DNS was seen to publish, and of the time.
//!
//! RSA keys and Ed25519 keys live side by side, each kind by its own rules: the first one seen signs at once, so that a new
//! domain works as soon as its record is out; a later one waits for `key activate` or for the renewal that it was made for.

use std::time::Duration;

use super::keyring::Key;
use super::keys::{Algorithm, Kind};
use super::stages::{Make, Move, Stage};
use crate::mail::address::Domain;
use crate::mail::time::Time;

/// A replaced key stays published this much longer than mail stays in the queue: receivers check late, too.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// A renewed key signs only this long after it was first seen: resolvers that asked too early keep a "no such name" for up
/// to a day (RFC 2308 section 5 suggests one to three hours, and a day as what is too long).
pub const SETTLED: Duration = Duration::from_secs(86_400);

/// What the moves depend on beside the keys.
#[derive(Clone, Copy, Debug)]
pub struct Lifecycle {
    /// How long mail may stay in the queue (`delivery.give_up`).
    pub give_up: Duration,
    /// Age at which an active key is replaced (`seal.rotate_after`); zero: never.
    pub rotate_after: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// In one go: `stages::settle`.
    pub moves: Vec<Move>,
    /// Each with `stages::make`; then the record is to be published.
    pub makes: Vec<Make>,
}

/// What is due for the keys of one domain. `seen` says whether a selector's record is published with our key's bytes;
/// `None`: DNS does not say, and nothing is concluded from that.
pub fn advance(
    domain: &Domain,
    keys: &[Key],
    seen: &dyn Fn(&str) -> Option<bool>,
    policy: &Lifecycle,
    now: Time,
) -> Next {
    let mut next = Next::default();
    for rsa in [true, false] {
        let family = keys.iter().filter(|key| is_rsa(key) == rsa).collect();
        let mut walk = Walk { domain, keys, family, policy, now, next: Next::default() };
        walk.sight(seen);
        walk.renew(seen);
        walk.retire();
        next.moves.append(&mut walk.next.moves);
        next.makes.append(&mut walk.next.makes);
    }
    next
}

fn is_rsa(key: &Key) -> bool {
    key.public.algorithm.is_rsa()
}

/// One kind's keys of a domain.
struct Walk<'a> {
    domain: &'a Domain,
    keys: &'a [Key],
    family: Vec<&'a Key>,
    policy: &'a Lifecycle,
    now: Time,
    next: Next,
}

impl<'a> Walk<'a> {
    fn to(&mut self, key: &Key, to: Stage, why: impl Into<String>) {
        self.next.moves.push(Move {
            domain: self.domain.clone(),
            selector: key.selector.clone(),
            from: key.stage,
            to,
            why: why.into(),
        });
    }

    fn active(&self) -> Option<&'a Key> {
        self.family.iter().find(|key| key.stage == Stage::Active).copied()
    }

    /// Records that came, and records that went again before their key ever signed.
    fn sight(&mut self, seen: &dyn Fn(&str) -> Option<bool>) {
        let mut vacant = self.active().is_none();
        for key in self.family.clone() {
            let waits = matches!(key.stage, Stage::Pending | Stage::Ready);
            match (key.stage, seen(&key.selector)) {
                (_, Some(true)) if waits && vacant => {
                    vacant = false;
                    self.to(
                        key,
                        Stage::Active,
                        "its record was seen in DNS, and no other key of its kind signs",
                    );
                }
                (Stage::Pending, Some(true)) => self.to(key, Stage::Ready, "its record was seen in DNS"),
                (Stage::Ready, Some(false)) => {
                    self.to(key, Stage::Pending, "its record is no longer in DNS");
                }
                (
                    Stage::Pending | Stage::Ready | Stage::Active | Stage::Retiring | Stage::Retired,
                    Some(_) | None,
                ) => {}
            }
        }
    }

    /// The successor of the active key, if one is wanted: it takes over, or is made.
    fn renew(&mut self, seen: &dyn Fn(&str) -> Option<bool>) {
        let Some(active) = self.active() else { return };
        let age = active.since.map_or(Duration::ZERO, |since| self.now.since(since));
        let due = !self.policy.rotate_after.is_zero() && age >= self.policy.rotate_after;
        let named = |key: &Key| key.replaces.as_ref() == Some(&active.selector);
        let waits = |key: &&&Key| matches!(key.stage, Stage::Pending | Stage::Ready) && (due || named(key));
        let settled = |key: &&Key| {
            key.since.is_some_and(|since| self.now.since(since) >= SETTLED) && key.stage == Stage::Ready
        };
        let mut successors = self.family.iter().filter(waits).copied().peekable();
        if successors.peek().is_none() {
            if due {
                let make =
                    successor(self.domain, self.keys, active, "the active key has reached rotate_after");
                self.next.makes.push(make);
            }
            return;
        }
        let Some(key) = successors.find(|key| settled(key) && seen(&key.selector) == Some(true)) else {
            return;
        };
        self.take_over(key);
    }

    fn take_over(&mut self, key: &Key) {
        self.to(key, Stage::Active, "its record has been in DNS for a day: it takes its predecessor's place");
        for old in self.family.clone().into_iter().filter(|old| old.stage == Stage::Active) {
            self.to(old, Stage::Retiring, format!("{} signs in its place", key.selector));
        }
    }

    fn retire(&mut self) {
        let kept = self.policy.give_up.saturating_add(KEPT);
        for key in self.family.clone() {
            let over = key.since.is_some_and(|since| self.now.since(since) >= kept);
            if key.stage == Stage::Retiring && over {
                self.to(key, Stage::Retired, "no mail that it signed is on its way any more");
            }
        }
    }
}

/// The moves by which a key starts to sign now, and the one that signed so far stops.
#[must_use]
pub fn activate(domain: &Domain, keys: &[Key], selector: &str) -> Vec<Move> {
    let policy = Lifecycle { give_up: Duration::ZERO, rotate_after: Duration::ZERO };
    let Some(key) = keys.iter().find(|key| key.selector == selector) else { return Vec::new() };
    let family =
        keys.iter().filter(|other| is_rsa(other) == is_rsa(key) && other.selector != selector).collect();
    let mut walk = Walk { domain, keys, family, policy: &policy, now: Time(0), next: Next::default() };
    walk.take_over(key);
    for step in &mut walk.next.moves {
        if step.selector == selector {
            "an administrator activated it".clone_into(&mut step.why);
        }
    }
    walk.next.moves
}

/// Whether no other key could sign in its place: one that signs or may come to, and RSA where it is RSA, since few receivers
/// know anything else.
#[must_use]
pub fn is_last(keys: &[Key], key: &Key) -> bool {
    let lives = |stage: Stage| match (stage, key.stage) {
        (Stage::Active, _) => true,
        // While one signs, one that waits is no replacement.
        (Stage::Pending | Stage::Ready, stage) => stage != Stage::Active,
        (Stage::Retiring | Stage::Retired, _) => false,
    };
    let others = keys.iter().filter(|other| other.selector != key.selector && lives(other.stage));
    !others.into_iter().any(|other| is_rsa(other) || !is_rsa(key))
}

/// The key to make in `active`'s place: of the same kind, at the other of its two selectors.
#[must_use]
pub fn successor(domain: &Domain, keys: &[Key], active: &Key, why: &str) -> Make {
    Make {
        domain: domain.clone(),
        selector: free_selector(keys, active.public.algorithm),
        kind: kind_like(active.public.algorithm),
        replaces: Some(active.selector.clone()),
        why: why.to_owned(),
    }
}

/// The selector for a domain's next key: `wx1` and `wx2` in turn for RSA, `wxe1` and `wxe2` for Ed25519, whichever is free or
/// a retired key's; then `wx3` and so on.
#[must_use]
pub fn free_selector(keys: &[Key], algorithm: Algorithm) -> String {
    let stem = match algorithm {
        Algorithm::Rsa(_) => "wx",
        Algorithm::Ed25519 => "wxe",
    };
    let taken = |name: &str| {
        keys.iter().any(|key| key.selector.eq_ignore_ascii_case(name) && key.stage != Stage::Retired)
    };
    let mut number = 1_u32;
    loop {
        let name = format!("{stem}{number}");
        if !taken(&name) {
            return name;
        }
        number = number.saturating_add(1);
    }
}

/// RSA of odd sizes is renewed with the next usual one.
fn kind_like(algorithm: Algorithm) -> Kind {
    match algorithm {
        Algorithm::Rsa(..=2048) => Kind::Rsa2048,
        Algorithm::Rsa(..=3072) => Kind::Rsa3072,
        Algorithm::Rsa(_) => Kind::Rsa4096,
        Algorithm::Ed25519 => Kind::Ed25519,
    }
}

#[cfg(test)]
mod tests;
