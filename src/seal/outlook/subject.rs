//! Whose mail is judged, and by which domain it is signed.

use std::sync::Arc;

use crate::mail::address::{Address, Domain};
use crate::mail::message::Facts;
use crate::seal::keyring::Keyring;
use crate::tenant::{OwnedDomain, Tenant};

/// Whose mail is judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its tenant: the route says whether the last hop is ours.
    pub tenant: &'a Arc<Tenant>,
    /// The From domain of the tenant that covers the author.
    pub own: &'a OwnedDomain,
    /// The author's domain: that one, or a name below it.
    pub author: &'a Domain,
    /// The domain of the reverse-path as next hops see it; `None`: the null one.
    pub sender: Option<&'a Domain>,
}

impl<'a> Subject<'a> {
    /// That of a message that was accepted; `None`: its author is no longer the tenant's.
    #[must_use]
    pub fn of(tenant: &'a Arc<Tenant>, facts: &'a Facts) -> Option<Self> {
        let author = facts.from_domain()?;
        let own = tenant.owns(author)?;
        let sender = facts.return_path.as_ref().or(facts.envelope.from.as_ref()).map(Address::domain);
        Some(Self { tenant, own, author, sender })
    }
}

/// The domain in `d=`: the author's own where it has keys, else the tenant's domain above it.
#[must_use]
pub fn signer<'a>(subject: &Subject<'a>, keyring: &Keyring) -> &'a Domain {
    if keyring.keys(subject.author).is_empty() { &subject.own.name } else { subject.author }
}
