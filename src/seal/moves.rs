//! Keys move along by what was seen of them in DNS: `lifecycle` says how, this does it, in the files beside the keys.

use super::KeyError;
use super::dkim_record;
use super::facts::Picture;
use super::keyring::{Key, Keyring};
use super::lifecycle::{Lifecycle, Next, advance};
use super::outlook::Outlook;
use super::stages;
use crate::config::Config;
use crate::mail::address::Domain;
use crate::mail::time::Time;

/// What came of it.
pub struct Moved {
    /// The keys as the files now have them.
    pub keyring: Keyring,
    /// What was done, a sentence each.
    pub said: Vec<String>,
}

impl Outlook {
    /// Does what is due; `None`: nothing was. Blocks: it makes keys and writes files.
    ///
    /// # Errors
    /// The first file that could not be written or read; what was done before it stays done.
    pub fn move_keys(
        &self,
        config: &Config,
        keyring: &Keyring,
        now: Time,
    ) -> Result<Option<Moved>, KeyError> {
        let policy = Lifecycle { give_up: config.delivery.give_up, rotate_after: config.seal.rotate_after };
        let mut said = Vec::new();
        for domain in keyring.domains() {
            let Some(picture) = self.picture(domain) else { continue };
            let keys = keyring.keys(domain);
            let next = advance(domain, keys, &|selector| seen(&picture, keys, selector), &policy, now);
            said.extend(carry_out(config, domain, &next, now)?);
        }
        if said.is_empty() {
            return Ok(None);
        }
        Ok(Some(Moved { keyring: Keyring::load(&config.keys)?, said }))
    }
}

fn carry_out(config: &Config, domain: &Domain, next: &Next, now: Time) -> Result<Vec<String>, KeyError> {
    let mut said = Vec::new();
    if !next.moves.is_empty() {
        stages::settle(&config.keys, domain, &next.moves, now)?;
        let line =
            |step: &stages::Move| format!("{} of {domain} is {}: {}", step.selector, step.to, step.why);
        said.extend(next.moves.iter().map(line));
    }
    for order in &next.makes {
        stages::make(&config.keys, order, now)?;
        said.push(format!(
            "{} of {domain} was made: {}; publish it: waxseal domain dns {domain}",
            order.selector, order.why
        ));
    }
    Ok(said)
}

/// Whether the record at a selector has our key's octets; `None`: DNS does not say.
fn seen(picture: &Picture, keys: &[Key], selector: &str) -> Option<bool> {
    let known = picture.keys.get(selector)?.as_ref()?;
    let key = keys.iter().find(|key| key.selector == selector)?;
    Some(dkim_record::read(&known.value, &key.public).verifies())
}
