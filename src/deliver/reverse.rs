//! Whether an IPv6 address of ours leads back to itself: from its reverse record to a name, and from there to the address. Google
//! and others refuse IPv6 mail where it does not (support.google.com/a/answer/81126). Looked up beside deliveries, never by one: what is
//! not known yet, and what DNS does not say, counts as good.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::dns::{Failure, Resolver};

/// What was found is believed for so long.
const BELIEVED: Duration = Duration::from_secs(15 * 60);

/// What is known of our addresses.
#[derive(Debug, Default)]
pub(super) struct Reverse(Mutex<HashMap<IpAddr, Known>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    good: Option<bool>,
    /// When it is looked up again.
    again: Instant,
}

impl Reverse {
    /// Whether it leads back, as far as is known; has it looked up if that is not known, or too old.
    pub(super) fn leads_back(self: &Arc<Self>, resolver: &Resolver, address: IpAddr) -> Option<bool> {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(address).or_insert(Known { good: None, again: now });
        if known.again <= now {
            // Nobody else asks meanwhile.
            known.again = now + BELIEVED;
            let (this, resolver) = (Arc::clone(self), resolver.clone());
            tokio::spawn(async move {
                let found = look(&resolver, address).await;
                let mut all = this.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.entry(address).and_modify(|known| known.good = found.or(known.good));
            });
        }
        known.good
    }
}

/// `None`: DNS does not say.
async fn look(resolver: &Resolver, address: IpAddr) -> Option<bool> {
    let names = match resolver.names_of(address).await {
        Ok(names) => names,
        Err(Failure::NoSuchName | Failure::NoRecords) => return Some(false),
        Err(Failure::Transient(_)) => return None,
    };
    let mut silent = false;
    for name in names {
        match resolver.addresses(&name).await {
            Ok(addresses) if addresses.contains(&address) => return Some(true),
            Ok(_) | Err(Failure::NoSuchName | Failure::NoRecords) => {}
            Err(Failure::Transient(_)) => silent = true,
        }
    }
    if silent { None } else { Some(false) }
}
