//! `classify` and `tenant control-address`, without a daemon.

use std::path::Path;
use std::process::{Command, Output, Stdio};

const RESET: &str = "From: Acme <a@acme.test>\nSubject: Hello\nContent-Type: text/html\n\n\
                     <a href=\"https://acme.test/auth?mode=resetPassword&amp;oobCode=S3CRET\">here</a>\n";

fn lay_out() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = "hostname = \"relay.test\"\nstate = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n\
                  [[class]]\nname = \"alert\"\nlane = \"urgent\"\n";
    std::fs::write(dir.path().join("waxseal.toml"), config).unwrap();
    std::fs::create_dir(dir.path().join("tenants")).unwrap();
    let tenant = "name = \"acme\"\ndefault_class = \"program_email\"\n[suppression]\napply = \"no_complaints\"\n[[class]]\nname = \"alert\"\nsuppression = \"off\"\n[[class]]\nname = \"password_reset\"\nsuppression = \"all\"\n[[domain]]\nname = \"acme.test\"\n\
                  [[login]]\nusername = \"acme-alerts\"\nclass = \"alert\"\npassword = \"$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyB0aGlz$VjxZbB9Wl2bxlD0gYcYHcYOZtTLE0mrKsP5JpL8nJhw\"\n";
    std::fs::write(dir.path().join("tenants/acme.toml"), tenant).unwrap();
    std::fs::write(dir.path().join("tenants/blue.toml"), "name = \"blue\"\n").unwrap();
    std::fs::write(dir.path().join("reset.eml"), RESET).unwrap();
    dir
}

fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waxseal"));
    command.env_remove("WAXSEAL_CONFIG").current_dir(dir).stdin(Stdio::null());
    command.arg("--config").arg(dir.join("waxseal.toml")).args(args).output().unwrap()
}

fn text(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(dir: &Path, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&text(dir, &[args, &["--json"]].concat())).unwrap()
}

#[test]
fn classify_explains_what_every_source_says_and_why_one_decides() {
    let dir = lay_out();
    let dir = dir.path();
    let said = text(dir, &["classify", "reset.eml"]);
    for part in [
        "link     password_reset  mode=resetpassword in a link to acme.test",
        "default  program_email   default_class",
        "class   password_reset: link is the most trusted source that knows one; it is a guess",
        "tenant  acme",
        "lane    urgent",
        "priority 4: nobody asks for one, so the class has the word",
        "retry   5s 15s 30s 1m 2m 5m 10m 15m 30m 1h 2h 4h, the last one repeats",
        "hides   subject, link",
        "suppression no_complaints, as the tenant has it: no class is certain",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(!said.to_lowercase().contains("s3cret"), "{said}");
    let answer = json(dir, &["classify", "reset.eml", "--mt-priority", "-9"]);
    assert_eq!(
        (answer["priority"].as_i64(), answer["priority_by"].as_str(), answer["lane"].as_str()),
        (Some(-9), Some("parameter"), Some("bulk"))
    );
    let answer = json(dir, &["classify", "reset.eml", "--login", "acme-alerts"]);
    assert_eq!(
        (answer["class"].as_str(), answer["by"].as_str(), answer["certain"].as_bool()),
        (Some("alert"), Some("login"), Some(true))
    );
    assert_eq!(answer["disposal"]["suppression"], "off, as the class says");
    assert_eq!(answer["sources"].as_array().unwrap().len(), 7);
    assert_eq!(
        answer["sources"][4]["class"], "password_reset",
        "sources behind the one that decides are told too"
    );
    let answer = json(dir, &["classify", "reset.eml", "--tenant", "blue"]);
    assert_eq!((answer["tenant"].as_str(), answer["by"].as_str()), (Some("blue"), Some("link")));
    std::fs::write(
        dir.join("two.eml"),
        "From: a@acme.test\nX-Waxseal-Class: w9\nX-Waxseal-Class: reward\n\nx\n",
    )
    .unwrap();
    let said = text(dir, &["classify", "two.eml"]);
    assert!(
        said.contains("(they contradict one another, so none counts)")
            && said.contains("program_email: no other source"),
        "{said}"
    );
    assert!(!dir.join("data").exists(), "nothing is made by asking");
}

#[test]
fn a_control_address_is_the_same_each_time_and_this_tenants_only() {
    let dir = lay_out();
    let dir = dir.path();
    let address = text(dir, &["tenant", "control-address", "acme", "w9"]);
    let address = address.trim();
    assert!(address.starts_with("class+w9.") && address.ends_with("@in.relay.test"), "{address}");
    assert_eq!(json(dir, &["tenant", "control-address", "acme", "w9"])["address"], address);
    let answer = json(dir, &["classify", "reset.eml", "--rcpt", "b@there.test", "--rcpt", address]);
    assert_eq!((answer["class"].as_str(), answer["by"].as_str()), (Some("w9"), Some("control")));
    let answer = json(dir, &["classify", "reset.eml", "--tenant", "blue", "--rcpt", address]);
    assert_eq!(answer["by"], "link", "another tenant's proves nothing");
    assert!(
        answer["sources"][2]["found"][0]["what"].as_str().unwrap().contains("its code is wrong"),
        "{answer}"
    );
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(dir.join("data/secrets/control")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn exit_codes() {
    let dir = lay_out();
    let dir = dir.path();
    std::fs::write(dir.join("bad.eml"), "From : a@acme.test\n\nx\n").unwrap();
    for (args, code, why) in [
        (&["tenant", "control-address", "acme", "w99"][..], 4, "no such class"),
        (&["tenant", "control-address", "nobody", "w9"], 4, "no such tenant"),
        (&["classify", "reset.eml", "--tenant", "nobody"], 4, "no such tenant"),
        (&["classify", "reset.eml", "--login", "nobody"], 4, "no such login"),
        (
            &["classify", "reset.eml", "--tenant", "blue", "--login", "acme-alerts"],
            2,
            "another tenant's login",
        ),
        (&["classify", "missing.eml"], 1, "no such file"),
        (&["classify", "bad.eml"], 1, "the relay would refuse it"),
        (&["classify"], 2, "no file"),
    ] {
        let output = run(dir, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {why}: {output:?}");
    }
    let said = run(dir, &["tenant", "control-address", "acme", "w99"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("did you mean `w9`?"), "{said:?}");
}
