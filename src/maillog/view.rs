//! How a person reads a record: one line as Postfix readers know it. Whatever a stranger said is escaped here, at display,
//! so that no log line can drive a terminal.

use std::fmt::Write as _;

use serde_json::Value;

use super::escape::is_unsafe;

/// The text with everything escaped that a terminal would obey.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// One line: `time type id tenant= priority= from= to= relay= delay= dsn= status=`, and the reply in brackets.
#[must_use]
pub fn line(record: &Value) -> String {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let kind = text("type").unwrap_or("?");
    let mut line = format!("{} {} {}", text("ts").unwrap_or("?"), kind, text("id").unwrap_or("-"));
    for name in ["tenant", "login", "class"] {
        word(&mut line, name, text(name));
    }
    if let Some(priority) = record.get("priority").and_then(Value::as_i64) {
        put(&mut line, "priority", &priority.to_string());
    }
    if let Some(from) = text("from") {
        let _ = write!(line, " from=<{from}>");
    }
    if let Some(to) = record.get("to") {
        let _ = write!(line, " to={}", recipients(record, to));
    }
    match (text("helo"), text("host"), text("ip")) {
        (Some(helo), _, Some(ip)) => put(&mut line, "client", &format!("{helo}[{ip}]")),
        (_, Some(host), Some(ip)) => put(&mut line, "relay", &format!("{host}[{ip}]")),
        (_, Some(host), None) => put(&mut line, "relay", host),
        (_, None, Some(ip)) => put(&mut line, "ip", ip),
        _ => {}
    }
    details(&mut line, record, kind);
    clean(&line)
}

/// The words after those that every line has.
fn details(line: &mut String, record: &Value, kind: &str) {
    let at = |path: &str| record.pointer(path);
    let text = |path: &str| at(path).and_then(Value::as_str);
    word(line, "deliver_by", text("/deliver_by"));
    word(line, "by_mode", text("/by_mode"));
    word(line, "tls", text("/tls/version"));
    word(line, "mechanism", text("/mechanism"));
    if let Some(attempt) = at("/attempt").and_then(Value::as_u64) {
        put(line, "attempt", &attempt.to_string());
    }
    if let Some(ms) = at("/ms/total").and_then(Value::as_u64) {
        let _ = write!(line, " delay={}.{:03}", ms / 1_000, ms % 1_000);
    }
    word(line, "dsn", text("/reply/enhanced"));
    word(line, "status", status(kind));
    word(line, "cause", text("/advice").and(text("/reason_class")));
    word(line, "next", text("/next_attempt"));
    word(line, "rests", text("/rests_until"));
    word(line, "by", text("/actor"));
    word(line, "action", text("/action"));
    if at("/exposed").is_some() {
        line.push_str(" exposed");
    }
    let code = at("/reply/code").and_then(Value::as_u64).map(|code| code.to_string());
    let said = [code.as_deref(), text("/reply/text"), text("/reason")];
    let said: Vec<&str> = said.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    if !said.is_empty() {
        let _ = write!(line, " ({})", said.join(" "));
    }
    if let (Some(whose), Some(advice)) = (text("/whose"), text("/advice")) {
        let _ = write!(line, " {whose}: {advice}");
    }
}

/// The status that Postfix's readers look for.
fn status(kind: &str) -> Option<&'static str> {
    match kind {
        "delivered" | "relayed" => Some("sent"),
        "deferred" => Some("deferred"),
        "bounced" => Some("bounced"),
        "expired" => Some("expired"),
        "held" => Some("held"),
        "dropped" => Some("dropped"),
        "suppressed" => Some("suppressed"),
        "superseded" => Some("superseded"),
        "rejected" => Some("reject"),
        _ => None,
    }
}

fn recipients(record: &Value, to: &Value) -> String {
    let Some(all) = to.as_array() else { return format!("<{}>", to.as_str().unwrap_or_default()) };
    let named: Vec<_> = all.iter().filter_map(Value::as_str).map(|to| format!("<{to}>")).collect();
    let count = record.get("rcpts").and_then(Value::as_u64).unwrap_or_default();
    let unnamed = usize::try_from(count).unwrap_or(0).saturating_sub(named.len());
    let more = if unnamed > 0 { format!(" and {unnamed} more") } else { String::new() };
    named.join(",") + &more
}

fn word(line: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        put(line, name, value);
    }
}

fn put(line: &mut String, name: &str, value: &str) {
    let _ = write!(line, " {name}={value}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::line;

    #[test]
    fn a_delivery_reads_as_in_postfix() {
        let record = json!({
            "v": 1, "ts": "2026-01-31T12:00:00.000Z", "type": "delivered", "id": "01JD7K2M8A0000000000000000",
            "tenant": "acme", "from": "a@acme.test", "to": "b@there.test", "host": "mx.there.test",
            "ip": "192.0.2.7", "attempt": 2, "ms": {"total": 1234},
            "reply": {"code": 250, "enhanced": "2.0.0", "text": "Ok"},
        });
        assert_eq!(
            line(&record),
            "2026-01-31T12:00:00.000Z delivered 01JD7K2M8A0000000000000000 tenant=acme from=<a@acme.test> \
             to=<b@there.test> relay=mx.there.test[192.0.2.7] attempt=2 delay=1.234 dsn=2.0.0 status=sent (250 Ok)"
        );
    }

    #[test]
    fn a_refusal_says_whose_turn_it_is() {
        let record = json!({
            "ts": "t", "type": "deferred", "host": "mx.there.test",
            "reply": {"code": 450, "enhanced": "4.2.0", "text": "Greylisted"},
            "reason_class": "greylisted", "whose": "nobody", "advice": "wait",
        });
        assert_eq!(
            line(&record),
            "t deferred - relay=mx.there.test dsn=4.2.0 status=deferred cause=greylisted (450 Greylisted) nobody: wait"
        );
    }

    #[test]
    fn a_stranger_does_not_drive_the_terminal() {
        let record = json!({
            "ts": "t", "type": "rejected", "helo": "\u{1b}]0;owned\u{7}", "ip": "192.0.2.7",
            "reply": {"code": 550, "text": "a\r\nb\u{9b}2J\u{202e}"},
        });
        let shown = line(&record);
        assert!(!shown.chars().any(super::is_unsafe), "{shown}");
        assert!(shown.contains("\\u{1b}]0;owned\\u{7}"), "{shown}");
    }

    #[test]
    fn a_null_reverse_path_and_many_recipients_show() {
        let record =
            json!({"ts": "t", "type": "received", "from": "", "to": ["a@b.test", "c@b.test"], "rcpts": 5});
        assert_eq!(line(&record), "t received - from=<> to=<a@b.test>,<c@b.test> and 3 more");
    }
}
