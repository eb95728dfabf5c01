//! XOAUTH2: access tokens from a real HTTPS server on loopback, and what an upstream makes of them.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use waxseal::config::Config;
use waxseal::mail::attempt::Fate::{Deferred, Delivered};
use waxseal::mail::attempt::{Decided, Login};
use waxseal::mail::meaning::Reason;
use waxseal::tenant::oauth::{Grant, OAuth};
use waxseal::tenant::{Directory, Route, Upstream, UpstreamTls};

use crate::deliver::{BODY, World, fates, message, words, world_with};
use crate::exchanger::{Script, script};

const SECURE: &str = "<- 220 up\n-> EHLO relay.test\n<- 250-up\n<- 250 STARTTLS\n-> STARTTLS\n<- 220 go\n-- tls\n\
                      -> EHLO relay.test\n<- 250-up\n<- 250 AUTH XOAUTH2\n";
const MAIL: &str =
    "-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-> QUIT\n<- 221 bye";
const ZONE: &str = "up.test. 60 IN A 127.0.0.2\ntoken.test. 60 IN A 127.0.0.1\n";

/// Gives what it is told to, and keeps what it was asked.
struct TokenServer {
    address: SocketAddr,
    certificate: String,
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl TokenServer {
    /// The last answer repeats.
    async fn start(answers: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pair = rcgen::generate_simple_self_signed(vec!["token.test".into()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let connections = Arc::new(AtomicUsize::new(0));
        let (kept, counted) = (Arc::clone(&asked), Arc::clone(&connections));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let request = request(&mut stream).await;
                let at = {
                    let mut kept = kept.lock().unwrap();
                    kept.push(request);
                    kept.len() - 1
                };
                let (status, body) = answers.get(at).or(answers.last()).cloned().unwrap();
                let answer = format!(
                    "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { address, certificate: pair.cert.pem(), asked, connections }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A request with its body: a form ends with the last field that we send.
async fn request(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0_usize) {
                return text;
            }
        }
        let mut octets = vec![0; 4096];
        let read = stream.read(&mut octets).await.unwrap_or(0);
        if read == 0 {
            return text;
        }
        text.push_str(std::str::from_utf8(&octets[..read]).unwrap());
    }
}

fn granted(token: &str) -> (u16, String) {
    (200, format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600}}"#))
}

pub fn bearer(token: &str) -> String {
    BASE64.encode(format!("user=user\x01auth=Bearer {token}\x01\x01"))
}

/// The upstream's scripts, and what the token server answers.
async fn scene(scripts: Vec<Script>, answers: Vec<(u16, String)>) -> (World, TokenServer, Arc<Route>) {
    scene_with(scripts, answers, |_| ()).await
}

/// With another configuration.
async fn scene_with(
    scripts: Vec<Script>,
    answers: Vec<(u16, String)>,
    change: impl FnOnce(&mut Config),
) -> (World, TokenServer, Arc<Route>) {
    let changed = |config: &mut Config, _| {
        change(config);
        Vec::new()
    };
    let world = world_with(ZONE, vec![scripts], changed).await;
    let tokens = TokenServer::start(answers).await;
    let file = world.config.state.join("ca.pem");
    std::fs::write(&file, format!("{}{}", world.exchangers[0].certificate, tokens.certificate)).unwrap();
    let oauth = OAuth {
        grant: Grant::RefreshToken("once agreed to".into()),
        endpoint: ("token.test".into(), tokens.address.port(), "/token".into()),
        client_id: "client".into(),
        client_secret: Some("hush".into()),
        scope: None,
    };
    let upstream = Upstream {
        host: "up.test".into(),
        ca_file: Some(file),
        oauth: Some(Arc::new(oauth)),
        ..world.upstream(UpstreamTls::Starttls, true)
    };
    (world, tokens, Arc::new(Route::Upstream(upstream)))
}

async fn send(world: &World, route: &Arc<Route>) -> Vec<Decided> {
    let decided = world.send(message(&["b@b.test"], BODY), route).await;
    world.deliverer.close_idle().await;
    decided
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_used_for_every_login() {
    let login = format!("{SECURE}-> AUTH XOAUTH2 {}\n<- 235 ok\n{MAIL}", bearer("tok1"));
    let (world, tokens, route) = scene(vec![script(&login)], vec![granted("tok1"), granted("tok2")]).await;
    for _ in 0..2 {
        let decided = send(&world, &route).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    }
    let asked = tokens.asked();
    assert_eq!((world.exchangers[0].connections(), asked.len()), (2, 1), "two logins, one token");
    let (head, form) = asked[0].split_once("\r\n\r\n").unwrap();
    let host = format!("host: token.test:{}\r\n", tokens.address.port());
    assert!(head.starts_with("POST /token HTTP/1.1\r\n") && head.contains(&host), "RFC 9110 7.2: {head}");
    assert_eq!(
        form,
        "client_id=client&grant_type=refresh_token&refresh_token=once%20agreed%20to&client_secret=hush"
    );
}

#[tokio::test]
async fn a_long_token_waits_for_its_334() {
    let long = "t".repeat(2000);
    let login = format!("{SECURE}-> AUTH XOAUTH2\n<- 334 \n-> {}\n<- 235 ok\n{MAIL}", bearer(&long));
    let (world, _tokens, route) = scene(vec![script(&login)], vec![granted(&long)]).await;
    let decided = send(&world, &route).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_used_again() {
    let error = BASE64.encode(r#"{"status":"401","schemes":"bearer"}"#);
    let refused = format!(
        "{SECURE}-> AUTH XOAUTH2 {}\n<- 334 {error}\n-> \n<- 535 5.7.8 not accepted\n-> QUIT\n<- 221 bye",
        bearer("old")
    );
    let taken = format!("{SECURE}-> AUTH XOAUTH2 {}\n<- 235 ok\n{MAIL}", bearer("new"));
    let scripts = vec![script(&refused), script(&taken)];
    let (world, tokens, route) = scene(scripts, vec![granted("old"), granted("new")]).await;
    let decided = send(&world, &route).await;
    assert_eq!(fates(&decided), [(Deferred, 535)]);
    assert!(words(&decided).contains(r#""status":"401""#), "what the 334 said: {}", words(&decided));
    assert!(matches!(decided[0].hop.login, Login::Refused { .. }), "held, and the tenant told");
    let again = send(&world, &route).await;
    assert_eq!((fates(&again)[0].1, world.exchangers[0].connections()), (535, 1), "left alone meanwhile");
    world.deliverer.reconfigure(&world.config, Vec::new());
    let decided = send(&world, &route).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    assert_eq!(tokens.asked().len(), 2, "a new token");
}

#[tokio::test]
async fn without_a_grant_nobody_is_connected_to() {
    let rows = [
        (
            400,
            r#"{"error":"invalid_grant","error_description":"revoked"}"#,
            true,
            Reason::Credentials,
            "a person must agree again",
        ),
        (503, "busy", false, Reason::Network, "passes"),
    ];
    for (status, body, refused, reason, why) in rows {
        let (world, tokens, route) = scene(vec![script("-- silence")], vec![(status, body.to_owned())]).await;
        let decided = send(&world, &route).await;
        assert_eq!(decided[0].fate, Deferred, "{why}");
        assert_eq!(matches!(decided[0].hop.login, Login::Refused { .. }), refused, "{why}");
        assert_eq!(decided[0].meaning().reason, reason, "{why}: {}", words(&decided));
        let again = send(&world, &route).await;
        assert_eq!(again[0].fate, Deferred, "{why}");
        assert_eq!(
            (tokens.asked().len(), world.exchangers[0].connections()),
            (1, 0),
            "{why}: and asked once"
        );
        assert!(
            !words(&decided).contains("once agreed to") && !words(&decided).contains("hush"),
            "no secret is told"
        );
    }
}

#[tokio::test]
async fn a_token_server_with_a_strangers_certificate_gets_no_secret() {
    let (world, tokens, route) = scene(vec![script("-- silence")], vec![granted("tok")]).await;
    let Route::Upstream(upstream) = &*route else { unreachable!() };
    std::fs::write(upstream.ca_file.as_ref().unwrap(), &world.exchangers[0].certificate).unwrap();
    let decided = send(&world, &route).await;
    assert_eq!((decided[0].fate, tokens.asked().len()), (Deferred, 0), "{}", words(&decided));
}

/// The endpoint is what a tenant's file says, and its address what DNS says then.
#[tokio::test]
async fn a_token_server_at_an_inside_address_is_not_connected_to() {
    let upstream_only = |config: &mut Config| {
        config.delivery.allow_private_destinations = false;
        config.delivery.allow_destinations = vec!["127.0.0.2/32".parse().unwrap()];
    };
    let (world, tokens, route) =
        scene_with(vec![script("-- silence")], vec![granted("tok")], upstream_only).await;
    let decided = send(&world, &route).await;
    assert_eq!(decided[0].fate, Deferred, "OB8: {}", words(&decided));
    let connections = (tokens.connections.load(Ordering::Relaxed), world.exchangers[0].connections());
    assert_eq!(connections, (0, 0), "OB8: nobody is connected to");
}

/// What becomes of mail whose upstream refuses its token and quotes the line; and what the route shows of itself.
pub async fn refused_and_quoted() -> (Vec<Decided>, String) {
    let line = format!("AUTH XOAUTH2 {}", bearer("the-access-token"));
    let refused = format!("{SECURE}-> {line}\n<- 535 5.7.8 I do not like {line}\n-> QUIT\n<- 221 bye");
    let answers = vec![rotating("the-access-token", "the-next-refresh")];
    let (world, _tokens, route) = scene(vec![script(&refused)], answers).await;
    (send(&world, &route).await, format!("{route:?}"))
}

/// A grant that comes with another refresh token.
fn rotating(token: &str, refresh: &str) -> (u16, String) {
    let (status, body) = granted(token);
    (status, body.replace('}', &format!(r#","refresh_token":"{refresh}"}}"#)))
}

#[tokio::test]
async fn a_refresh_token_that_is_replaced_is_kept_over_a_restart() {
    let login =
        |token: &str| script(&format!("{SECURE}-> AUTH XOAUTH2 {}\n<- 235 ok\n{MAIL}", bearer(token)));
    let tokens = ["tok1", "tok2", "tok3", "tok4"];
    let answers = vec![
        rotating("tok1", "second"),
        rotating("tok2", "second"),
        granted("tok3"),
        rotating("tok4", "of another"),
    ];
    let (mut world, server, route) = scene(tokens.map(login).to_vec(), answers).await;
    let another_process = |world: &mut World| {
        let resolver = waxseal::dns::Resolver::new(&world.config.dns).unwrap();
        world.deliverer =
            waxseal::deliver::Deliverer::new(&world.config, resolver, Vec::new(), Default::default());
    };
    for _ in 0..3 {
        let decided = send(&world, &route).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
        another_process(&mut world);
    }
    let shown = |at: usize, token: &str| server.asked()[at].contains(&format!("refresh_token={token}&"));
    assert!(
        shown(0, "once%20agreed%20to") && shown(1, "second") && shown(2, "second"),
        "{:?}",
        server.asked()
    );
    let kept: Vec<_> = std::fs::read_dir(world.config.state.join("secrets/oauth")).unwrap().collect();
    let mode = kept[0].as_ref().unwrap().metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((kept.len(), mode), (1, 0o600));

    // A person agreed anew: what was kept for the old one does not count.
    let Route::Upstream(upstream) = &*route else { unreachable!() };
    let old = upstream.oauth.as_ref().unwrap();
    let anew = OAuth {
        grant: Grant::RefreshToken("agreed anew".into()),
        endpoint: old.endpoint.clone(),
        client_id: old.client_id.clone(),
        client_secret: old.client_secret.clone(),
        scope: None,
    };
    let credentials = Some(("user".into(), "agreed anew".into()));
    let anew = Upstream { oauth: Some(Arc::new(anew)), credentials, ..upstream.clone() };
    let decided = send(&world, &Arc::new(Route::Upstream(anew))).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    assert!(shown(3, "agreed%20anew"), "{:?}", server.asked());
}

/// A tenant that is gone may be back: its token goes when nobody has named it for a month.
#[tokio::test]
async fn a_token_that_no_file_names_is_removed_after_a_month() {
    let login = script(&format!("{SECURE}-> AUTH XOAUTH2 {}\n<- 235 ok\n{MAIL}", bearer("tok1")));
    let (world, _server, route) = scene(vec![login], vec![rotating("tok1", "second")]).await;
    let decided = send(&world, &route).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    let dir = world.config.state.join("secrets/oauth");
    std::fs::write(dir.join("README"), "not ours").unwrap();
    let names =
        || std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let kept = || names().filter(|name| !name.ends_with(".unnamed")).count();
    let now = waxseal::clock::Clock::System.now();
    let day = |days: u64| now.after(std::time::Duration::from_secs(days * 86_400));
    let mut tenant = crate::rig::tenant("acme", &[]);
    tenant.fallbacks = vec![waxseal::tenant::Fallback {
        classes: Vec::new(),
        route: Arc::clone(&route),
        attempts: 1,
        after: std::time::Duration::ZERO,
    }];
    let (named, nobody) = (Directory::new([tenant]), Directory::default());
    for (tenants, at, expected, why) in [
        (&named, 0, 2, "named, by a second way"),
        (&nobody, 100, 2, "gone when the relay starts after months: the month begins now"),
        (&nobody, 129, 2, "nobody's for less than a month"),
        (&named, 129, 2, "back again"),
        (&nobody, 200, 2, "gone by this reload, the first in months: the month begins now"),
        (&nobody, 229, 2, "and is not over"),
        (&nobody, 231, 1, "nobody's for a month; what we did not write stays"),
    ] {
        world.deliverer.tidy_tokens(tenants, day(at)).await;
        assert_eq!(kept(), expected, "day {at}: {why}");
    }
    assert_eq!(names().collect::<Vec<_>>(), ["README"]);
}

/// An endpoint that sees the first one again takes the grant back: rather no token for now.
#[tokio::test]
async fn a_kept_token_that_cannot_be_read_is_not_replaced_by_the_first_one() {
    let login = script(&format!("{SECURE}-> AUTH XOAUTH2 {}\n<- 235 ok\n{MAIL}", bearer("tok1")));
    let (world, server, route) = scene(vec![login], vec![rotating("tok1", "second")]).await;
    assert_eq!(fates(&send(&world, &route).await), [(Delivered, 250)]);
    let file = std::fs::read_dir(world.config.state.join("secrets/oauth")).unwrap().next().unwrap().unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    world.deliverer.reconfigure(&world.config, Vec::new());
    let decided = send(&world, &route).await;
    assert_eq!((decided[0].fate, decided[0].hop.login), (Deferred, Login::None), "{}", words(&decided));
    assert!(words(&decided).contains("cannot be read"), "{}", words(&decided));
    assert_eq!(server.asked().len(), 1, "nobody was shown it");
}

#[tokio::test]
async fn an_upstream_in_clear_text_does_not_make_the_token_server_trusted() {
    let (world, tokens, route) = scene(vec![script("-- silence")], vec![granted("tok")]).await;
    let Route::Upstream(upstream) = &*route else { unreachable!() };
    std::fs::write(upstream.ca_file.as_ref().unwrap(), &world.exchangers[0].certificate).unwrap();
    let clear = Upstream { tls: UpstreamTls::None, cleartext_auth: true, ..upstream.clone() };
    let decided = send(&world, &Arc::new(Route::Upstream(clear))).await;
    assert_eq!((decided[0].fate, tokens.asked().len()), (Deferred, 0), "{}", words(&decided));
}
