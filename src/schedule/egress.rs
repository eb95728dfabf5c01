//! Which of our IPv6 addresses a mail's sender does not name in SPF: receivers are strictest with IPv6, so it leaves from them only
//! where there is no other way.

use std::net::IpAddr;

use super::Parts;
use crate::mail::address::Address;
use crate::mail::message::Facts;
use crate::seal::facts::SpfResult;

/// Those of which DNS says that the sender's SPF does not pass. What is not known counts as named.
pub(super) fn unnamed(parts: &Parts, facts: &Facts) -> Vec<IpAddr> {
    let config = parts.config.load();
    let six = || config.delivery.sources.iter().copied().filter(IpAddr::is_ipv6);
    if six().next().is_none() {
        return Vec::new();
    }
    let sender = facts.return_path.as_ref().or(facts.envelope.from.as_ref()).map(Address::domain);
    let Some(picture) = sender.and_then(|sender| parts.outlook.picture(sender)) else { return Vec::new() };
    let Some(spf) = picture.spf.as_ref().map(|known| &known.value) else { return Vec::new() };
    let says = |address: &IpAddr| spf.results.iter().find(|(ours, _)| ours == address).map(|(_, says)| *says);
    six().filter(|address| says(address).is_some_and(is_refusal)).collect()
}

fn is_refusal(says: SpfResult) -> bool {
    match says {
        SpfResult::Fail
        | SpfResult::SoftFail
        | SpfResult::Neutral
        | SpfResult::None
        | SpfResult::PermError => true,
        SpfResult::Pass | SpfResult::TempError => false,
    }
}
