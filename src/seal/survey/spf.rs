//! SPF of a name: mail-auth evaluates it for each address that our mail leaves from, and a walk over all that it includes counts
//! what that costs (RFC 7208 section 4.6.4) and finds what a strict receiver would not read.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use mail_auth::MessageAuthenticator;
use mail_auth::spf::verify::SpfParameters;

use super::super::facts::{Known, SpfAnswer, SpfFault, SpfResult};
use super::super::spf::{Reading, Term, is_spf, read};
use super::Ask;
use crate::dns::{Failure, Said};

/// Terms followed before the walk is given up: far more than the ten that receivers follow.
const LOOKUPS_MAX: u32 = 30;
/// Includes within includes.
const DEPTH_MAX: usize = 10;
/// RFC 7208 section 4.6.4: exchangers of one `mx`.
const EXCHANGERS_MAX: usize = 10;
/// Lines of the tree that a person is shown.
const TREE_MAX: usize = 60;

impl Ask<'_> {
    pub(super) async fn spf(&self) -> Result<Known<SpfAnswer>, Failure> {
        let name = self.wanted.domain.as_str();
        let Said { value, ttl } = self.within(self.resolver.texts(name)).await?;
        let records: Vec<String> = value.records.into_iter().filter(|text| is_spf(text)).collect();
        let mut walk = Walk { ask: self, answer: SpfAnswer::default(), path: HashSet::new(), least: ttl };
        self.within(walk.records(name, &records, 0)).await?;
        let Walk { mut answer, least, .. } = walk;
        answer.results = self.within(self.results()).await?;
        answer.records = records;
        Ok(self.known(answer, least))
    }

    /// What receivers compute for each address. An answer that DNS owed is silence, not a result.
    async fn results(&self) -> Result<Vec<(IpAddr, SpfResult)>, Failure> {
        let authenticator = MessageAuthenticator(self.resolver.hickory_fresh().clone());
        let (name, host) = (self.wanted.domain.as_str(), self.wanted.hostname.as_str());
        let sender = format!("postmaster@{name}");
        let mut results = Vec::new();
        for address in &self.wanted.egress {
            let asked = SpfParameters::verify_mail_from(*address, host, host, &sender);
            let result = result(authenticator.verify_spf(asked).await.result());
            if result == SpfResult::TempError {
                return Err(Failure::Transient("SPF could not be evaluated".to_owned()));
            }
            results.push((*address, result));
        }
        Ok(results)
    }
}

fn result(result: mail_auth::SpfResult) -> SpfResult {
    match result {
        mail_auth::SpfResult::Pass => SpfResult::Pass,
        mail_auth::SpfResult::Fail => SpfResult::Fail,
        mail_auth::SpfResult::SoftFail => SpfResult::SoftFail,
        mail_auth::SpfResult::Neutral => SpfResult::Neutral,
        mail_auth::SpfResult::None => SpfResult::None,
        mail_auth::SpfResult::PermError => SpfResult::PermError,
        mail_auth::SpfResult::TempError => SpfResult::TempError,
    }
}

/// A walk over a record and all that it leads to.
struct Walk<'a, 'b> {
    ask: &'a Ask<'b>,
    answer: SpfAnswer,
    /// The names being read, to see a loop.
    path: HashSet<String>,
    least: Duration,
}

impl Walk<'_, '_> {
    fn fault(&mut self, name: &str, what: impl Into<String>) {
        self.answer.faults.push(SpfFault { name: name.to_owned(), what: what.into() });
    }

    fn line(&mut self, depth: usize, text: &str) {
        if self.answer.tree.len() < TREE_MAX {
            self.answer.tree.push(format!("{}{text}", "  ".repeat(depth)));
        }
    }

    /// Reads the records of a name and follows their terms.
    async fn records(&mut self, name: &str, records: &[String], depth: usize) -> Result<(), Failure> {
        for record in records {
            self.line(depth, &format!("{name}: {record}"));
        }
        if records.len() > 1 {
            self.fault(name, format!("it has {} SPF records, where only one may be", records.len()));
        }
        let Some(record) = records.first() else { return Ok(()) };
        let Reading { terms, faults, .. } = read(record);
        for what in faults {
            self.fault(name, what);
        }
        let here = name.to_ascii_lowercase();
        self.path.insert(here.clone());
        for term in terms {
            self.answer.lookups += 1;
            if self.answer.lookups > LOOKUPS_MAX {
                break;
            }
            self.term(name, &term, depth).await?;
        }
        self.path.remove(&here);
        Ok(())
    }

    async fn term(&mut self, name: &str, term: &Term, depth: usize) -> Result<(), Failure> {
        match term {
            Term::Include(to) | Term::Redirect(to) => self.follow(name, to, depth + 1).await,
            Term::A(to) => {
                let host = to.as_deref().unwrap_or(name);
                if has_macro(host) {
                    return Ok(());
                }
                let said = self.ask.resolver.addresses_now(host).await?;
                self.least = self.least.min(said.ttl);
                self.count_void(said.value.is_empty(), depth, &format!("a:{host}"));
                Ok(())
            }
            Term::Mx(to) => self.exchangers(name, to.as_deref().unwrap_or(name), depth).await,
            Term::Exists(_) | Term::Ptr => Ok(()),
        }
    }

    async fn exchangers(&mut self, name: &str, host: &str, depth: usize) -> Result<(), Failure> {
        if has_macro(host) {
            return Ok(());
        }
        let said = self.ask.resolver.exchangers(host).await?;
        self.least = self.least.min(said.ttl);
        self.count_void(said.value.is_empty(), depth, &format!("mx:{host}"));
        if said.value.len() > EXCHANGERS_MAX {
            self.fault(name, format!("`mx` of {host} has {} exchangers, more than ten", said.value.len()));
        }
        Ok(())
    }

    fn count_void(&mut self, is_void: bool, depth: usize, what: &str) {
        let shown = if is_void { format!("{what} (finds nothing)") } else { what.to_owned() };
        self.line(depth + 1, &shown);
        self.answer.voids += u32::from(is_void);
    }

    /// Another name's record. One that is not there is a permerror (section 5.2), one that leads back too.
    async fn follow(&mut self, name: &str, to: &str, depth: usize) -> Result<(), Failure> {
        if has_macro(to) {
            self.line(depth, &format!("{to}: depends on the message"));
            return Ok(());
        }
        if self.path.contains(&to.trim_end_matches('.').to_ascii_lowercase()) || depth > DEPTH_MAX {
            self.fault(name, format!("`include:{to}` leads in a circle"));
            return Ok(());
        }
        let Said { value, ttl } = self.ask.resolver.texts(to).await?;
        self.least = self.least.min(ttl);
        self.answer.voids += u32::from(value.records.is_empty());
        let records: Vec<String> = value.records.into_iter().filter(|text| is_spf(text)).collect();
        if records.is_empty() {
            self.line(depth, &format!("{to}: no SPF record"));
            self.fault(name, format!("`include:{to}`: there is no SPF record at {to}"));
            return Ok(());
        }
        Box::pin(self.records(to, &records, depth)).await
    }
}

fn has_macro(text: &str) -> bool {
    text.contains('%')
}
