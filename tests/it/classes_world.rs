//! Classes in a whole relay: who overtakes whom, when mail is tried again, and what the log and notifications keep to themselves.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use waxseal::mail::class::{By, Classed};
use waxseal::queue::store::{State, StateName, Turns};
use waxseal::sandbox::client::Method;
use waxseal::sandbox::world::{Extra, World};

use crate::rig::{Plan, Rig, START};
use crate::world;

const PATIENCE: Duration = Duration::from_secs(120);
const RESET: &str = "https://acme.test/auth?mode=resetPassword&oobCode=S3CRET";

/// The one exchanger of `slow.test`: it takes mail only as fast as it is let, and refuses some with words that quote it.
struct Gate {
    open: Arc<Semaphore>,
    /// The subject of each message taken, in order.
    taken: mpsc::UnboundedReceiver<String>,
    serving: tokio::task::JoinHandle<()>,
}

impl Gate {
    async fn start(world: &World) -> Self {
        let address = (std::net::Ipv4Addr::new(127, 0, 0, 77), world.exchanger.address().port());
        let listener = TcpListener::bind(address).await.unwrap();
        world
            .zone
            .publish("slow.test. 60 IN MX 10 mx.slow.test.\nmx.slow.test. 60 IN A 127.0.0.77\n")
            .await
            .unwrap();
        let open = Arc::new(Semaphore::new(0));
        let (tell, taken) = mpsc::unbounded_channel();
        let gate = Arc::clone(&open);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&gate), tell.clone()));
            }
        });
        Self { open, taken, serving }
    }

    async fn taken(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.taken.recv()).await.expect("nothing arrives").unwrap()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn converse(
    stream: TcpStream,
    open: Arc<Semaphore>,
    tell: mpsc::UnboundedSender<String>,
) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 mx.slow.test\r\n").await.ok()?;
    let mut refuse = false;
    while let Some(line) = lines.next_line().await.ok()? {
        refuse |= line.contains("refused@");
        let mut reply = "250 2.0.0 ok\r\n".to_owned();
        if line.eq_ignore_ascii_case("DATA") {
            write.write_all(b"354 go on\r\n").await.ok()?;
            let subject = body(&mut lines).await?;
            reply = answer(&open, &tell, subject, std::mem::take(&mut refuse)).await?;
        }
        write.write_all(reply.as_bytes()).await.ok()?;
    }
    Some(())
}

/// Tells that a message has come, and takes it when the gate is open; or refuses it at once, in words that quote it.
async fn answer(
    open: &Semaphore,
    tell: &mpsc::UnboundedSender<String>,
    subject: String,
    refuse: bool,
) -> Option<String> {
    if refuse {
        return Some(format!("550 5.7.1 spam: {RESET} in \"{subject}\"\r\n"));
    }
    tell.send(subject).ok()?;
    open.acquire().await.ok()?.forget();
    Some("250 2.0.0 ok\r\n".to_owned())
}

/// Reads a message; answers its subject.
async fn body(lines: &mut tokio::io::Lines<BufReader<OwnedReadHalf>>) -> Option<String> {
    let mut subject = String::new();
    loop {
        let line = lines.next_line().await.ok()??;
        if line == "." {
            return Some(subject);
        }
        if let Some(value) = line.strip_prefix("Subject: ") {
            subject = value.to_owned();
        }
    }
}

