//! Why lettre does not hold the outgoing socket: each reason as it behaves today. When one of these fails, lettre got better,
//! and the decision may be looked at again.

use std::os::fd::{AsFd, OwnedFd};

use lettre::address::Envelope;
use lettre::transport::smtp::client::{AsyncSmtpConnection, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use crate::exchanger::{Exchanger, Script, script, street};

async fn server(play: &str) -> (Exchanger, AsyncSmtpTransport<Tokio1Executor>) {
    let (mut exchangers, port) = street(vec![vec![script(play) as Script]]).await;
    let mailer = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.2").port(port);
    (exchangers.remove(0), mailer.hello_name(ClientId::Domain("relay.test".into())).build())
}

#[tokio::test]
async fn lettre_believes_what_is_injected_behind_starttls() {
    let play = "<- 220 mx\n-> EHLO*\n<- 250-mx\n<- 250 STARTTLS\n-> STARTTLS\n<- 220 go\n<- 250-injected\n<- 250 AUTH PLAIN\n\
                -- tls\n-> EHLO*\n-> NOOP\n<- 250 ok\n-> QUIT\n<- 221 bye";
    let (mut exchangers, port) = street(vec![vec![script(play)]]).await;
    let exchanger = exchangers.remove(0);
    let parameters =
        TlsParameters::builder("mx.test".into()).dangerous_accept_invalid_certs(true).build_rustls().unwrap();
    let mailer: AsyncSmtpTransport<Tokio1Executor> =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.2")
            .port(port)
            .tls(Tls::Required(parameters))
            .build();
    assert!(
        in_time(mailer.test_connection()).await.unwrap(),
        "CVE-2021-38371: EHLO under TLS was never answered by the server"
    );
    assert!(exchanger.lines().contains(&"NOOP".to_owned()));
}

#[tokio::test]
async fn lettre_gives_up_at_the_first_refused_recipient() {
    let play =
        "<- 220 mx\n-> EHLO*\n<- 250 mx\n-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 550 not him\n-> QUIT\n<- 221 bye";
    let (exchanger, mailer) = server(play).await;
    let to = vec!["x@b.test".parse().unwrap(), "y@b.test".parse().unwrap()];
    let envelope = Envelope::new(Some("a@acme.test".parse().unwrap()), to).unwrap();
    in_time(mailer.send_raw(&envelope, b"Subject: x\r\n\r\nx\r\n")).await.unwrap_err();
    assert!(
        exchanger.lines().iter().all(|line| !line.contains("y@b.test")),
        "the second was never asked for"
    );
}

#[tokio::test]
async fn lettre_leaves_nagle_on() {
    let (mut exchangers, port) =
        street(vec![vec![script("<- 220 mx\n-> EHLO*\n<- 250 mx\n-- silence")]]).await;
    let exchanger = exchangers.remove(0);
    let hello = ClientId::Domain("relay.test".into());
    let connection =
        AsyncSmtpConnection::connect_tokio1(("127.0.0.2", port), None, &hello, None, None).await.unwrap();
    let sockets = sockets_to(exchanger.address);
    assert!(!sockets.is_empty());
    for socket in &sockets {
        assert!(!rustix::net::sockopt::tcp_nodelay(socket).unwrap(), "and there is no way to say otherwise");
    }
    drop(connection);
}

/// lettre itself waits for ever once it is connected, which is one more reason.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(20), work).await.expect("lettre is stuck")
}

/// This process's sockets that are connected to this address; one may be found twice, by a number that was used again.
fn sockets_to(address: std::net::SocketAddr) -> Vec<OwnedFd> {
    let me =
        rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).unwrap();
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers: Vec<i32> =
        numbers.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    let all = numbers.into_iter().filter_map(|number| {
        rustix::process::pidfd_getfd(me.as_fd(), number, rustix::process::PidfdGetfdFlags::empty()).ok()
    });
    all.filter(|socket| {
        socket2::SockRef::from(socket).peer_addr().ok().and_then(|peer| peer.as_socket()) == Some(address)
    })
    .collect()
}
