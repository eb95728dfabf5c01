//! One question of the survey, which may take several lookups: their smallest TTL is how long the answer holds. Name servers
//! rotate records of equal rank, and that is no news: every answer is sorted where it is taken.

use std::net::IpAddr;
use std::time::Duration;

use super::{Asked, HOLDS_MAX, NOTHING_HOLDS_MAX};
use crate::dns::{Answer, Family, Mx, Resolver, Silent, Standing, Text};
use crate::seal::facts::Silence;

/// Asks, and keeps count of what the answers add up to.
pub(in crate::seal) struct Asker {
    resolver: Resolver,
    holds: Duration,
    silence: Vec<Silence>,
}

impl Asker {
    pub(super) fn new(fresh: &Resolver) -> Self {
        Self { resolver: fresh.clone(), holds: HOLDS_MAX, silence: Vec::new() }
    }

    /// Whether DNS kept anything back.
    pub(super) fn is_silent(&self) -> bool {
        !self.silence.is_empty()
    }

    /// Writes down a silence that came another way.
    pub(super) fn silent(&mut self, question: String, why: String) {
        self.silence.push(Silence { question, why });
    }

    pub(super) fn done<T>(self, value: Option<T>) -> Asked<T> {
        Asked { value, holds: self.holds, silence: self.silence }
    }

    /// Takes over what another's answers add up to.
    pub(super) fn joined(&mut self, other: Self) {
        self.holds = self.holds.min(other.holds);
        self.silence.extend(other.silence);
    }

    pub(in crate::seal) async fn text(&mut self, name: &str) -> Option<Text> {
        let told =
            self.resolver.text(name).await.map(|answer| sorted(answer, |text| text.records.sort_unstable()));
        self.heard(name, "TXT", told, |text| text.records.is_empty())
    }

    pub(super) async fn text_or_alias(&mut self, name: &str) -> Option<Text> {
        let told = self.resolver.text_or_alias(name).await;
        let told = told.map(|answer| sorted(answer, |text| text.records.sort_unstable()));
        self.heard(name, "TXT", told, |text| text.records.is_empty())
    }

    pub(in crate::seal) async fn exchange(&mut self, name: &str) -> Option<Mx> {
        let told = self.resolver.exchange(name).await.map(|answer| sorted(answer, by_rank));
        self.heard(name, "MX", told, |mx| *mx == Mx::Implicit)
    }

    pub(in crate::seal) async fn hosts(&mut self, name: &str, family: Family) -> Option<Vec<IpAddr>> {
        let told = self
            .resolver
            .hosts(name, family)
            .await
            .map(|answer| sorted(answer, |hosts| hosts.sort_unstable()));
        let kind = match family {
            Family::V4 => "A",
            Family::V6 => "AAAA",
        };
        self.heard(name, kind, told, Vec::is_empty)
    }

    pub(in crate::seal) async fn pointers(&mut self, address: IpAddr) -> Option<Vec<String>> {
        let told =
            self.resolver.pointers(address).await.map(|answer| sorted(answer, |names| names.sort_unstable()));
        self.heard(&address.to_string(), "PTR", told, Vec::is_empty)
    }

    pub(super) async fn standing(&mut self, name: &str) -> Option<Standing> {
        let told = self.resolver.standing(name).await;
        self.heard(name, "SOA", told, |standing| *standing == Standing::Absent)
    }

    fn heard<T>(
        &mut self,
        name: &str,
        kind: &str,
        told: Result<Answer<T>, Silent>,
        nothing: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        match told {
            Ok(answer) => {
                let most = if nothing(&answer.value) { NOTHING_HOLDS_MAX } else { HOLDS_MAX };
                self.holds = self.holds.min(answer.ttl).min(most);
                Some(answer.value)
            }
            Err(Silent(why)) => {
                self.silence.push(Silence { question: format!("{name} {kind}"), why });
                None
            }
        }
    }
}

fn sorted<T>(mut answer: Answer<T>, sort: impl FnOnce(&mut T)) -> Answer<T> {
    sort(&mut answer.value);
    answer
}

fn by_rank(mx: &mut Mx) {
    match mx {
        Mx::Exchangers(list) => {
            list.sort_unstable_by(|one, other| {
                (one.preference, &one.host).cmp(&(other.preference, &other.host))
            });
        }
        Mx::Null | Mx::Implicit => {}
    }
}
