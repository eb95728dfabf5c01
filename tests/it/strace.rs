//! Traces of the real binary's system calls: the sync of a message returns before its 250 is written, and one connection too
//! many costs three of them.

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::relay::{Layout, Relay, smtp};
use crate::strangers;

/// Words of the message that the trace must show going in, and of the reply that it must show going out.
const MARK: &str = "X-Mark: traced";
const QUEUED: &str = "250 2.0.0 Ok: queued as ";

#[test]
fn fdatasync_returns_before_the_250_is_written() {
    let strace = strangers::program("strace");
    let dir = tempfile::tempdir().unwrap();
    // Nothing listens there: the message stays queued, and no delivery muddles the trace.
    let relay = Relay::lay_out(dir.path(), &Layout::upstream("127.0.0.1:9".parse().unwrap()));
    let trace = dir.path().join("trace");
    // -D: strace traces from the side, so that the child is the relay itself.
    let calls = "trace=fdatasync,fsync,write,writev,pwrite64,pwritev,sendto,sendmsg,recvfrom,recvmsg,read";
    let args = ["-D", "-f", "-s", "400", "-e", calls, "-o", trace.to_str().unwrap()];
    let mut child = relay.start_with(&strace, &args);

    let mut session = smtp::Session::open(relay.address()).unwrap();
    let message = format!("From: a@bench.test\r\nTo: b@dest.test\r\nSubject: t\r\n{MARK}\r\n\r\nbody\r\n");
    let reply = session.send("a@bench.test", &["b@dest.test"], message.as_bytes()).unwrap();
    assert!(reply.starts_with(QUEUED), "{reply}");
    child.kill().unwrap();
    child.wait().unwrap();

    let lines = whole_trace(&trace);
    let at = |what: &dyn Fn(&str) -> bool| lines.iter().position(|line| what(line));
    let received =
        at(&|line| line.contains(MARK) && (line.contains("recv") || line.contains("read"))).unwrap();
    let answered = at(&|line| line.contains(QUEUED)).unwrap();
    let stored = at(&|line| line.contains("pwrite") || line.contains("write(")).unwrap();
    assert!(stored < answered);
    let synced = |line: &&String| line.contains("fdatasync") && line.trim_end().ends_with("= 0");
    let synced = lines.get(received..answered).unwrap().iter().any(|line| synced(&line));
    assert!(synced, "no fdatasync returned between the message and its 250:\n{}", lines.join("\n"));
}

/// Under overload most connections are turned away, and what that costs is taken from mail: accept, send, close. The runtime is
/// not told of a connection that is over at once.
#[test]
fn a_connection_too_many_costs_three_system_calls() {
    const TURNED_AWAY: usize = 200;
    let strace = strangers::program("strace");
    let dir = tempfile::tempdir().unwrap();
    let tables = "[limits]\nconnections = 1\n".to_owned();
    let layout = Layout { tables, ..Layout::upstream("127.0.0.1:9".parse().unwrap()) };
    let relay = Relay::lay_out(dir.path(), &layout);
    let trace = dir.path().join("trace");
    let args = ["-D", "-f", "-e", "trace=accept4,sendto,epoll_ctl", "-o", trace.to_str().unwrap()];
    let mut child = relay.start_with(&strace, &args);
    let session = smtp::Session::open(relay.address()).unwrap();
    for _ in 0..TURNED_AWAY {
        let mut said = String::new();
        smtp::dial(relay.address()).unwrap().read_to_string(&mut said).unwrap();
        assert!(said.starts_with("421 4.3.2 "), "{said}");
    }
    drop(session);
    child.kill().unwrap();
    child.wait().unwrap();

    let lines = whole_trace(&trace);
    let count = |call: &str| lines.iter().filter(|line| line.contains(call)).count();
    let turned_away = count("421 4.3.2 ");
    assert_eq!(turned_away, TURNED_AWAY);
    // One that finds nobody for each, while clients come one by one.
    assert!(count("accept4(") <= 2 * TURNED_AWAY + 10, "{}", count("accept4("));
    assert!(count("epoll_ctl(") < TURNED_AWAY / 2, "{}: what the house itself has", count("epoll_ctl("));
}

/// The trace once its writer has written the tracee's end.
fn whole_trace(path: &Path) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        if text.contains("+++ killed by SIGKILL +++") || Instant::now() > deadline {
            return text.lines().map(str::to_owned).collect();
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
