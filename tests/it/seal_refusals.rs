//! What a platform's administrator reads when mail is refused, through clients that others wrote: swaks shows the wire, lettre what
//! a program shows of it.

use hickory_server::proto::rr::RecordType;
use waxseal::control::Client;
use waxseal::sandbox::client::{self, Method};
use waxseal::sandbox::world::{Extra, World};
use waxseal::seal::check::Report;

use super::world::start;
use crate::strangers;

/// A situation: what is wrong in the zone, and the refusal, line by line. `{key}` stands for the key's octets, `{id}` for the
/// id, `{since}` for the time.
struct Row {
    why: &'static str,
    withdraw: &'static [&'static str],
    publish: &'static str,
    lines: &'static [&'static str],
}

const ROWS: [Row; 3] = [
    Row {
        why: "nothing is published",
        withdraw: &["wx1._domainkey.acme.test", "acme.test", "_dmarc.acme.test"],
        publish: "_dmarc.acme.test. 1 IN TXT \"v=DMARC1; p=reject\"\n",
        lines: &[
            "550-5.7.26 relay.sandbox.test: acme.test would fail DMARC at receivers (p=reject):",
            "550-5.7.26 dkim: wx1._domainkey.acme.test is not published; spf: acme.test has no SPF record",
            "550-5.7.26 publish: wx1._domainkey.acme.test TXT v=DKIM1; k=rsa; p={key}",
            "550-5.7.26 publish: acme.test TXT v=spf1 ip4:127.0.0.1 ~all",
            "550-5.7.26 failing since {since}",
            "550 5.7.26 then: waxseal domain check acme.test   (id {id})",
        ],
    },
    Row {
        why: "another key is published, and SPF names another server",
        withdraw: &["wx1._domainkey.acme.test", "acme.test"],
        publish: "wx1._domainkey.acme.test. 1 IN TXT \"v=DKIM1; p=\"\nacme.test. 1 IN TXT \"v=spf1 ip4:192.0.2.9 -all\"\n",
        lines: &[
            "550-5.7.26 publish: acme.test TXT v=spf1 ip4:192.0.2.9 ip4:127.0.0.1 -all",
            "550 5.7.26 then: waxseal domain check acme.test   (id {id})",
        ],
    },
    Row {
        why: "no DMARC record: mailbox providers refuse it all the same",
        withdraw: &["wx1._domainkey.acme.test", "acme.test", "_dmarc.acme.test"],
        publish: "",
        lines: &["550 5.7.26 then: waxseal domain check acme.test   (id {id})"],
    },
];

async fn prepare(row: &Row) -> (World, tempfile::TempDir) {
    let (world, dir) = start(&Extra::default()).await;
    for name in row.withdraw {
        world.zone.withdraw(name, RecordType::TXT).await.unwrap();
    }
    world.zone.publish(row.publish).await.unwrap();
    let admin = Client::new(&world.config.admin.socket);
    let report: Report = admin.post("/v1/domain/acme.test/check", &()).await.unwrap();
    assert!(!report.believed.passes(), "{}: {report:?}", row.why);
    (world, dir)
}

/// The reply to the message, line by line, as swaks saw it on the wire.
fn by_swaks(world: &World) -> Vec<String> {
    let mut command = strangers::command("swaks");
    let server = world.door(Method::None).unwrap().to_string();
    command.args(["--server", &server, "--from", "a@acme.test", "--to", "b@inbox.test", "--body", "Hello."]);
    let output = command.output().unwrap();
    assert!(!output.status.success(), "it must be refused");
    let said = String::from_utf8(output.stdout).unwrap();
    let replies = said.lines().filter_map(|line| line.strip_prefix("<** "));
    replies.map(|line| line.trim_end().to_owned()).collect()
}

/// Whether a line fits its pattern, in which each `{...}` stands for a word.
fn fits(line: &str, pattern: &str) -> bool {
    let mut rest = line;
    for (at, piece) in pattern.split(['{', '}']).enumerate() {
        if at % 2 == 1 {
            let word = rest.find([' ', ')']).unwrap_or(rest.len());
            rest = &rest[word..];
        } else {
            let Some(after) = rest.strip_prefix(piece) else { return false };
            rest = after;
        }
    }
    rest.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_line_by_line_what_to_publish() {
    if strangers::absent("swaks") {
        return;
    }
    for row in &ROWS {
        let (world, _dir) = prepare(row).await;
        let lines = tokio::task::block_in_place(|| by_swaks(&world));
        assert!(lines.iter().all(|line| line.len() <= 510), "{}: 512 octets with CRLF: {lines:#?}", row.why);
        assert!(
            lines.iter().all(|line| line.starts_with("550") && line[4..].starts_with("5.7.26 ")),
            "{lines:#?}"
        );
        for pattern in row.lines {
            assert!(
                lines.iter().any(|line| fits(line, pattern)),
                "{}: no {pattern:?} in {lines:#?}",
                row.why
            );
        }
        // lettre shows the same words in one piece.
        let form = world.form(Method::Tls).unwrap();
        let refused =
            client::send(&form, "a@acme.test", "b@inbox.test", "Hello").await.unwrap_err().to_string();
        assert!(refused.contains("then: waxseal domain check acme.test"), "{refused}");
        world.end().await.unwrap();
    }
}
