//! `domain probe`, the real program against a real daemon: directly, through upstreams that are honest, meddle or are gone.

use std::net::SocketAddr;
use std::process::{Command, Output};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use waxseal::sandbox::world::{Extra, World};

use crate::inbound::{back_door, world};
use crate::world::{log, start};

/// Runs the program with the world's configuration.
async fn probe(world: &World, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waxseal"));
    command.arg("--config").arg(&world.config.file).args(["domain", "probe"]).args(args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_by_mx_passes_and_says_how() {
    let (world, _dir) = world(Extra::default()).await;
    let output = probe(&world, &["acme.test", "--json"]).await;
    let said = json(&output);
    assert!(output.status.success(), "{said:#}\n{}", log(&world));
    let found = &said["found"];
    assert_eq!(
        (&found["dkim"], &found["spf"], &found["dmarc"]),
        (&"pass".into(), &"pass".into(), &"pass".into())
    );
    assert_eq!((&said["route"], &said["trouble"]), (&"mx".into(), &serde_json::Value::Null));
    assert_eq!(
        (&found["signatures"][0]["domain"], &found["signatures"][0]["result"]),
        (&"acme.test".into(), &"pass".into())
    );
    assert_eq!(found["tls"]["version"], "TLSv1.3");
    assert!(found["from"].as_str().unwrap().ends_with("@bounce.acme.test"), "{found:#}");
    assert_eq!(
        (&found["difference"]["headers"], &found["difference"]["body"]),
        (&serde_json::json!([]), &serde_json::Value::Null)
    );

    let output = probe(&world, &["acme.test"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("dmarc      pass\n") && text.contains("came       from relay.sandbox.test["),
        "{text}"
    );

    let output = probe(&world, &["elsewhere.test"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("elsewhere.test is no tenant's From domain"));
    assert!(log(&world).contains("\"action\":\"domain.probe\""));
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_listener_for_it_a_probe_says_what_to_add() {
    let (world, _dir) = start(&Extra::default()).await;
    let output = probe(&world, &["acme.test"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("role = \"inbound\""), "{said}");
    world.end().await.unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_waxseal"))
        .args(["domain", "probe", "a.test", "--timeout", "x"])
        .output();
    assert_eq!(output.unwrap().status.code(), Some(2));
}

/// What an upstream does to mail.
type Meddling = fn(String) -> String;

/// A tenant's upstream that takes one message a connection and passes it on, changed, to `onward` (asked for when it is needed).
async fn upstream(meddle: Meddling) -> (SocketAddr, tokio::sync::watch::Sender<Option<SocketAddr>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (onward, asked) = tokio::sync::watch::channel(None::<SocketAddr>);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut asked = asked.clone();
            tokio::spawn(async move {
                let onward = asked.wait_for(Option::is_some).await.unwrap().unwrap();
                let _ = relay(stream, onward, meddle).await;
            });
        }
    });
    (address, onward)
}

/// Speaks for both sides: what comes is acknowledged, and played again towards the next hop.
async fn relay(stream: TcpStream, onward: SocketAddr, meddle: Meddling) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(b"220 up.test ESMTP\r\n").await?;
    let (mut commands, mut message, mut body, mut line) = (Vec::new(), String::new(), false, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let reply = match line.get(..4) {
            _ if body && line == ".\r\n" => {
                body = false;
                let envelope = std::mem::take(&mut commands);
                pass_on(onward, &envelope, &meddle(std::mem::take(&mut message))).await?;
                "250 2.0.0 taken\r\n"
            }
            _ if body => {
                message.push_str(&line);
                continue;
            }
            Some("EHLO") => "250 up.test\r\n",
            Some("DATA") => {
                body = true;
                "354 go\r\n"
            }
            Some("QUIT") => return Ok(()),
            _ => {
                commands.push(line.clone());
                "250 2.0.0 ok\r\n"
            }
        };
        stream.get_mut().write_all(reply.as_bytes()).await?;
    }
}

async fn pass_on(onward: SocketAddr, commands: &[String], message: &str) -> std::io::Result<()> {
    let mut next = BufReader::new(TcpStream::connect(onward).await?);
    let mut said = String::new();
    next.read_line(&mut said).await?;
    let lines = ["HELO up.test\r\n".to_owned()].into_iter().chain(commands.iter().cloned());
    for line in lines.chain(["DATA\r\n".to_owned(), format!("{message}.\r\n"), "QUIT\r\n".to_owned()]) {
        next.get_mut().write_all(line.as_bytes()).await?;
        next.read_line(&mut said).await?;
    }
    assert!(said.contains("250 2.0.0 Ok: the probe has arrived"), "{said}");
    Ok(())
}

fn through(address: SocketAddr) -> Extra {
    let tenant = format!(
        "[route]\nvia = \"upstream\"\n[route.upstream]\nhost = \"{}\"\nport = {}\ntls = \"none\"\n",
        address.ip(),
        address.port()
    );
    Extra { tenant, ..Extra::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_shows_what_an_upstream_changed() {
    let changed: Meddling = |message| {
        let message = message.replacen("Subject: Waxseal probe", "Subject: [up] Waxseal probe", 1);
        format!("Received: from a by up.test; x\r\n{message}-- \r\nSent by Up\r\n")
    };
    let (address, onward) = upstream(changed).await;
    let (world, _dir) = world(through(address)).await;
    onward.send(Some(back_door(&world))).unwrap();
    let output = probe(&world, &["acme.test", "--json"]).await;
    let said = json(&output);
    assert_eq!(
        output.status.code(),
        Some(0),
        "SPF still carries it here, as the upstream has our address: {said:#}"
    );
    let found = &said["found"];
    assert_eq!(
        (&found["dkim"], &found["spf"], &found["helo"]),
        (&"fail".into(), &"pass".into(), &"up.test".into())
    );
    assert_eq!(said["route"], format!("127.0.0.1:{}", address.port()));
    let headers = serde_json::json!([
        {"name": "Received", "change": "added", "breaks": false},
        {"name": "Subject", "change": "changed", "breaks": true},
    ]);
    let mut listed = found["difference"]["headers"].as_array().unwrap().clone();
    listed.sort_by_key(|one| one["name"].to_string());
    assert_eq!(serde_json::Value::from(listed), headers);
    assert_eq!(found["difference"]["body"]["breaks"], true);
    let output = probe(&world, &["acme.test"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("header Subject changed: BREAKS THE SIGNATURE"), "{text}");
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_gets_stuck_says_where_and_leaves_nothing_behind() {
    // Discard's port: nobody listens there, and nobody is given it.
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let (world, _dir) = world(through(nobody)).await;
    let output = probe(&world, &["acme.test", "--timeout", "6s", "--json"]).await;
    let said = json(&output);
    assert_eq!(output.status.code(), Some(1), "{said:#}");
    let trouble = said["trouble"].as_str().unwrap();
    assert!(trouble.contains("did not arrive: it is deferred after 1 attempts"), "{trouble}");
    assert!(trouble.contains("refused"), "what was heard last: {trouble}");
    assert_eq!(world.daemon.store().stats().await.unwrap().messages, 0, "it was withdrawn");
    assert!(log(&world).contains("\"type\":\"dropped\""));
    world.end().await.unwrap();
}
