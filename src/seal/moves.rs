//! Keys move along by what was seen of them in DNS: `lifecycle` says how, this does it, in the files beside the keys.

use super::KeyError;
use super::dkim_record;
use super::facts::{KeyAnswer, Known, Picture};
use super::keyring::{Key, Keyring};
use super::lifecycle::{Lifecycle, Next, advance};
use super::outlook::Outlook;
use super::stages;
use crate::config::Config;
use crate::mail::address::Domain;
use crate::mail::time::Time;

/// What came of it.
pub struct Moved {
    /// The keys as the files now have them; `None`: nothing changed.
    pub keyring: Option<Keyring>,
    /// What was done, a sentence each.
    pub said: Vec<String>,
    /// What could not be done, by domain.
    pub failed: Vec<(Domain, KeyError)>,
}

impl Outlook {
    /// Does what is due. Blocks: it makes keys and writes files. Trouble with one domain keeps no other from moving on.
    pub fn move_keys(&self, config: &Config, keyring: &Keyring, now: Time) -> Moved {
        let policy = Lifecycle { give_up: config.delivery.give_up, rotate_after: config.seal.rotate_after };
        let mut moved = Moved { keyring: None, said: Vec::new(), failed: Vec::new() };
        for domain in keyring.domains() {
            let Some(picture) = self.picture(domain) else { continue };
            let keys = keyring.keys(domain);
            let sight = |selector: &str| seen((&picture, now), keys, selector);
            let next = advance(domain, keys, &sight, &policy, now);
            if next == Next::default() {
                continue;
            }
            let done = carry_out(config, domain, &next, now, &mut moved.said);
            // Also where a key was not what it was thought to be: the files know better.
            let ring = moved.keyring.as_ref().unwrap_or(keyring).with_domain(&config.keys, domain);
            let failed = match (done, ring) {
                (done, Ok(ring)) => {
                    moved.keyring = Some(ring);
                    done.err()
                }
                (Ok(()), Err(error)) | (Err(error), Err(_)) => Some(error),
            };
            moved.failed.extend(failed.map(|error| (domain.clone(), error)));
        }
        moved
    }
}

/// Says what it has done, also where the next step then fails.
fn carry_out(
    config: &Config,
    domain: &Domain,
    next: &Next,
    now: Time,
    said: &mut Vec<String>,
) -> Result<(), KeyError> {
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
    Ok(())
}

