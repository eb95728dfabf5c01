//! The transactions of an attempt over one connection: drives `conversation` until every open recipient has had its
//! RCPT, and tells the ledger each fate as its reply arrives.

use std::time::Duration;

use tokio::time::Instant;

use super::Attempt;
use super::conversation::{Await, Conversation, RECIPIENTS_MAX, Step, Verdict};
use super::driver::{Broken, Connection};
use super::ledger::{Ledger, millis};
use super::outcome::{Next, Scope, Trouble};
use super::pool::Key;
use super::sign;
use crate::failpoint::{self, Failpoint};
use crate::mail::attempt::Fate;
use crate::mail::reply::PeerReply;

/// How the use of a connection ended.
pub(super) enum Ended {
    /// Everybody is decided, and the connection is kept.
    Done,
    /// A kept connection turned out to be closed before it answered anything: nothing was said, so nothing is lost.
    Stale,
    /// All those left share this.
    Trouble(Trouble),
}

/// How one transaction ended early.
enum Halt {
    Stale,
    Trouble(Trouble),
}

impl Attempt<'_> {
    pub(super) async fn transact(
        &self,
        mut connection: Connection,
        key: &Key,
        ledger: &mut Ledger<'_>,
    ) -> Ended {
        ledger.reached(&connection);
        let began = Instant::now();
        while !ledger.open().is_empty() {
            let ended = self.transaction(&mut connection, ledger, began).await;
            match ended {
                Ok(()) => {}
                Err(Halt::Stale) => return Ended::Stale,
                // Nothing was sent, or the server knows that it is over: a goodbye does no harm.
                Err(Halt::Trouble(trouble)) => {
                    tokio::spawn(connection.quit());
                    return Ended::Trouble(trouble);
                }
            }
        }
        self.keep(connection, key);
        Ended::Done
    }

    /// One transaction, for as many of the undecided as it may hold.
    async fn transaction(
        &self,
        connection: &mut Connection,
        ledger: &mut Ledger<'_>,
        began: Instant,
    ) -> Result<(), Halt> {
        let rcpts: Vec<u16> = ledger.open().iter().take(RECIPIENTS_MAX).copied().collect();
        let offered = connection.extensions.clone();
        let begins = (connection.needs_reset, ledger.now());
        let message = &self.job.message;
        let mut conversation = match Conversation::new(message, &rcpts, &offered, begins) {
            Ok(conversation) => conversation,
            // Another host may carry it.
            Err(trouble) if trouble.next() == Next::AnotherHost => return Err(Halt::Trouble(trouble)),
            Err(trouble) => {
                // The server did nothing wrong; the connection stays good, and the verdict is the whole leg's.
                ledger.close(&trouble);
                return Ok(());
            }
        };
        let mut untouched = connection.messages > 0;
        connection.messages += 1;
        let mut step = Step::Read;
        while step != Step::Over {
            let reply = match self.exchange(connection, &mut conversation, step).await {
                Ok(heard) => heard,
                Err((broken, _)) if untouched && broken.is_gone() => return Err(Halt::Stale),
                Err((broken, awaited)) => {
                    ledger.hop.lost = awaited == Some(Await::Dot);
                    return Err(Halt::Trouble(lost(&broken, awaited)));
                }
            };
            // A kept connection whose first word is 421 was closed while it lay idle; unless it says that we send too much.
            if untouched && reply.code == 421 && sign::excess(ledger.hop.host.as_deref(), &reply).is_none() {
                return Err(Halt::Stale);
            }
            untouched = false;
            let heard = conversation.on_reply(reply);
            ledger.ms.smtp = Some(millis(began.elapsed()));
            let (verdict, next) = heard.map_err(Halt::Trouble)?;
            if let Some(verdict) = verdict {
                tell(ledger, &verdict);
            }
            step = next;
        }
        connection.needs_reset = conversation.needs_reset();
        Ok(())
    }

    /// Writes what the step asks for and reads one reply.
    async fn exchange(
        &self,
        connection: &mut Connection,
        conversation: &mut Conversation<'_>,
        step: Step,
    ) -> Result<PeerReply, (Broken, Option<Await>)> {
        let settings = self.settings;
        let sent = match step {
            Step::Read => {
                let commands = conversation.commands();
                if commands.is_empty() {
                    Ok(())
                } else {
                    connection.send(commands.as_bytes(), settings.command).await
                }
            }
            Step::Body => connection.send_body(&self.job.message.body, settings.data_block).await,
            Step::LoneDot => connection.send(b".\r\n", settings.command).await,
            Step::Over => Ok(()),
        };
        let awaited = conversation.awaited();
        match sent {
            Ok(()) => {}
            // What the server said before it closed tells more than that it closed (RFC 5321 section 3.8).
            Err(broken) if broken.is_gone() => {
                // A refusal only: nothing can be accepted that was not wholly written.
                return match connection.reply(settings.command).await {
                    Ok(reply) if reply.code >= 400 => Ok(reply),
                    Ok(_) | Err(_) => Err((broken, awaited)),
                };
            }
            Err(broken) => return Err((broken, awaited)),
        }
        if awaited == Some(Await::Dot) {
            failpoint::pass(Failpoint::AttemptSent);
        }
        let reply = connection.reply(self.limit(awaited)).await;
        if awaited == Some(Await::Dot) {
            failpoint::pass(Failpoint::AttemptReplied);
        }
        reply.map_err(|broken| (broken, awaited))
    }

    /// RFC 5321 section 4.5.3.2.
    fn limit(&self, awaited: Option<Await>) -> Duration {
        match awaited {
            Some(Await::Data) => self.settings.data_init,
            Some(Await::Dot | Await::LoneDot) => self.settings.data_done,
            Some(Await::Rset | Await::Mail | Await::Rcpt(_)) | None => self.settings.command,
        }
    }
}

fn tell(ledger: &mut Ledger<'_>, verdict: &Verdict) {
    match &verdict.result {
        Ok(reply) => ledger.decide(&verdict.rcpts, Fate::Delivered, reply),
        Err(trouble) => {
            let fate = if trouble.next() == Next::Failed { Fate::Failed } else { Fate::Deferred };
            ledger.decide(&verdict.rcpts, fate, &trouble.reply);
        }
    }
}

/// The connection broke. After the final dot the server may have the message all the same (RFC 1047).
fn lost(broken: &Broken, awaited: Option<Await>) -> Trouble {
    let step = match awaited {
        Some(Await::Rset) => "the reply to RSET",
        Some(Await::Mail) => "the reply to MAIL",
        Some(Await::Rcpt(_)) => "the reply to RCPT",
        Some(Await::Data) => "the reply to DATA",
        Some(Await::Dot) => "the reply to the final dot; it may arrive twice",
        Some(Await::LoneDot) | None => "the end of the transaction",
    };
    broken.trouble(Scope::Session, step)
}
