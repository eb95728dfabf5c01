//! `waxseal sandbox --once`, the real program: what a newcomer runs first.

use std::process::Command;

#[test]
fn sandbox_once_shows_the_journey_and_exits_0() {
    let output = Command::new(env!("CARGO_BIN_EXE_waxseal")).args(["sandbox", "--once"]).output().unwrap();
    let (said, noted) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{noted}");
    let steps: Vec<_> = said.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    // When the platform gets to read its 250 is its own affair: the message may by then be on its way.
    assert!(steps.contains(&"queued"), "{said}");
    let steps: Vec<_> = steps.into_iter().filter(|step| *step != "queued").collect();
    assert_eq!(steps, ["submit", "received", "attempt", "arrived", "delivered"], "{said}");
    assert!(said.contains("dkim=pass spf=pass dmarc=pass"), "{said}");
    let ids: std::collections::BTreeSet<_> =
        said.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(ids.len(), 1, "one id from the first step to the last:\n{said}");
}

#[test]
fn sandbox_speaks_json() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_waxseal")).args(["sandbox", "--once", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["v"], 1);
        assert!(record["event"]["ts"].is_string() && record["event"]["step"].is_string(), "{line}");
    }
}
