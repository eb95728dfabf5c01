//! The admin API over its real socket, before a store that holds one message and remembers what it was told.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use super::client::AskError;
use super::wire::{About, Act, Done, Rows, Shown, Status};
use super::*;
use crate::config::Admin;
use crate::mail::class::{By, Classed};
use crate::mail::envelope::{Envelope, Notify, Recipient};
use crate::mail::id::Id;
use crate::mail::message::{Facts, Kind, Lane, Message, Needs};
use crate::mail::time::Time;
use crate::queue::store::*;

/// One message, held.
struct Still {
    message: Arc<Message>,
    told: Mutex<Vec<(Filter, Action)>>,
}

impl Still {
    fn new(class: Option<Classed>) -> Self {
        let rcpt =
            Recipient { address: "b@there.test".parse().unwrap(), orcpt: None, notify: Notify::default() };
        let envelope = Envelope {
            from: Some("a@acme.test".parse().unwrap()),
            rcpts: vec![rcpt],
            ret: None,
            envid: None,
        };
        let facts = Facts {
            id: Id::new(Time(1_000), 1),
            tenant: "acme".into(),
            login: None,
            header_from: None,
            class,
            lane: Lane::Normal,
            kind: Kind::Mail,
            envelope,
            received: Time(1_000),
            expires: Time(2_000),
            return_path: None,
            unsealed: None,
            needs: Needs::default(),
            asked: crate::mail::message::Asked::default(),
            priority: crate::mail::priority::Priority::default(),
            deliver_by: None,
            size: 30,
        };
        let body = bytes::Bytes::from_static(b"Subject: s\r\nFrom: a\r\n\r\nsecret body\r\n");
        Self { message: Arc::new(Message { facts, body }), told: Mutex::default() }
    }

    fn entry(&self) -> Entry {
        let facts = Arc::new(self.message.facts.clone());
        let leg = Leg {
            id: facts.id,
            leg: 0,
            tenant: "acme".into(),
            destination: Destination("there.test".into()),
            lane: Lane::Normal,
            rcpts: vec![0],
            attempts: 2,
            state: crate::queue::store::State::Held {
                reason: "asked".into(),
                since: Time(1_000),
                cause: Cause::Operator,
                until: Some(Time(1_500)),
            },
            last: None,
            delay_told: false,
            received: facts.received,
            expires: facts.expires,
        };
        Entry { leg, state: StateName::Held, facts }
    }
}

fn with<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Store for Still {
    fn accept(&self, _: Accept) -> Answer<'_, ()> {
        with(())
    }
    fn has_room(&self) -> bool {
        true
    }
    fn claim(&self, _: Time, _: usize) -> Answer<'_, Claimed> {
        with(Claimed::default())
    }
    fn pace(&self, _: Pacing) {}
    fn nudged(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
    fn message(&self, id: Id) -> Answer<'_, Option<Arc<Message>>> {
        with((id == self.message.facts.id).then(|| Arc::clone(&self.message)))
    }
    fn settle(&self, _: Vec<Settlement>) -> Answer<'_, Vec<bool>> {
        with(Vec::new())
    }
    fn supersede(&self, _: Arc<Facts>, _: Vec<u16>, _: Last) -> Answer<'_, Superseded> {
        with(Superseded::default())
    }
    fn list(&self, filter: Filter, _: Time) -> Answer<'_, Vec<Entry>> {
        let mut found = vec![self.entry(), self.entry()];
        found.truncate(filter.limit.unwrap_or(usize::MAX));
        with(found)
    }
    fn act(&self, filter: Filter, action: Action, _: Time) -> Answer<'_, Vec<Entry>> {
        self.told.lock().unwrap().push((filter, action));
        with(vec![self.entry()])
    }
    fn owed(&self, _: usize) -> Answer<'_, Vec<(Owed, Arc<Facts>)>> {
        with(Vec::new())
    }
    fn waive(&self, _: Vec<(Id, u16)>) -> Answer<'_, ()> {
        with(())
    }
    fn remember(&self, _: Vec<Memo>) -> Answer<'_, ()> {
        with(())
    }
    fn recall(&self, _: String) -> Answer<'_, Vec<(String, Vec<u8>)>> {
        with(Vec::new())
    }
    fn stats(&self) -> Answer<'_, Stats> {
        with(Stats { messages: 1, held: 1, ..Stats::default() })
    }
    fn failed(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        Box::pin(std::future::pending())
    }
    fn close(&self) -> Answer<'_, ()> {
        with(())
    }
}