/// A platform on one connection, known by its network.
struct Platform {
    lines: tokio::io::Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Platform {
    async fn connect(world: &World) -> Self {
        let (read, write) = TcpStream::connect(world.door(Method::None).unwrap()).await.unwrap().into_split();
        let mut platform = Self { lines: BufReader::new(read).lines(), write };
        platform.reply().await;
        platform.say("EHLO pod").await;
        platform
    }

    async fn say(&mut self, line: &str) -> String {
        self.write.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        self.reply().await
    }

    async fn reply(&mut self) -> String {
        loop {
            let line = self.lines.next_line().await.unwrap().unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// Sends one message, and gives its id.
    async fn send(&mut self, to: &str, head: &str, body: &str) -> String {
        for line in ["MAIL FROM:<a@acme.test>", &format!("RCPT TO:<{to}>")] {
            let reply = self.say(line).await;
            assert!(reply.starts_with("250"), "{line}: {reply}");
        }
        assert!(self.say("DATA").await.starts_with("354"));
        let reply = self.say(&format!("From: a@acme.test\r\n{head}\r\n{body}\r\n.")).await;
        reply.rsplit_once("queued as ").unwrap_or_else(|| panic!("{reply}")).1.trim().to_owned()
    }
}

/// `count` program emails, by eight connections at once, as a platform's campaign comes.
async fn campaign(world: &World, count: usize) {
    let each = (0..8).map(|connection| async move {
        let mut platform = Platform::connect(world).await;
        for number in (connection..count).step_by(8) {
            let head = format!("Subject: news {number}\r\nX-Waxseal-Class: program_email\r\n");
            platform.send(&format!("r{number}@slow.test"), &head, "hello").await;
        }
    });
    let all: Vec<_> = each.collect();
    futures_all(all).await;
}

/// Runs them side by side.
async fn futures_all(all: Vec<impl Future<Output = ()>>) {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_reset_overtakes_2000_program_emails_and_they_are_not_starved() {
    let extra = Extra { delivery: "concurrency_per_destination = 1\n".into(), ..Extra::default() };
    let (world, _dir) = world::start(&extra).await;
    let mut gate = Gate::start(&world).await;
    campaign(&world, 2_000).await;
    assert!(gate.taken().await.starts_with("news"), "one is under way, and stuck");
    let mut platform = Platform::connect(&world).await;
    let head = "Subject: Hello\r\nContent-Type: text/html\r\n";
    let link = format!("<a href=\"{}\">", RESET.replace('&', "&amp;"));
    let id = platform.send("ann@slow.test", head, &link).await;
    gate.open.add_permits(1);
    assert_eq!(gate.taken().await, "Hello", "the very next");

    // Now as many resets as there is mail: one in 17 turns is still the campaign's.
    for number in 0..200 {
        platform.send(&format!("u{number}@slow.test"), "Subject: Reset your password\r\n", "x").await;
    }
    gate.open.add_permits(171);
    let mut news = 0;
    for _ in 0..170 {
        news += usize::from(gate.taken().await.starts_with("news"));
    }
    assert!((9..=11).contains(&news), "{news} of 170: a tenth part of 17 each, give or take one");

    gate.open.add_permits(10_000);
    for _ in 0..(2_201 - 2 - 170) {
        gate.taken().await;
    }
    let log = world::log(&world);
    let line = log.lines().find(|line| line.contains(&id) && line.contains(r#""type":"received""#)).unwrap();
    assert!(line.contains(r#""class":"password_reset","class_by":"link""#), "{line}");
    assert_eq!(log.matches(r#""class_by":"header""#).count(), 2_000);
    let metrics = world.daemon.metrics().render();
    for (by, count) in [("header", 2_000), ("link", 1), ("subject", 200)] {
        assert!(metrics.contains(&format!("waxseal_classed_total{{by=\"{by}\"}} {count}")), "{metrics}");
    }
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_class_hides_is_in_no_log_and_no_notification() {
    let extra = Extra { delivery: "gather = \"0s\"\n".into(), ..Extra::default() };
    let (mut world, _dir) = world::start(&extra).await;
    let gate = Gate::start(&world).await;
    let mut platform = Platform::connect(&world).await;
    let head = "Subject: Reset your password, Ann\r\nList-Help: <https://acme.test/help?token=S3CRET>\r\n";
    platform.send("refused@slow.test", head, RESET).await;
    let told = String::from_utf8(world::arrival(&mut world).await.message).unwrap();
    assert!(told.contains("Final-Recipient: rfc822; refused@slow.test"), "{told}");
    assert!(told.contains("text/rfc822-headers") && told.contains("\nFrom: a@acme.test"), "{told}");
    let log = world::log(&world);
    assert!(log.contains(r#""type":"bounced""#) && log.contains("spam: https://acme.test/[hidden]"), "{log}");
    for (place, text) in [("the notification", &told), ("the log", &log)] {
        for secret in ["S3CRET", "Reset your password", "List-Help: "] {
            assert!(!text.contains(secret), "{secret} in {place}:\n{text}");
        }
    }

    // Of a class that hides nothing the postmaster sees it all.
    platform.send("refused@slow.test", "Subject: Your reward\r\nX-Waxseal-Class: reward\r\n", "x").await;
    let told = String::from_utf8(world::arrival(&mut world).await.message).unwrap();
    assert!(told.contains("Subject: Your reward") && world::log(&world).contains("S3CRET"), "{told}");
    drop(gate);
    world.end().await.unwrap();
}

fn classed(name: &str, by: By) -> Option<Classed> {
    Some(Classed { name: name.into(), by })
}

#[tokio::test]
async fn first_retries_are_the_classs_as_it_is_now() {
    let mut rig = Rig::new(Turns { per_destination: 20, total: 50 });
    rig.script.plan([Plan::All(451)]);
    rig.start();
    for (class, seconds, why) in [
        (classed("password_reset", By::Login), 5, "somebody waits at a screen"),
        (classed("program_email", By::Header), 900, "nobody does"),
        (classed("program_email", By::Subject), 300, "a guess slows nothing down"),
        (classed("gone", By::Header), 300, "a class that is no more: the server's schedule"),
        (None, 300, "no class"),
    ] {
        let id = rig.accept_with("acme", &["a@example.test"], |facts| facts.class = class).await;
        assert_eq!(rig.seen().await.id, id);
        let waits = |all: &[waxseal::queue::store::Entry]| {
            all.iter().any(|entry| entry.leg.id == id && entry.state == StateName::Deferred)
        };
        rig.until(waits).await;
        let all = rig.list().await;
        let leg = &all.iter().find(|entry| entry.leg.id == id).unwrap().leg;
        let State::Due(at) = leg.state else { panic!("held") };
        let wait = at.0 - START;
        assert!(wait.abs_diff(seconds * 1_000) <= seconds * 100, "{why}: {wait} ms");
    }
}
