//! Reports as servers write them, and what must not be taken for one.

use proptest::prelude::*;

use super::*;

fn report(fields: &str, third: &str) -> String {
    format!(
        "From: MAILER-DAEMON@mx.there.test\r\nTo: x@y.test\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\n{fields}\r\n{third}--b--\r\n"
    )
}

fn status_of(message: &str) -> Status {
    match read(message.as_bytes()).unwrap() {
        Report::Status(status) => status,
        Report::Complaint(complaint) => panic!("{complaint:?}"),
    }
}

/// As Postfix 3.7 writes it.
const POSTFIX: &str = "Reporting-MTA: dns; mx.there.test\r\nX-Postfix-Queue-ID: 4F2\r\n\
    X-Postfix-Sender: rfc822; b+x@bounce.acme.test\r\nArrival-Date: Mon,  5 Jan 2026 10:00:00 +0000 (UTC)\r\n\r\n\
    Final-Recipient: rfc822; bob@there.test\r\nOriginal-Recipient: rfc822;bob@alias.test\r\nAction: failed\r\n\
    Status: 5.1.1\r\nRemote-MTA: dns; store.there.test\r\n\
    Diagnostic-Code: smtp; 550 5.1.1 <bob@there.test>: Recipient address\r\n    rejected: User unknown\r\n";

#[test]
fn postfixs_report_is_read() {
    let third = "--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: a@acme.test\r\nSubject: s\r\n\r\nbody\r\n";
    let status = status_of(&report(POSTFIX, third));
    assert_eq!(status.reporting.as_deref(), Some("mx.there.test"));
    assert_eq!(status.returned.as_deref(), Some(&b"From: a@acme.test\r\nSubject: s\r\n"[..]));
    let one = &status.recipients[0];
    assert_eq!(one.recipient().unwrap().to_string(), "bob@alias.test", "as we had named it");
    assert_eq!((one.action, one.status, one.code), (Action::Failed, Some(Enhanced(5, 1, 1)), 550));
    assert_eq!(one.text, "5.1.1 <bob@there.test>: Recipient address rejected: User unknown");
    assert_eq!(one.remote.as_deref(), Some("store.there.test"));
    let headers = "--b\r\nContent-Type: text/rfc822-headers\r\n\r\nFrom: a@acme.test\r\n\r\n";
    assert_eq!(status_of(&report(POSTFIX, headers)).returned.as_deref(), Some(&b"From: a@acme.test\r\n"[..]));
    assert_eq!(status_of(&report(POSTFIX, "")).returned, None);
}

#[test]
fn fields_as_servers_write_them() {
    type Row<'a> = (&'a str, Option<(&'a str, Action, u16, &'a str)>, &'a str);
    let rows: &[Row<'_>] = &[
        (
            "Final-Recipient: RFC822; <a@b.test>\r\nAction: FAILED\r\nStatus: 5.2.2 (full)\r\n",
            Some(("a@b.test", Action::Failed, 0, "the reporting server gave no reason")),
            "brackets, capitals, a remark",
        ),
        (
            "Final-Recipient: rfc822;a@b.test\r\nAction: delayed\r\nStatus: 4.4.1\r\nDiagnostic-Code: X-Up; timed out\r\n",
            Some(("a@b.test", Action::Delayed, 0, "timed out")),
            "a type of its own",
        ),
        (
            "Final-Recipient: rfc822;a@b.test\r\nAction: delivered\r\nStatus: 2.0.0\r\nDiagnostic-Code: smtp;250-ok\r\n",
            Some(("a@b.test", Action::Delivered, 250, "ok")),
            "a success",
        ),
        (
            "Final-Recipient: utf-8; gr\\x{FC}n@b.test\r\nAction: failed\r\nStatus: 5.1.1\r\n",
            Some(("gr\u{fc}n@b.test", Action::Failed, 0, "the reporting server gave no reason")),
            "RFC 6533",
        ),
        (
            "Final-Recipient: rfc822;a@b.test\r\nAction: bounced\r\nStatus: 5.0.0\r\nDiagnostic-Code: smtp; 5.0.0 gone\r\n",
            Some(("a@b.test", Action::Failed, 0, "5.0.0 gone")),
            "an unknown word with a permanent status is a failure",
        ),
        ("Final-Recipient: rfc822;a@b.test\r\nAction: maybe\r\nStatus: 4.0.0\r\n", None, "an unknown word"),
        ("Final-Recipient: rfc822;a@b.test\r\nStatus: 5.0.0\r\n", None, "no action: not a recipient's group"),
    ];
    for (fields, expected, why) in rows {
        for about in ["Reporting-MTA: dns; mx.test\r\n\r\n", ""] {
            let read = read(report(&format!("{about}{fields}"), "").as_bytes());
            let Some((address, action, code, text)) = expected else {
                assert_eq!(read, Err(NoReport::Empty), "{why}");
                continue;
            };
            let Ok(Report::Status(status)) = read else { panic!("{why}") };
            let one = &status.recipients[0];
            let got = (one.recipient().unwrap().to_string(), one.action, one.code, one.text.clone());
            assert_eq!(got, ((*address).to_owned(), *action, *code, (*text).to_owned()), "{why}");
        }
    }
}