/// A daemon that refuses to reload.
struct Stubborn(CancellationToken);

impl Steer for Stubborn {
    fn reload(&self) -> Ordered<'_, Reloaded> {
        Box::pin(std::future::ready(Err("waxseal.toml:3:1: no".to_owned())))
    }
    fn nudge(&self) {}
    fn drain(&self) {
        self.0.cancel();
    }
    fn check(&self, _: Domain) -> Ordered<'_, Option<Report>> {
        Box::pin(std::future::ready(Ok(None)))
    }
    fn reports(&self) -> Vec<Report> {
        Vec::new()
    }
    fn probe(&self, _: super::wire::Probe) -> Ordered<'_, super::wire::Probed> {
        Box::pin(std::future::ready(Err("no listener for it".to_owned())))
    }
    fn about(&self) -> About {
        About {
            version: "0".into(),
            pid: 1,
            hostname: "relay.test".into(),
            started: String::new(),
            phase: "running".into(),
            listeners: Vec::new(),
            http: None,
            config: PathBuf::new(),
            state: PathBuf::new(),
            log: PathBuf::new(),
            tenants: 0,
            reload_error: None,
        }
    }
    fn policies(&self) -> Vec<super::wire::StsPolicy> {
        Vec::new()
    }
    fn sites(&self, most: usize) -> ([usize; 3], Vec<super::wire::Site>) {
        let resting = super::wire::Site {
            site: "mx.dead.test".into(),
            active: 0,
            slots: 1,
            rests_until: Some("2026-01-01T00:00:00.000Z".into()),
            reason: Some("unreachable".into()),
            last: Some("connection refused".into()),
        };
        ([3, 2, 1], vec![resting].into_iter().take(most).collect())
    }
    fn alive(&self) -> Result<(), String> {
        Ok(())
    }
    fn ready(&self) -> Ordered<'_, ()> {
        Box::pin(std::future::ready(Err("the disk is below its reserve".to_owned())))
    }
}

struct World {
    dir: tempfile::TempDir,
    store: Arc<Still>,
    log: Arc<MailLog>,
    client: Client,
    http: std::net::SocketAddr,
    drained: CancellationToken,
    stop: CancellationToken,
}

async fn world() -> World {
    world_with(None).await
}

/// A world whose message is of this class.
async fn world_with(class: Option<Classed>) -> World {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin { socket: dir.path().join("run/admin.sock"), http: Some(([127, 0, 0, 1], 0).into()) };
    let doors = Doors::bind(&admin).await.unwrap();
    let http = doors.http().unwrap();
    let (store, drained, stop) =
        (Arc::new(Still::new(class)), CancellationToken::new(), CancellationToken::new());
    let log = MailLog::open(&dir.path().join("mail.jsonl"), Clock::System).unwrap();
    let metrics = Arc::new(Metrics::new());
    let queue = Arc::clone(&store) as Arc<dyn Store>;
    let state = super::State {
        suppressions: Arc::new(List::new(Arc::clone(&queue), Arc::clone(&metrics))),
        store: queue,
        tenants: Arc::new(crate::tenant::Tenants::from_pointee(crate::tenant::Directory::default())),
        log: Arc::clone(&log),
        metrics,
        clock: Clock::System,
        steer: Arc::new(Stubborn(drained.clone())),
    };
    tokio::spawn(serve(doors, Arc::new(state), stop.clone()));
    World { client: Client::new(&admin.socket), dir, store, log, http, drained, stop }
}