/// Whether the record at a selector has our key's octets; `None`: DNS did not say at the last look, or that was so long ago that
/// it has to be asked again, as after days in which the relay was down. What it said before moves no key.
fn seen((picture, now): (&Picture, Time), keys: &[Key], selector: &str) -> Option<bool> {
    let fresh = |known: &&Known<KeyAnswer>| known.seen >= picture.looked && now <= known.until;
    let known = picture.keys.get(selector)?.as_ref().filter(fresh)?;
    let key = keys.iter().find(|key| key.selector == selector)?;
    Some(dkim_record::read(&known.value, &key.public).verifies())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::clock::Clock;
    use crate::dns::Resolver;
    use crate::seal::keys::Kind;
    use crate::seal::stages::{Make, Move, Stage};

    const NOW: Time = Time(1_800_000_000_000);

    struct Scene {
        dir: tempfile::TempDir,
        config: Config,
        outlook: Outlook,
    }

    impl Scene {
        /// Domains with a key at wx1 each, which DNS has.
        fn new(names: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mut config = Config::new("relay.example".parse().unwrap(), dir.path());
            config.keys = dir.path().join("keys");
            config.dns.servers = vec!["127.0.0.1:9".parse().unwrap()];
            let outlook = Outlook::new(Resolver::new(&config.dns).unwrap(), Clock::System);
            let new = Self { dir, config, outlook };
            for name in names {
                let order = Make {
                    domain: name.parse().unwrap(),
                    selector: "wx1".to_owned(),
                    kind: Kind::Ed25519,
                    replaces: None,
                    why: String::new(),
                };
                let record = stages::make(&new.config.keys, &order, NOW).unwrap().record();
                new.published(name, record, NOW);
            }
            new
        }

        fn published(&self, name: &str, record: String, looked: Time) {
            let mut picture = Picture::blank(name.parse().unwrap());
            let value = KeyAnswer { alias: None, records: vec![record] };
            picture.keys.insert("wx1".to_owned(), Some(Known { value, seen: NOW, until: NOW }));
            picture.looked = looked;
            self.outlook.recall([picture], |_| false);
        }

        fn ring(&self) -> Keyring {
            Keyring::load(&self.config.keys).unwrap()
        }

        fn pem(&self, name: &str) -> PathBuf {
            self.dir.path().join("keys").join(name).join("wx1.pem")
        }

        fn move_keys(&self, ring: &Keyring) -> Moved {
            self.outlook.move_keys(&self.config, ring, NOW)
        }
    }

    fn stage(ring: &Keyring, name: &str) -> Stage {
        ring.keys(&name.parse().unwrap())[0].stage
    }

    #[tokio::test]
    async fn a_domain_in_trouble_keeps_no_other_from_moving() {
        let scene = Scene::new(&["a.example", "b.example", "c.example"]);
        let ring = scene.ring();
        std::fs::write(scene.pem("b.example"), "no key").unwrap();
        let moved = scene.move_keys(&ring);
        let failed: Vec<&str> = moved.failed.iter().map(|(domain, _)| domain.as_str()).collect();
        assert_eq!(failed, ["b.example"]);
        assert_eq!(moved.said.len(), 2, "{:?}", moved.said);
        let after = moved.keyring.unwrap();
        assert_eq!(stage(&after, "a.example"), Stage::Active);
        assert_eq!(stage(&after, "b.example"), Stage::Pending, "as it was: what signs goes on signing");
        assert_eq!(stage(&after, "c.example"), Stage::Active);
        let again = scene.move_keys(&after);
        assert!(again.said.is_empty(), "what was done is known: {:?}", again.said);
    }

    #[tokio::test]
    async fn a_key_that_somebody_else_moved_is_read_again() {
        let scene = Scene::new(&["a.example"]);
        let ring = scene.ring();
        let step = Move {
            domain: "a.example".parse().unwrap(),
            selector: "wx1".to_owned(),
            from: Stage::Pending,
            to: Stage::Active,
            why: "an administrator activated it".to_owned(),
        };
        stages::settle(&scene.config.keys, &step.domain, std::slice::from_ref(&step), NOW).unwrap();
        let moved = scene.move_keys(&ring);
        assert!(matches!(moved.failed.as_slice(), [(_, KeyError::Changed { .. })]), "{:?}", moved.failed);
        let after = moved.keyring.unwrap();
        assert_eq!(stage(&after, "a.example"), Stage::Active);
        let again = scene.move_keys(&after);
        assert!(again.failed.is_empty() && again.keyring.is_none(), "{:?}", again.failed);
    }

    #[tokio::test]
    async fn what_was_seen_before_a_silence_moves_no_key() {
        let rows = [
            (NOW, Stage::Active, "seen at the last look"),
            (NOW.after(std::time::Duration::from_secs(60)), Stage::Pending, "silent at the last look"),
        ];
        for (looked, wanted, why) in rows {
            let scene = Scene::new(&["a.example"]);
            let ring = scene.ring();
            let record = ring.keys(&"a.example".parse().unwrap())[0].public.record();
            scene.published("a.example", record, looked);
            let after = scene.move_keys(&ring).keyring.unwrap_or(ring);
            assert_eq!(stage(&after, "a.example"), wanted, "{why}");
        }
    }

    /// The relay was down, and DNS is slow when it starts: what it knew from before would have made a key sign, and another one
    /// retire, whose record may have been withdrawn meanwhile.
    #[tokio::test]
    async fn what_was_remembered_over_days_moves_no_key() {
        let scene = Scene::new(&["a.example"]);
        let ring = scene.ring();
        let later = NOW.after(std::time::Duration::from_secs(3 * 86_400));
        let moved = scene.outlook.move_keys(&scene.config, &ring, later);
        assert!(moved.keyring.is_none() && moved.said.is_empty(), "{:?}", moved.said);
        let at_once = scene.move_keys(&ring).keyring.unwrap();
        assert_eq!(stage(&at_once, "a.example"), Stage::Active, "while it holds, it does");
    }
}
