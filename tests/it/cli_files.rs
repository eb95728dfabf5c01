//! From nothing to a running relay with the program's own verbs: `init`, tenants, domains, logins, `serve`, SIGTERM.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A directory that `init` has filled.
pub struct Place {
    _dir: tempfile::TempDir,
    config: PathBuf,
}

impl Place {
    /// Runs `init`, and moves its listeners to ports that are free.
    pub fn init() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let output = program(None)
            .args(["init", "--hostname", "relay.test", "--dir"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let config = dir.path().join("config/waxseal.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let moved = text.replace("0.0.0.0:587", "127.0.0.1:0").replace("0.0.0.0:465", "127.0.0.1:0");
        assert_eq!(moved.matches("\"127.0.0.1:0\"").count(), 2, "{moved}");
        std::fs::write(&config, moved).unwrap();
        let place = Self { _dir: dir, config };
        // Nothing answers there: no test asks the machine's name servers.
        place.change("# servers = []", "servers = [\"127.0.0.1:9\"]");
        place.change("# timeout = \"5s\"", "timeout = \"1s\"");
        place
    }

    /// Changes the configuration file.
    pub fn change(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from}: {text}");
        std::fs::write(&self.config, text.replace(from, to)).unwrap();
    }

    /// The directory of the tenants' files.
    pub fn tenants(&self) -> PathBuf {
        self.config.with_file_name("tenants")
    }

    pub fn run(&self, args: &[&str]) -> Output {
        program(Some(&self.config)).args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// What a command that succeeds prints.
    pub fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn serve(&self) -> Served {
        let mut child = program(Some(&self.config))
            .arg("serve")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Served { child, stderr }
    }
}

/// A daemon that does not outlive its test.
struct Served {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Served {
    fn until_ready(&mut self) -> String {
        let mut said = String::new();
        while !said.contains("READY") {
            assert!(self.stderr.read_line(&mut said).unwrap() > 0, "it ended before READY:\n{said}");
        }
        said
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, with this place's configuration.
pub fn program_for(place: &Place) -> Command {
    program(Some(&place.config))
}

fn program(config: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waxseal"));
    command.env_remove("WAXSEAL_CONFIG");
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command
}

pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_tenant_and_its_domain_are_made_with_records_to_publish() {
    let place = Place::init();
    let added = place.text(&["tenant", "add", "acme"]);
    assert!(added.contains("username  acme") && added.contains("password  "), "{added}");
    assert_eq!(place.run(&["tenant", "add", "acme"]).status.code(), Some(1), "it is there already");

    let records = json(&place.text(&["domain", "add", "acme.example", "--tenant", "acme", "--json"]));
    let names: Vec<_> =
        records["records"].as_array().unwrap().iter().map(|record| record["name"].to_string()).collect();
    assert!(names.iter().any(|name| name.contains("wx1._domainkey.acme.example")), "{names:?}");
    let zone = place.text(&["domain", "dns", "acme.example"]);
    assert!(zone.contains("wx1._domainkey.acme.example") && zone.contains("v=spf1"), "{zone}");
    assert_eq!(place.run(&["domain", "dns", "other.example"]).status.code(), Some(4), "nobody's domain");
}

#[test]
fn logins_come_and_go_and_a_tenant_can_be_disabled() {
    let place = Place::init();
    place.text(&["tenant", "add", "acme"]);
    let login = json(&place.text(&["tenant", "login", "add", "acme", "shop", "--json"]));
    assert_eq!((&login["tenant"], &login["username"]), (&"acme".into(), &"shop".into()));
    assert!(login["password"].as_str().is_some_and(|password| !password.is_empty()), "{login}");
    assert_eq!(place.text(&["tenant", "login", "list", "acme"]), "acme\nshop\n");
    place.text(&["tenant", "login", "revoke", "acme", "shop"]);
    assert_eq!(place.text(&["tenant", "login", "list", "acme"]), "acme\n");
    assert_eq!(place.run(&["tenant", "login", "revoke", "acme", "shop"]).status.code(), Some(4), "gone");

    place.text(&["tenant", "disable", "acme"]);
    assert_eq!(json(&place.text(&["tenant", "show", "acme", "--json"]))["disabled"], true);
    place.text(&["tenant", "disable", "acme", "--undo"]);
    assert_eq!(json(&place.text(&["tenant", "show", "acme", "--json"]))["disabled"], false);
}

#[test]
fn a_check_finds_mistakes_in_either_kind_of_file() {
    let place = Place::init();
    place.text(&["tenant", "add", "acme"]);
    let sound = json(&place.text(&["config", "check", "--json"]));
    assert_eq!((&sound["ok"], &sound["tenants"]), (&true.into(), &1.into()));
    let tenant = place.tenants().join("acme.toml");
    for file in [&tenant, &place.config] {
        let good = std::fs::read_to_string(file).unwrap();
        std::fs::write(file, format!("qqqqqqqq = 1\n{good}")).unwrap();
        let output = place.run(&["config", "check"]);
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(&format!("{name}:1:1")), "the place is named: {said}");
        std::fs::write(file, good).unwrap();
    }
    let warned = || String::from_utf8(place.run(&["config", "check"]).stderr).unwrap();
    assert_eq!(warned(), "");
    std::fs::remove_dir_all(place.config.with_file_name("keys").join("relay.test")).unwrap();
    assert!(warned().contains("waxseal key generate relay.test"), "notifications could not be sealed");
    place.text(&["config", "check"]);
}

#[test]
fn what_init_made_serves_and_ends_when_told() {
    let place = Place::init();
    place.text(&["tenant", "add", "acme"]);
    place.text(&["domain", "add", "acme.example", "--tenant", "acme"]);
    let mut served = place.serve();
    let said = served.until_ready();
    assert_eq!(said.matches("127.0.0.1:").count(), 2, "both listeners are named: {said}");
    // READY does not wait for the index; until it is there, commands about the queue are refused.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !place.run(&["queue", "list"]).status.success() && std::time::Instant::now() < deadline {
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    assert_eq!(place.text(&["queue", "list", "--json"]), "", "nothing is queued");

    let pid = rustix::process::Pid::from_child(&served.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut rest = String::new();
    served.stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(served.child.wait().unwrap().code(), Some(0), "{rest}");
    assert_eq!(place.run(&["queue", "list"]).status.code(), Some(3), "no daemon");
}

/// Bug: the key of another certificate passed, and `serve` refused it.
#[test]
fn a_check_reads_certificates_and_names_unknown_tenants() {
    let place = Place::init();
    place.text(&["tenant", "add", "acme"]);
    assert!(place.run(&["config", "check"]).stderr.is_empty());
    let text = std::fs::read_to_string(&place.config).unwrap();
    let source = "[[delivery.source]]\naddress = \"192.0.2.1\"\ntenants = [\"acme\", \"amce\"]\n";
    std::fs::write(&place.config, format!("{text}\n{source}")).unwrap();
    let said = String::from_utf8(place.run(&["config", "check"]).stderr).unwrap();
    assert!(said.contains("tenant amce") && !said.contains("tenant acme"), "{said}");
    let key = place.config.with_file_name("../certs/relay.key");
    crate::relay::secret(&key, &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let refused = place.run(&["config", "check"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(78) && said.contains("relay.key"), "{said}");
}

/// Bug: a mail log that the daemon may not open kept a revoked login in force.
#[test]
fn a_mail_log_that_cannot_be_opened_keeps_nothing_else_from_a_reload() {
    let place = Place::init();
    place.text(&["tenant", "add", "acme"]);
    let mut served = place.serve();
    served.until_ready();
    let log = place.config.with_file_name("../data/mail.jsonl");
    std::fs::rename(&log, log.with_extension("1")).unwrap();
    std::fs::create_dir(&log).unwrap();
    let file = place.tenants().join("acme.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[[domain]]\nname = \"acme.example\"\n")).unwrap();
    let reload = place.run(&["reload"]);
    let said = String::from_utf8(reload.stderr).unwrap();
    assert!(reload.status.code() == Some(1) && said.contains("everything else was taken over"), "{said}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let socket = place.config.with_file_name("../data/admin.sock");
    let client = waxseal::control::Client::new(&socket);
    let known = runtime.block_on(client.bytes("/v1/domains")).unwrap();
    assert!(String::from_utf8_lossy(&known).contains("acme.example"), "{known:?}");
    std::fs::remove_dir(&log).unwrap();
    assert!(place.run(&["reload"]).status.success());
    assert!(log.is_file(), "and the next one has it opened");
}

#[test]
fn the_daemon_takes_a_change_over_also_where_nobody_reads_what_is_printed() {
    let place = Place::init();
    let mut served = place.serve();
    served.until_ready();
    let rows: [&[&str]; 5] = [
        &["tenant", "add", "acme"],
        &["tenant", "login", "add", "acme", "second", "--json"],
        &["domain", "add", "acme.example", "--tenant", "acme", "--offline"],
        &["key", "generate", "acme.example", "--algorithm", "ed25519"],
        &["key", "generate", "acme.example", "--selector", "third", "--json"],
    ];
    for args in rows {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program_for(&place).args(args).stdin(Stdio::null()).stdout(writer).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(said.contains("the daemon says: "), "{args:?}: {said}");
    }
}