impl World {
    fn events(&self) -> Vec<serde_json::Value> {
        self.log.flush();
        let text = std::fs::read_to_string(self.dir.path().join("mail.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A plain HTTP request over TCP; answers the status and the body.
async fn request(address: std::net::SocketAddr, method: &str, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    (text[9..12].parse().unwrap(), text)
}

#[tokio::test]
async fn the_socket_is_its_owners_alone() {
    let world = world().await;
    let mode =
        |path: &str| std::fs::metadata(world.dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run"), mode("run/admin.sock")), (0o700, 0o600));
    assert_eq!(
        std::fs::read_dir(world.dir.path().join("run")).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    let second = Admin { socket: world.dir.path().join("run/admin.sock"), http: None };
    let refused = Doors::bind(&second).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse, "a living daemon's socket is not taken");
}

#[tokio::test]
async fn a_socket_left_by_a_crash_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin { socket: dir.path().join("admin.sock"), http: None };
    drop(Doors::bind(&admin).await.unwrap());
    assert!(admin.socket.exists());
    Doors::bind(&admin).await.unwrap();
}

#[tokio::test]
async fn what_is_done_to_the_queue_is_told_with_who_did_it() {
    let world = world().await;
    let id = world.store.message.facts.id;
    let filter = Filter { ids: vec![id], older_than: Some(Duration::from_secs(5)), ..Filter::default() };
    let order = Act { filter: filter.clone(), action: Action::Bounce { reason: "gone".into() } };
    let rows: Rows = world.client.post("/v1/queue/act", &order).await.unwrap();
    assert_eq!((rows.rows.len(), rows.rows[0].id), (1, id));
    let filter = Filter { page: Some(2_000), ..filter };
    assert_eq!(*world.store.told.lock().unwrap(), [(filter, Action::Bounce { reason: "gone".into() })]);
    let events = world.events();
    let me = format!("uid {} (pid {})", rustix::process::getuid().as_raw(), std::process::id());
    assert_eq!((&events[0]["type"], &events[0]["to"]), (&"bounced".into(), &"b@there.test".into()));
    assert_eq!((&events[1]["type"], &events[1]["action"]), (&"audit".into(), &"queue.bounce".into()));
    assert!(events.iter().all(|event| event["actor"] == me.as_str()), "{events:#?}");
}

#[tokio::test]
async fn a_listing_says_when_it_was_cut() {
    let world = world().await;
    let some: Rows =
        world.client.post("/v1/queue/list", &Filter { limit: Some(1), ..Filter::default() }).await.unwrap();
    assert_eq!((some.rows.len(), some.more), (1, true));
    let all: Rows = world.client.post("/v1/queue/list", &Filter::default()).await.unwrap();
    assert_eq!((all.rows.len(), all.more), (2, false));
    assert_eq!((all.rows[0].reason.as_deref(), &*all.rows[0].from), (Some("asked"), "a@acme.test"));
    let row = serde_json::to_value(&all.rows[0]).unwrap();
    assert_eq!((&row["cause"], &row["until"]), (&"operator".into(), &"1970-01-01T00:00:01.500Z".into()));
}

#[tokio::test]
async fn a_message_is_shown_without_its_body_and_read_with_a_trace() {
    let world = world().await;
    let id = world.store.message.facts.id;
    let shown: Shown = world.client.get(&format!("/v1/message/{id}")).await.unwrap();
    assert_eq!(shown.headers, "Subject: s\r\nFrom: a\r\n");
    let raw = world.client.bytes(&format!("/v1/message/{id}/raw")).await.unwrap();
    assert_eq!(raw, world.store.message.body);
    assert_eq!(world.events()[0]["action"], "queue.cat");
    let absent = world.client.get::<Shown>(&format!("/v1/message/{}", Id::new(Time(5), 5))).await;
    assert!(matches!(absent, Err(AskError::NotFound(_))));
}

#[tokio::test]
async fn what_a_class_hides_is_not_shown() {
    let class = Classed { name: "password_reset".into(), by: By::Link };
    let world = world_with(Some(class)).await;
    let id = world.store.message.facts.id;
    let shown: Shown = world.client.get(&format!("/v1/message/{id}")).await.unwrap();
    assert_eq!(shown.headers, "From: a\r\n");
    assert_eq!(shown.hidden, ["subject", "link"]);
    let raw = world.client.bytes(&format!("/v1/message/{id}/raw")).await.unwrap();
    assert_eq!(raw, world.store.message.body, "whole, for who asks for that, and kept in the log");
}

#[tokio::test]
async fn status_reload_and_drain_reach_the_daemon() {
    let world = world().await;
    let status: Status = world.client.get("/v1/status").await.unwrap();
    assert_eq!(status.queue.unwrap().messages, 1);
    assert_eq!(status.trouble.as_deref(), Some("the disk is below its reserve"));
    let resting = &status.sites[0];
    assert_eq!((&*resting.site, resting.reason.as_deref()), ("mx.dead.test", Some("unreachable")));
    let refused = world.client.post::<Done>("/v1/reload", &()).await;
    assert!(matches!(refused, Err(AskError::Refused(why)) if why == "waxseal.toml:3:1: no"));
    let _: Done = world.client.post("/v1/drain", &()).await.unwrap();
    assert!(world.drained.is_cancelled());
    let probe = super::wire::Probe { domain: "acme.test".parse().unwrap(), timeout: 1 };
    let refused = world.client.post::<super::wire::Probed>("/v1/domain/probe", &probe).await;
    assert!(matches!(refused, Err(AskError::Refused(why)) if why == "no listener for it"));
    let actions: Vec<_> = world.events().iter().map(|event| event["action"].clone()).collect();
    assert_eq!(actions, ["reload", "drain", "domain.probe"]);
}

#[tokio::test]
async fn tcp_serves_numbers_and_health_and_no_verb() {
    let world = world().await;
    let (code, text) = request(world.http, "GET", "/metrics").await;
    assert_eq!(code, 200);
    assert!(text.contains("waxseal_queue_held 1\n"), "{text}");
    assert!(text.contains("waxseal_sites{state=\"resting\"} 1\n"), "{text}");
    assert_eq!(request(world.http, "GET", "/livez").await.0, 200);
    let (code, text) = request(world.http, "GET", "/readyz").await;
    assert_eq!(code, 503);
    assert!(text.ends_with("the disk is below its reserve\n"));
    for (method, path) in [
        ("GET", "/v1/status"),
        ("POST", "/v1/drain"),
        ("POST", "/v1/reload"),
        ("POST", "/v1/queue/act"),
        ("POST", "/v1/queue/list"),
        ("GET", "/v1/message/x/raw"),
    ] {
        assert_eq!(request(world.http, method, path).await.0, 404, "{method} {path}");
    }
    assert!(!world.drained.is_cancelled());
    world.stop.cancel();
}

#[tokio::test]
async fn no_daemon_is_told_from_a_daemon_that_says_no() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = Client::new(&dir.path().join("admin.sock")).get::<Status>("/v1/status").await;
    assert!(matches!(nobody, Err(AskError::Absent { .. })), "{nobody:?}");
    let path = dir.path().join("no-directory");
    std::fs::write(&path, "").unwrap();
    let unknown = Client::new(&path.join("admin.sock")).get::<Status>("/v1/status").await;
    assert!(
        matches!(unknown, Err(AskError::Unreachable { .. })),
        "whether one runs cannot be told: {unknown:?}"
    );
}
