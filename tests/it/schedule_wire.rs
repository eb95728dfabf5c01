//! The scheduler with the real deliverer, a real name server and real exchangers: what servers answer becomes what the queue
//! does, and a notification arrives as a mailbox provider would believe it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use waxseal::deliver::Deliverer;
use waxseal::dns::Resolver;
use waxseal::queue::store::{StateName, Turns};
use waxseal::sandbox::exchanger::Exchanger;
use waxseal::sandbox::zone::Zone;

use crate::rig::{MINUTE, Rig, patiently, report};

const TURNS: Turns = Turns { per_destination: 4, total: 20 };

/// An exchanger that answers RCPT by the local part: `t` 451 (once for `t1`), `f` 550, all else 250.
async fn picky(listener: TcpListener) {
    let mut deferred = false;
    while let Ok((stream, _)) = listener.accept().await {
        // One connection after the other is enough here.
        let _ = converse(stream, &mut deferred).await;
    }
}

async fn converse(stream: TcpStream, deferred: &mut bool) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(b"220 mx.example.test ESMTP\r\n").await?;
    let (mut line, mut data) = (String::new(), false);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let reply = match line.get(..4) {
            _ if data && line != ".\r\n" => continue,
            _ if data => {
                data = false;
                "250 2.0.0 taken\r\n"
            }
            Some("EHLO") => "250-mx.example.test\r\n250 PIPELINING\r\n",
            Some("RCPT") if line.contains("<t") && !std::mem::replace(deferred, true) => {
                "451 4.7.1 greylisted\r\n"
            }
            Some("RCPT") if line.contains("<f") => "550 5.1.1 no such user\r\n",
            Some("DATA") => {
                data = true;
                "354 go\r\n"
            }
            Some("QUIT") => return Ok(()),
            _ => "250 2.0.0 ok\r\n",
        };
        stream.get_mut().write_all(reply.as_bytes()).await?;
    }
}

/// A listener on each of these addresses, all on one port.
async fn listeners<const N: usize>(addresses: [&str; N]) -> [TcpListener; N] {
    'ports: loop {
        let first = TcpListener::bind((addresses[0], 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut all = vec![first];
        for address in &addresses[1..] {
            let Ok(next) = TcpListener::bind((*address, port)).await else { continue 'ports };
            all.push(next);
        }
        return all.try_into().unwrap();
    }
}

#[tokio::test]
async fn answers_on_the_wire_decide_and_the_notification_is_believed() {
    let mut rig = Rig::new(TURNS);
    rig.go_to_present();
    let record = rig.keyring.load().keys(&"relay.test".parse().unwrap())[0].public.record();
    let (head, tail) = record.split_at(record.len() / 2);
    let zone = Zone::start(&format!(
        "example.test. 60 IN MX 10 mx.example.test.\nmx.example.test. 60 IN A 127.0.0.2\n\
         acme.test. 60 IN MX 10 mx.acme.test.\nmx.acme.test. 60 IN A 127.0.0.3\n\
         relay.test. 60 IN TXT \"v=spf1 ip4:127.0.0.0/8 -all\"\n_dmarc.relay.test. 60 IN TXT \"v=DMARC1; p=reject\"\n\
         wx1._domainkey.relay.test. 60 IN TXT \"{head}\" \"{tail}\"\n"
    ))
    .await
    .unwrap();
    let [example, acme] = listeners(["127.0.0.2", "127.0.0.3"]).await;
    let port = example.local_addr().unwrap().port();
    let acme_at: SocketAddr = acme.local_addr().unwrap();
    drop(acme);
    rig.configure(|config| {
        config.delivery.port = port;
        config.delivery.allow_private_destinations = true;
        config.dns.servers = vec![zone.address()];
    });
    let config = rig.config.load_full();
    let resolver = Resolver::new(&config.dns).unwrap();
    let mut inbox = Exchanger::start(acme_at, "mx.acme.test", resolver.hickory().clone()).await.unwrap();
    let server = tokio::spawn(picky(example));
    let id = rig.accept("acme", &["d1@example.test", "f1@example.test", "t1@example.test"]).await;
    rig.start_with(Arc::new(Deliverer::new(&config, resolver, Vec::new(), rig.with_clock())));

    let arrival = patiently(inbox.arrival()).await.unwrap();
    assert!(arrival.verdict.passes(), "{:?}", arrival.verdict);
    assert_eq!((arrival.from.as_str(), arrival.to), ("", vec!["noreply@acme.test".to_owned()]));
    let said = report(&arrival.message);
    assert!(said.contains("Diagnostic-Code: smtp; 550 5.1.1 no such user\n"), "{said}");
    assert!(said.contains("Remote-MTA: dns; mx.example.test\n"), "{said}");
    let words = String::from_utf8_lossy(&arrival.message).into_owned();
    assert!(words.contains("cause: no_such_user; you can mend it: correct or remove the address"), "{words}");

    rig.until(|all| all.len() == 1 && all[0].state == StateName::Deferred).await;
    let list = rig.list().await;
    assert_eq!((list[0].leg.id, list[0].leg.rcpts.as_slice()), (id, [2_u16].as_slice()));
    rig.pass(6 * MINUTE);
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    assert_eq!(rig.logged("delivered").len(), 3, "two recipients, and the notification");
    server.abort();
}