#[test]
fn a_thousand_recipients_are_read_and_no_more() {
    let one =
        |n: usize| format!("\r\nFinal-Recipient: rfc822;r{n}@b.test\r\nAction: failed\r\nStatus: 5.1.1\r\n");
    let many: String = (0..5_000).map(one).collect();
    let status = status_of(&report(&format!("Reporting-MTA: dns; mx.test\r\n{many}"), ""));
    assert_eq!(status.recipients.len(), 1_000);
    let long = format!(
        "{}Diagnostic-Code: smtp; 550 {}\r\n",
        POSTFIX.split("Diagnostic").next().unwrap(),
        "x".repeat(9_000)
    );
    assert_eq!(status_of(&report(&long, "")).recipients[0].text.len(), 512);
}

#[test]
fn what_a_stranger_wrote_begins_no_line() {
    let fields = POSTFIX.replace("User unknown", "User\x1b[2J\x07 unknown");
    let status = status_of(&report(&fields, ""));
    assert!(!status.recipients[0].text.chars().any(char::is_control), "{:?}", status.recipients[0].text);
}

#[test]
fn a_complaint_is_read() {
    let message = "From: fbl@there.test\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\nabuse\r\n\
        --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: x/1\r\nVersion: 1\r\n\
        Original-Rcpt-To: <bob@there.test>\r\nReporting-MTA: dns; fbl.there.test\r\n\r\n--b--\r\n";
    let Report::Complaint(complaint) = read(message.as_bytes()).unwrap() else { panic!("no complaint") };
    assert_eq!((complaint.kind.as_str(), complaint.reporter.as_deref()), ("abuse", Some("fbl.there.test")));
    assert_eq!(complaint.recipient.unwrap().to_string(), "bob@there.test");
}

#[test]
fn other_mail_is_no_report() {
    let good = report(POSTFIX, "");
    let rows = [
        (
            "From: a@b.test\r\n\r\nI am away until Monday.\r\n".to_owned(),
            NoReport::Mail,
            "a vacation program",
        ),
        (good.replace("multipart/report", "multipart/mixed"), NoReport::Mail, "parts, but no report"),
        (good.replace("message/delivery-status", "text/plain"), NoReport::Empty, "a report of nothing"),
        (
            "From: a@b.test\r\nSubject: failure notice\r\n\r\nHi. This is the qmail-send program.\r\n"
                .to_owned(),
            NoReport::Mail,
            "a bounce in words",
        ),
        (String::new(), NoReport::Mail, "nothing"),
    ];
    for (message, why_not, why) in rows {
        assert_eq!(read(message.as_bytes()), Err(why_not), "{why}");
    }
    let forwarded = format!("From: a@b.test\r\nContent-Type: message/rfc822\r\n\r\n{good}");
    assert_eq!(
        read(forwarded.as_bytes()),
        Err(NoReport::Mail),
        "a report that somebody forwards is no report"
    );
}

#[test]
fn encoded_parts_are_read() {
    let encoded = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let third = format!(
        "--b\r\nContent-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: BASE64\r\n\r\n{}\r\n",
        encoded("From: a@acme.test\r\nSubject: s\r\n")
    );
    let plain = report("FIELDS", &third);
    let message = plain.replace(
        "message/delivery-status\r\n\r\nFIELDS",
        &format!("message/delivery-status\r\nContent-Transfer-Encoding: base64\r\n\r\n{}", encoded(POSTFIX)),
    );
    let status = status_of(&message);
    assert_eq!(status.recipients[0].code, 550);
    assert_eq!(status.returned.as_deref(), Some(&b"From: a@acme.test\r\nSubject: s\r\n"[..]));
}

/// Anybody who ever got mail can write to its return path: nesting once overflowed the stack.
#[test]
fn hostile_structures_cost_little() {
    let messages = "Content-Type: message/rfc822\r\n\r\n".repeat(500_000);
    let nested: String = (0..50_000)
        .map(|n| format!("--b{n}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n", n + 1))
        .collect();
    let third = format!("--b\r\n{messages}");
    let status = status_of(&report(POSTFIX, &third));
    assert_eq!(status.recipients.len(), 1, "messages within messages");
    let third = format!("--b\r\nContent-Type: multipart/mixed; boundary=b0\r\n\r\n{nested}");
    assert_eq!(status_of(&report(POSTFIX, &third)).returned, None, "parts within parts");
    assert_eq!(read(messages.as_bytes()), Err(NoReport::Mail), "no report at all");
    let parts = report(POSTFIX, &"--b\r\n\r\nx\r\n".repeat(300_000));
    assert_eq!(status_of(&parts).recipients.len(), 1, "300,000 parts");
}

proptest! {
    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&octets);
    }

    #[test]
    fn any_fields_are_survived(fields in "([A-Za-z-]{1,20}:[ -~\t\u{e9}]{0,60}\r\n([ \t][ -~]{0,30}\r\n)?|\r\n|[ -~]{0,10}\n){0,30}") {
        if let Ok(Report::Status(status)) = read(report(&fields, "").as_bytes()) {
            for one in status.recipients {
                prop_assert!(one.text.chars().count() <= 512 && !one.text.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn a_torn_report_is_survived(end in 0..900_usize, noise in any::<u8>()) {
        let mut octets = report(POSTFIX, "--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: a@b.test\r\n\r\nx\r\n").into_bytes();
        octets.truncate(end);
        octets.push(noise);
        let _ = read(&octets);
    }
}
