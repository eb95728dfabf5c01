//! `waxseal sandbox`: one message through the front door, its journey told step by step; then the world stays up.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use super::client::{self, Form, Method};
use super::exchanger::Arrival;
use super::journey::{self, Follower, LOOK, Order, Step};
use super::world::{Extra, FROM_DOMAIN, Trouble, World};
use crate::clock::Clock;
use crate::fsx;

/// The first message: from and to.
const FROM: &str = "rewards@acme.test";
const TO: &str = "you@inbox.test";
/// How long the first message may take before `--once` gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a person sees.
#[derive(Debug)]
pub enum Sight<'a> {
    /// A step of a message.
    Step(&'a Step),
    /// The world is up: what a platform's form takes, and where mail is kept.
    Open {
        /// The form for each method.
        forms: &'a [Form],
        /// The user name and password for every method.
        login: (&'a str, &'a str),
        /// The From domain that may be used.
        domain: &'a str,
        /// The certificate to trust, a PEM file.
        certificate: &'a Path,
        /// The configuration, for the other commands.
        config: &'a Path,
        /// The directory of the .eml files.
        mail: &'a Path,
    },
}

/// What is known of the first message.
#[derive(Default)]
struct First {
    id: Option<String>,
    /// Whether it arrived, and passed all three.
    passed: Option<bool>,
    /// What was delivered, by id: the mail log may tell of it before the platform reads its 250.
    delivered: HashSet<String>,
}

impl First {
    /// Takes note of a step of the mail log.
    fn heard(&mut self, step: &Step) {
        if step.step == "delivered" && !self.done() {
            self.delivered.extend(step.id.clone());
        }
    }

    fn done(&self) -> bool {
        self.passed.is_some() && self.id.as_ref().is_some_and(|id| self.delivered.contains(id))
    }
}

/// Builds the world, sends one message, shows what happens. With `once` it ends when the message has arrived, otherwise at
/// SIGINT or SIGTERM. Answers whether the first message arrived with dkim=pass, spf=pass and dmarc=pass.
///
/// # Errors
/// The world cannot be had.
pub async fn run(once: bool, see: &mut dyn FnMut(Sight<'_>)) -> Result<bool, Trouble> {
    let dir = tempfile::Builder::new().prefix("waxseal-sandbox-").tempdir()?;
    let mail = dir.path().join("mail");
    fsx::create_dir(&mail)?;
    let world = World::start(dir.path(), &Extra::default()).await?;
    if !once {
        open(&world, &mail, see);
    }
    let mail = (!once).then_some(mail);
    let show = Show { world, mail, order: Order::default(), first: First::default() };
    let passed = show.play(once, see).await?;
    if !once {
        leave_the_mail(dir)?;
    }
    Ok(passed)
}

fn open(world: &World, mail: &Path, see: &mut dyn FnMut(Sight<'_>)) {
    let forms: Vec<Form> =
        super::world::METHODS.into_iter().filter_map(|method| world.form(method)).collect();
    let certificate = world.config.tls.as_ref().map(|tls| tls.certificate.clone()).unwrap_or_default();
    see(Sight::Open {
        forms: &forms,
        login: (super::world::TENANT, &world.password),
        domain: FROM_DOMAIN,
        certificate: &certificate,
        config: &world.config.file,
        mail,
    });
}

/// The world, and what has been seen of it.
struct Show {
    world: World,
    /// Where mail is kept; nowhere if all ends with the first message.
    mail: Option<PathBuf>,
    order: Order,
    first: First,
}

impl Show {
    async fn play(mut self, once: bool, see: &mut dyn FnMut(Sight<'_>)) -> Result<bool, Trouble> {
        let mut follower = Follower::new(&self.world.config.log.path);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let limit = Instant::now() + PATIENCE;
        let mut sending = self.send();
        let mut sent = false;
        while !(once && (self.first.done() || Instant::now() > limit)) {
            tokio::select! {
                arrival = self.world.exchanger.arrival() => match arrival {
                    Some(arrival) => self.keep(&arrival)?,
                    None => break,
                },
                answer = &mut sending, if !sent => {
                    sent = true;
                    if !self.answered(answer.map_err(io::Error::other)?) && once {
                        break;
                    }
                }
                _ = looks.tick() => {
                    self.look(&mut follower)?;
                    self.tell(see);
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        self.look(&mut follower)?;
        self.order.rest().iter().for_each(|step| see(Sight::Step(step)));
        self.world.end().await?;
        Ok(self.first.passed == Some(true))
    }

    /// The platform sends one notification, by the method most of them use.
    fn send(&mut self) -> tokio::task::JoinHandle<Result<String, client::Trouble>> {
        let form = self.world.form(Method::Tls);
        let at = form.as_ref().map_or_else(String::new, |form| form.server.to_string());
        let text = format!("a platform connects to {at}: STARTTLS, AUTH, mail from {FROM} to {TO}");
        self.order.push(Step::now("submit", None, text));
        tokio::spawn(async move {
            let Some(form) = form else { return Ok(String::new()) };
            client::send(&form, FROM, TO, "Your reward").await
        })
    }

    /// Takes the reply to the final dot, or the trouble instead of it; answers whether it was a 250.
    fn answered(&mut self, answer: Result<String, client::Trouble>) -> bool {
        match answer {
            Ok(reply) => {
                self.first.id = reply.rsplit_once("queued as ").map(|(_, id)| id.trim().to_owned());
                self.order.push(Step::now(
                    "queued",
                    self.first.id.as_deref(),
                    format!("the platform reads 250 {reply}"),
                ));
                true
            }
            Err(trouble) => {
                self.order.push(Step::now("failed", None, format!("the platform could not send: {trouble}")));
                false
            }
        }
    }

    /// Writes what arrived as a file, and remembers its verdict if it is the first message's.
    fn keep(&mut self, arrival: &Arrival) -> Result<(), Trouble> {
        let file = self.mail.as_ref().map(|mail| {
            let name = journey::queue_id(&arrival.message).unwrap_or_else(|| arrival.at.0.to_string());
            mail.join(format!("{name}.eml"))
        });
        if let Some(file) = &file {
            fsx::write_atomically(file, &arrival.message, 0o600)?;
        }
        self.order.push(journey::arrived(arrival, file.as_deref()));
        // The first to arrive is the first message's: its 250 may be heard of later.
        if self.first.passed.is_none() && arrival.from == FROM {
            self.first.passed = Some(arrival.verdict.passes());
        }
        Ok(())
    }

    /// Who watches is told of each step as it comes; where all ends with the first message, of all of them in order at the end.
    fn tell(&mut self, see: &mut dyn FnMut(Sight<'_>)) {
        if self.mail.is_some() {
            self.order.settled(Clock::System.now()).iter().for_each(|step| see(Sight::Step(step)));
        }
    }

    fn look(&mut self, follower: &mut Follower) -> io::Result<()> {
        for step in follower.look()? {
            self.first.heard(&step);
            self.order.push(step);
        }
        Ok(())
    }
}

/// Removes the relay's files; the mail stays for whoever looked at it.
fn leave_the_mail(dir: TempDir) -> io::Result<()> {
    let dir = dir.keep();
    for name in ["config", "certs", "data"] {
        std::fs::remove_dir_all(dir.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_when_it_was_delivered_before_the_platform_read_its_250() {
        let mut first = First { passed: Some(true), ..First::default() };
        first.heard(&Step::now("delivered", Some("mine"), String::new()));
        assert!(!first.done(), "whose it was is not known yet");
        first.id = Some("another".to_owned());
        assert!(!first.done());
        first.id = Some("mine".to_owned());
        assert!(first.done());
    }
}
