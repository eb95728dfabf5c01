//! Logins at upstreams. A provider locks an account whose password is wrong too often, so nobody may knock while somebody else
//! is finding out: logins to one account take turns, and one that was refused is not tried again before its time, whoever asks.
//!
//! What is known of an account is kept by everything that makes it (`UpstreamKey`: tenant, host, credentials), so a new password
//! starts afresh. A reload forgets all of it: a person has done something.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::outcome::{Permanence, Trouble};
use super::pool::UpstreamKey;
use crate::mail::attempt::Login;

/// How long a refused password is left alone: the strictest lock-outs known count ten failures in ten minutes.
const REFUSED: Duration = Duration::from_secs(5 * 60);
/// The longest such wait.
const REFUSED_MAX: Duration = Duration::from_secs(4 * 60 * 60);
/// How long a login that failed for now (454) is left alone.
const BUSY: Duration = Duration::from_secs(30);
/// The longest such wait.
const BUSY_MAX: Duration = Duration::from_secs(15 * 60);

/// The accounts known.
#[derive(Debug, Default)]
pub(super) struct Accounts(Mutex<HashMap<UpstreamKey, Arc<tokio::sync::Mutex<Standing>>>>);

/// How an account stands.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Whether the last login was accepted.
    good: bool,
    /// Failures of one kind in a row: six times busy is no wrong password.
    failures: u32,
    shut: Option<Shut>,
}

/// Why nobody logs in now.
#[derive(Clone, Debug)]
struct Shut {
    until: Instant,
    trouble: Trouble,
}

/// Somebody's turn to log in: nobody else does until it is dropped.
pub(super) struct Turn(OwnedMutexGuard<Standing>);

impl Accounts {
    /// A turn to log in, once nobody else is about to.
    ///
    /// # Errors
    /// The account was found shut: what the upstream said then, and how the login counts.
    pub(super) async fn turn(&self, key: &UpstreamKey) -> Result<Turn, (Trouble, Login)> {
        let account = self.account(key);
        let turn = Turn(account.lock_owned().await);
        turn.0.check(Instant::now())?;
        Ok(turn)
    }

    /// Before connecting. An account whose credentials are not yet known to be good is tried by one at a time, from the
    /// connection on, and the others wait for what comes of it; a good one takes turns at AUTH only.
    ///
    /// # Errors
    /// As `turn`: an account that is shut now is not knocked at.
    pub(super) async fn enter(&self, key: &UpstreamKey) -> Result<Option<Turn>, (Trouble, Login)> {
        let turn = self.turn(key).await?;
        Ok((!turn.0.good).then_some(turn))
    }

    /// A person has done something: everything is tried anew.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn account(&self, key: &UpstreamKey) -> Arc<tokio::sync::Mutex<Standing>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(key.clone()).or_default())
    }
}

impl Turn {
    /// The upstream took the credentials.
    pub(super) fn accepted(mut self) {
        *self.0 = Standing { good: true, ..Standing::default() };
    }

    /// It did not: how the login counts.
    pub(super) fn failed(mut self, trouble: &Trouble) -> Login {
        self.0.fail(trouble.clone(), Instant::now())
    }
}

impl Standing {
    fn check(&self, now: Instant) -> Result<(), (Trouble, Login)> {
        match &self.shut {
            Some(shut) if now < shut.until => Err((shut.trouble.clone(), login(shut, now))),
            Some(_) | None => Ok(()),
        }
    }

    fn fail(&mut self, trouble: Trouble, now: Instant) -> Login {
        let other = |shut: &Shut| shut.trouble.permanence != trouble.permanence;
        if self.shut.as_ref().is_some_and(other) {
            self.failures = 0;
        }
        let wait = wait(trouble.permanence, self.failures);
        self.good = false;
        self.failures = self.failures.saturating_add(1);
        let shut = Shut { until: now + wait, trouble };
        let login = login(&shut, now);
        self.shut = Some(shut);
        login
    }
}

fn login(shut: &Shut, now: Instant) -> Login {
    match shut.trouble.permanence {
        Permanence::Permanent => Login::Refused { again: shut.until.saturating_duration_since(now) },
        Permanence::Transient => Login::None,
    }
}

/// Doubles with every failure.
fn wait(permanence: Permanence, failures: u32) -> Duration {
    let (first, most) = match permanence {
        Permanence::Permanent => (REFUSED, REFUSED_MAX),
        Permanence::Transient => (BUSY, BUSY_MAX),
    };
    first.saturating_mul(2u32.saturating_pow(failures.min(16))).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::outcome::Scope;
    use crate::mail::reply::PeerReply;

    fn trouble(code: u16) -> Trouble {
        Trouble::replied(Scope::Session, PeerReply { code, enhanced: None, text: b"no".to_vec() })
    }

    #[test]
    fn a_shut_account_is_left_alone_for_longer_and_longer() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let rows = [
            (535, 0, minutes(5), "the first"),
            (535, 1, minutes(10), "and twice as long"),
            (535, 30, minutes(240), "a few times a day at last"),
            (454, 0, Duration::from_secs(30), "it passes"),
            (454, 30, minutes(15), "and is asked for again within the quarter of an hour"),
        ];
        for (code, failures, expected, why) in rows {
            let (mut standing, now) = (Standing { failures, ..Standing::default() }, Instant::now());
            let login = standing.fail(trouble(code), now);
            assert_eq!(matches!(login, Login::Refused { .. }), code == 535, "{why}");
            assert!(standing.check(now + expected - Duration::from_secs(1)).is_err(), "{why}");
            assert!(standing.check(now + expected).is_ok(), "{why}");
        }
    }

    #[test]
    fn a_refusal_after_busy_answers_is_the_first_refusal() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        for code in [454, 454, 454, 454, 454, 454, 535] {
            standing.fail(trouble(code), now);
        }
        assert!(standing.check(now + REFUSED).is_ok(), "five minutes, as after any first refusal");
        standing.fail(trouble(454), now);
        assert!(standing.check(now + BUSY).is_ok(), "and the other way round");
    }
}
