//! Configuration and tenants' files: the sample is the default, and each mistake is named with its place.

use std::path::Path;

use waxseal::config::Config;
use waxseal::tenant::{self, edit};

const SAMPLE: &str = include_str!("../../config/waxseal.toml");
const TENANT_SAMPLE: &str = include_str!("../../config/tenants/example.toml.sample");
const START: &str = "hostname = \"relay.test\"\n";
const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n";
const UNSUBSCRIBE: &str = "[unsubscribe]\naddress = \"127.0.0.1:1\"\nbase_url = \"https://u.test\"\n";

/// What loading this text says; the file's name is cut off.
fn config_error(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("waxseal.toml");
    std::fs::write(&path, text).unwrap();
    let error = Config::load_with(Some(&path), &|_| None).unwrap_err().to_string();
    error.strip_prefix(&format!("{}:", path.display())).unwrap().to_owned()
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("config");
    std::fs::create_dir_all(&dir).unwrap();
    let path = tempfile::Builder::new().suffix(".toml").tempfile_in(&dir).unwrap();
    std::fs::write(path.path(), text).unwrap();
    let of =
        |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Config::load_with(Some(path.path()), &of).map_err(|error| error.to_string())
}

/// The sample with every option written out, except those that are unset by default.
fn uncommented(sample: &str) -> String {
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(option) if option.contains(" = ") && !line.contains("unset by default") && is_option(option) => {
            option.to_owned()
        }
        _ => line.to_owned(),
    };
    sample.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn is_option(line: &str) -> bool {
    line.split(" = ").next().is_some_and(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

#[test]
fn the_sample_is_the_default() {
    let least = "hostname = \"relay.example.com\"\n[[listener]]\naddress = \"0.0.0.0:587\"\n\
                 [tls]\ncertificate = \"../certs/relay.pem\"\nkey = \"../certs/relay.key\"\n";
    let mut all = load(&uncommented(SAMPLE), &[]).unwrap();
    let default = load(least, &[]).unwrap();
    assert_ne!(all.file, default.file);
    all.file.clone_from(&default.file);
    assert_eq!(all, default);
    let mut as_it_stands = load(SAMPLE, &[]).unwrap();
    as_it_stands.file.clone_from(&default.file);
    assert_eq!(as_it_stands, default);
}

#[test]
fn the_sample_names_every_option() {
    // An unknown key is answered with the known ones: each of them must stand in the sample.
    let tables = [
        "",
        "[[listener]]",
        "[tls]",
        "[relay]",
        "[seal]",
        "[limits]",
        "[dns]",
        "[delivery]",
        "[queue]",
        "[log]",
        "[admin]",
        "[unsubscribe]",
        "[[class]]",
    ];
    for table in tables {
        let error = config_error(&format!("{table}\nqqqqqqqq = 1\n"));
        let known = error.split("known here: ").nth(1).unwrap_or_else(|| panic!("{table}: {error}"));
        for key in known.split(", ") {
            let named = SAMPLE.contains(&format!("{key} = ")) || SAMPLE.contains(&format!("[{key}]"));
            assert!(named, "{table} {key} is not in the sample");
        }
    }
}

#[allow(clippy::too_many_lines, reason = "a table")]
#[test]
fn each_mistake_is_named_with_its_place() {
    // What stands in the file, where the finding points, a part of what it says, and why the row is here.
    let cases: &[(String, &str, &str, &str)] = &[
        (String::new(), "1:1:", "missing key `hostname`", "an empty file"),
        (
            format!("{START}{LISTENER}[delivery]\nsource = [{{ address = \"0.0.0.0\" }}]\n"),
            "6:11:",
            "no address to send from",
            "any address is none",
        ),
        (
            format!(
                "{START}{LISTENER}[delivery]\nsource = [{{ address = \"192.0.2.1\", classes = [\"resets\"] }}]\n"
            ),
            "6:11:",
            "no class `resets`; there are",
            "a class that nobody knows",
        ),
        (START.into(), "1:1:", "no [[listener]]", "nothing would take mail"),
        ("hostname = relay\n".into(), "1:12:", "", "a text without quotes"),
        ("hostname = \"-x\"\n".into(), "1:12:", "domain is malformed", "no host name"),
        ("hostnam = \"a.test\"\n".into(), "1:1:", "did you mean `hostname`?", "a mistyped key"),
        (format!("{START}{LISTENER}[limit]\n"), "5:2:", "did you mean `limits`?", "a mistyped table"),
        (
            format!("{START}{LISTENER}[limits]\nmesage_size = 1\n"),
            "6:1:",
            "did you mean `message_size`?",
            "in a table",
        ),
        (
            format!("{START}{LISTENER}[limits]\nmessage_size = \"25M\"\n"),
            "6:16:",
            "a size such as",
            "no such unit",
        ),
        (
            format!("{START}{LISTENER}[limits]\ncommand_timeout = 5\n"),
            "6:19:",
            "a duration such as",
            "no unit",
        ),
        (
            format!("{START}{LISTENER}[limits]\ncommand_timeout = \"0s\"\n"),
            "6:19:",
            "cannot be zero",
            "no waiting",
        ),
        (format!("{START}{LISTENER}[limits]\nrecipients = 0\n"), "6:14:", "whole number from 1", "no mail"),
        (format!("{START}{LISTENER}[delivery]\nport = 99999\n"), "6:8:", "from 1 to 65535", "no such port"),
        (
            format!("{START}{LISTENER}[dns]\nservers = [\"127.0.0.1\"]\n"),
            "6:12:",
            "socket address",
            "no port",
        ),
        (
            format!(
                "{START}{LISTENER}[dns]\nservers = [\"127.0.0.1:53\", \"192.0.2.1:53\"]\ndnssec = \"trust_ad\"\n"
            ),
            "7:1:",
            "on this machine",
            "a bit that came over a network",
        ),
        (
            format!("{START}{LISTENER}[seal]\nrotate_after = \"1h\"\n"),
            "6:16:",
            "at least 14d",
            "keys faster than DNS",
        ),
        (format!("{START}{LISTENER}[limits]\nrecipients = 5001\n"), "6:14:", "at most 5000", "too many"),
        (format!("{START}{LISTENER}[delivery]\nretry = []\n"), "6:1:", "at least one", "never again"),
        (
            format!("{START}{LISTENER}{LISTENER}[dns]\ntimeout = 1\ntimeout = 2\n"),
            "10:1:",
            "duplicate",
            "given twice",
        ),
        (format!("{START}[[listener]]\naddress = \"x\"\n"), "3:11:", "socket address", "no address"),
        (
            format!("{START}[[listener]]\naddress = \"0.0.0.0:1\"\ntls = \"startls\"\n"),
            "4:7:",
            "did you mean `starttls`?",
            "a mistyped value",
        ),
        (
            format!("{START}[[listener]]\naddress = \"0.0.0.0:1\"\ntls = \"implicit\"\n"),
            "4:7:",
            "needs a certificate",
            "TLS without a certificate",
        ),
        (
            format!("{START}{LISTENER}cleartext_auth = \"upgrade\"\n"),
            "5:18:",
            "STARTTLS",
            "a promise that cannot be kept",
        ),
        (
            format!(
                "{START}[[listener]]\naddress = \"0.0.0.0:1\"\ntls = \"none\"\n[[listener]]\naddress = \"0.0.0.0:1\"\ntls = \"none\"\n"
            ),
            "6:11:",
            "two listeners",
            "the second bind would fail",
        ),
        (
            format!("{START}{LISTENER}[[class]]\nname = \"program_email\"\nunsubscribe = \"one_click\"\n"),
            "7:15:",
            "[unsubscribe]",
            "links that lead nowhere",
        ),
        (
            format!(
                "{START}{LISTENER}{UNSUBSCRIBE}[[class]]\nname = \"password_reset\"\nunsubscribe = \"one_click\"\n"
            ),
            "10:15:",
            "nobody unsubscribes from mail of class `password_reset`",
            "a class whose readers wait for each mail",
        ),
        (
            format!("{START}{LISTENER}{}", UNSUBSCRIBE.replace("https", "http")),
            "7:12:",
            "https",
            "RFC 8058 section 3.1",
        ),
        (
            format!("{START}{LISTENER}{UNSUBSCRIBE}tls = true\n"),
            "5:1:",
            "needs a certificate",
            "TLS without a certificate, for readers",
        ),
        (
            format!("{START}{LISTENER}[unsubscribe]\naddress = \"127.0.0.1:1\"\n"),
            "5:1:",
            "needs `base_url`",
            "half a table",
        ),
    ];
    for (text, place, what, why) in cases {
        let error = config_error(text);
        assert!(error.starts_with(place) && error.contains(what), "{why}: {error}\n{text}");
        assert!(!error.contains('\n'), "{why}: one line");
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = format!("{START}{LISTENER}[delivery]\nport = 26\n");
    let set = [
        ("WAXSEAL_HOSTNAME", "other.test"),
        ("WAXSEAL_DELIVERY_PORT", "2525"),
        ("WAXSEAL_LIMITS_MESSAGE_SIZE", "1MiB"),
        ("WAXSEAL_DNS_SERVERS", "127.0.0.1:53,[::1]:53"),
        ("WAXSEAL_STATE", "/srv/state"),
    ];
    let config = load(&text, &set).unwrap();
    assert_eq!(config.hostname.as_str(), "other.test");
    assert_eq!(
        (config.delivery.port, config.limits.message_size, config.dns.servers.len()),
        (2525, 1 << 20, 2)
    );
    assert_eq!(config.state, Path::new("/srv/state"));
    let wrong = load(&text, &[("WAXSEAL_DELIVERY_PORT", "0")]).unwrap_err();
    assert!(wrong.starts_with("WAXSEAL_DELIVERY_PORT: ") && wrong.contains("from 1 to 65535"), "{wrong}");
}

/// A configuration over a directory of these tenants' files.
fn tenants(files: &[(&str, &str)]) -> (tempfile::TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new("relay.test".parse().unwrap(), dir.path());
    std::fs::create_dir(&config.tenants).unwrap();
    for (name, text) in files {
        std::fs::write(config.tenants.join(name), text).unwrap();
    }
    (dir, config)
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn what_two_tenants_cannot_both_have() {
    let upstream = "name = \"b\"\n[route]\nvia = \"upstream\"\n[route.upstream]\n";
    let cases: &[(&str, String, &str, &str)] = &[
        ("", "name = \"x\"\n".into(), "b.toml:1:8:", "belongs in x.toml"),
        ("", "name = \"B\"\n".into(), "b.toml:1:8:", "a tenant's name is"),
        ("", "name = \"b\"\nnetworks = [\"10.0.0.0/8\"]\n".into(), "b.toml:2:13:", "networks_shared = true"),
        ("", "name = \"b\"\nnetworks = [\"0.0.0.0/0\"]\n".into(), "b.toml:2:13:", "open relay"),
        (
            "",
            "name = \"b\"\n[[login]]\nusername = \"b\"\npassword = \"secret\"\n".into(),
            "b.toml:4:12:",
            "argon2id",
        ),
        (
            "networks = [\"192.0.2.0/24\"]\n",
            "name = \"b\"\nnetworks = [\"192.0.2.7/32\"]\n".into(),
            "b.toml:2:13:",
            "overlaps 192.0.2.0/24 of tenant `a`",
        ),
        (
            "[[domain]]\nname = \"acme.test\"\n",
            "name = \"b\"\n[[domain]]\nname = \"ACME.test\"\n".into(),
            "b.toml:3:8:",
            "tenant `a`'s already",
        ),
        (
            "[[domain]]\nname = \"acme.test\"\nsubdomains = true\n",
            "name = \"b\"\n[[domain]]\nname = \"x.acme.test\"\n".into(),
            "b.toml:3:8:",
            "subdomains = true",
        ),
        ("", format!("{upstream}host = \"127.0.0.1\"\nport = 25\n"), "b.toml:5:8:", "private, loopback"),
        ("", format!("{upstream}host = \"169.254.169.254\"\n"), "b.toml:5:8:", "private, loopback"),
        ("", format!("{upstream}host = \"up.test\"\nport = 22\n"), "b.toml:6:8:", "no port for mail"),
        (
            "",
            "name = \"b\"\n[route]\nsignatures = \"none\"\n".into(),
            "b.toml:3:14:",
            "needs via = \"upstream\"",
        ),
        (
            "",
            "name = \"b\"\n[route]\nunsigned_headers = [\"Date\", \"from\"]\n".into(),
            "b.toml:3:29:",
            "From must be signed",
        ),
        (
            "",
            "name = \"b\"\n[route]\nunsigned_headers = [\"Date:\"]\n".into(),
            "b.toml:3:21:",
            "no header field's name",
        ),
        (
            "",
            format!("{upstream}host = \"up.test\"\nusername = \"u\"\n"),
            "b.toml:6:12:",
            "needs password_file",
        ),
    ];
    refused(cases);
}

#[test]
fn what_a_return_path_must_be() {
    refused(&[
        (
            "[[domain]]\nname = \"acme.test\"\nreturn_path = \"b.x.acme.test\"\n",
            "name = \"b\"\n[[domain]]\nname = \"x.acme.test\"\nreturn_path = \"b.x.acme.test\"\n".into(),
            "b.toml:4:15:",
            "tenant `a`'s return path already",
        ),
        (
            "",
            "name = \"b\"\n[[domain]]\nname = \"acme.test\"\nreturn_path = \"bounce.other.test\"\n".into(),
            "b.toml:4:15:",
            "lies below acme.test",
        ),
        (
            "",
            format!(
                "name = \"b\"\n[[domain]]\nname = \"acme.test\"\nreturn_path = \"{}acme.test\"\n",
                "longer.".repeat(28)
            ),
            "b.toml:4:15:",
            "at most 200 octets",
        ),
    ]);
}

/// Each pair of tenants is refused at this place, in these words.
fn refused(cases: &[(&str, String, &str, &str)]) {
    for (of_a, of_b, place, what) in cases {
        let a = format!("name = \"a\"\n{of_a}");
        let (_dir, config) = tenants(&[("a.toml", &a), ("b.toml", of_b)]);
        let error = tenant::load(&config).unwrap_err().to_string();
        assert!(error.contains(place) && error.contains(what), "{what}: {error}");
    }
}

#[test]
fn the_tenants_sample_loads_written_out_too() {
    let (_dir, config) = tenants(&[("acme.toml", TENANT_SAMPLE)]);
    let directory = tenant::load(&config).unwrap();
    assert!(directory.login("acme").is_some());
}

#[test]
fn edits_keep_comments_and_refuse_what_would_not_load() {
    let text = "# ours\nname = \"a\" # the first\n\n[[domain]]\nname = \"acme.test\" # main\n";
    let (_dir, config) = tenants(&[("a.toml", text), ("b.toml", "name = \"b\"\n")]);
    let hash = tenant::password::hash(&tenant::password::generate()).unwrap();
    edit::add_login(&config, "a", "one", &hash).unwrap();
    edit::add_domain(&config, "a", &"news.test".parse().unwrap()).unwrap();
    let after = std::fs::read_to_string(config.tenants.join("a.toml")).unwrap();
    assert!(after.starts_with("# ours\nname = \"a\" # the first\n") && after.contains("# main"), "{after}");
    assert!(tenant::load(&config).unwrap().login("one").is_some());
    assert!(edit::add_login(&config, "b", "one", &hash).is_err(), "the user name is taken");
    assert!(edit::add_domain(&config, "b", &"acme.test".parse().unwrap()).is_err(), "the domain is taken");
    assert_eq!(std::fs::read_to_string(config.tenants.join("b.toml")).unwrap(), "name = \"b\"\n");
    edit::set_disabled(&config, "a", true).unwrap();
    assert!(tenant::load(&config).unwrap().login("one").is_none(), "a disabled tenant cannot log in");
    edit::set_disabled(&config, "a", false).unwrap();
    edit::revoke_login(&config, "a", "one").unwrap();
    assert!(tenant::load(&config).unwrap().login("one").is_none());
    edit::add_tenant(&config, "c", "c", &hash).unwrap();
    assert!(tenant::load(&config).unwrap().login("c").is_some());
}
