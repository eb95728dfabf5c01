//! A tenant's route as it is written: presets with their regions and defaults, what is refused, and the verbs that write it.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::{Output, Stdio};

use waxseal::config::Config;
use waxseal::mail::class::{By, Classed};
use waxseal::mail::secret::ExposeSecret;
use waxseal::tenant::{self, Directory, Route, SignWith, Tenant};

use crate::cli_files::{Place, program_for};

/// One tenant with this route, in a directory of its own.
fn load(route: &str) -> Result<Directory, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new("relay.test".parse().unwrap(), dir.path());
    config.tenants = dir.path().join("tenants");
    std::fs::create_dir(&config.tenants).unwrap();
    let mut secret = std::fs::OpenOptions::new();
    let file = config.tenants.join("s");
    secret.write(true).create(true).mode(0o600).open(file).unwrap().write_all(b"secret\n").unwrap();
    std::fs::write(config.tenants.join("a.toml"), format!("name = \"a\"\n{route}")).unwrap();
    tenant::load(&config).map_err(|error| error.to_string())
}

fn loaded(route: &str) -> std::sync::Arc<Tenant> {
    std::sync::Arc::clone(load(route).unwrap_or_else(|what| panic!("{route}: {what}")).tenant("a").unwrap())
}

fn upstream(rest: &str) -> String {
    format!("[route]\nvia = \"upstream\"\n[route.upstream]\n{rest}")
}

#[test]
fn a_preset_knows_the_rest_and_what_is_written_wins() {
    let login = "username = \"u\"\npassword_file = \"s\"\n";
    let tenant = loaded(&upstream(&format!("preset = \"ses\"\nregion = \"eu-west-1\"\n{login}")));
    let Route::Upstream(ses) = &*tenant.route else { panic!("{:?}", tenant.route) };
    assert_eq!((ses.host.as_str(), ses.port), ("email-smtp.eu-west-1.amazonaws.com", 587));
    assert_eq!(
        (tenant.signing.keys, tenant.signing.omit.as_slice()),
        (SignWith::Rsa, &["Date".to_owned(), "Message-ID".to_owned()][..])
    );

    let tenant = loaded(&upstream("preset = \"sendgrid\"\npassword_file = \"s\"\n"));
    let Route::Upstream(sendgrid) = &*tenant.route else { panic!("{:?}", tenant.route) };
    let (username, password) = sendgrid.credentials.as_ref().unwrap();
    assert_eq!((username.as_str(), password.expose_secret()), ("apikey", "secret"), "the word, and the key");

    let written = "[route]\nvia = \"upstream\"\nsignatures = \"both\"\nunsigned_headers = []\n[route.upstream]\npreset = \"ses\"\n";
    let tenant = loaded(&format!("{written}host = \"vpce.example\"\nport = 2587\n{login}"));
    let Route::Upstream(own) = &*tenant.route else { panic!("{:?}", tenant.route) };
    assert_eq!((own.host.as_str(), own.port), ("vpce.example", 2587), "its own endpoint");
    assert_eq!((tenant.signing.keys, tenant.signing.omit.len()), (SignWith::Both, 0));

    let oauth = "preset = \"gmail\"\nusername = \"u\"\n[route.upstream.oauth]\ngrant = \"refresh_token\"\nclient_id = \"c\"\nrefresh_token_file = \"s\"\n";
    let tenant = loaded(&upstream(oauth));
    let Route::Upstream(gmail) = &*tenant.route else { panic!("{:?}", tenant.route) };
    assert_eq!(
        gmail.oauth.as_ref().unwrap().endpoint.0,
        "oauth2.googleapis.com",
        "and so is who gives tokens"
    );

    let both = "[route.fallback]\nvia = \"mx\"\n";
    let tenant = loaded(&format!("{}{both}", upstream(&format!("preset = \"microsoft365\"\n{login}"))));
    assert_eq!(tenant.signing.keys, SignWith::Both, "by the second way nobody else would sign");
    assert!(!tenant.is_direct(), "and by the first SPF does not speak for us");
    let tenant = loaded(
        "[route.fallback]\nvia = \"upstream\"\n[route.fallback.upstream]\npreset = \"ses\"\nregion = \"eu-west-1\"\nusername = \"u\"\npassword_file = \"s\"\n",
    );
    assert_eq!(
        tenant.signing.omit,
        ["Date", "Message-ID"],
        "what either way writes anew is signed for neither"
    );

    let tenant = loaded(&upstream(&format!("preset = \"microsoft365\"\n{login}")));
    assert_eq!(tenant.signing.keys, SignWith::None, "it signs itself, and would break ours");
}

#[test]
fn a_class_has_a_second_way_of_its_own() {
    let of_class = "[[route.class_fallback]]\nclasses = [\"password_reset\"]\nvia = \"upstream\"\nattempts = 1\n\
                    [route.class_fallback.upstream]\npreset = \"ses\"\nregion = \"eu-west-1\"\nusername = \"u\"\npassword_file = \"s\"\n";
    let tenant = loaded(of_class);
    assert_eq!((tenant.signing.omit.len(), tenant.fallbacks[0].attempts, tenant.is_direct()), (2, 1, false));
    let reset = |by| Classed { name: "password_reset".into(), by };
    assert!(tenant.fallback(Some(&reset(By::Header))).is_some());
    assert!(tenant.fallback(Some(&reset(By::Subject))).is_none() && tenant.fallback(None).is_none());
    let twice = format!(
        "{of_class}[[route.class_fallback]]\nclasses = [\"w9\", \"password_reset\"]\nvia = \"upstream\"\n"
    );
    assert!(load(&twice).unwrap_err().contains("has a fallback already"), "which of them?");
    let unknown = of_class.replace("password_reset", "pasword_reset");
    assert!(load(&unknown).unwrap_err().contains("did you mean `password_reset`?"));
    let nobody = of_class.replace("\"password_reset\"", "");
    assert!(load(&nobody).unwrap_err().contains("needs classes"));
}

#[test]
fn what_cannot_be_meant_is_said_at_its_place() {
    let rows = [
        ("", "[route.upstream] needs host, or preset: ses, sendgrid", "neither"),
        ("preset = \"mailgum\"\n", "mailgum", "a name that nobody has"),
        (
            "preset = \"ses\"\nusername = \"u\"\npassword_file = \"s\"\n",
            "needs region",
            "no endpoint without one",
        ),
        ("preset = \"postmark\"\n", "the Server API Token", "says what user name and password are there"),
        ("preset = \"sendgrid\"\n", "needs username and password_file", "nobody is served without"),
        (
            "host = \"a.example\"\nregion = \"eu\"\n",
            "region chooses a preset's host",
            "a word without effect",
        ),
        ("host = \"127.0.0.1\"\nport = 25\n", "private, loopback or reserved", "OB8: this machine"),
        ("host = \"localhost\"\n", "this machine", "OB8: by name"),
        ("host = \"169.254.169.254\"\n", "private, loopback or reserved", "OB8: the cloud's metadata"),
        ("host = \"[::ffff:10.0.0.1]\"\n", "private, loopback or reserved", "OB8: mapped"),
        ("host = \"64:ff9b::a9fe:a9fe\"\n", "private, loopback or reserved", "OB8: metadata by NAT64"),
        (
            "host = \"a.example\"\nusername = \"u\"\n[route.upstream.oauth]\ngrant = \"refresh_token\"\nclient_id = \"c\"\nrefresh_token_file = \"s\"\ntoken_url = \"https://169.254.169.254/x\"\n",
            "private, loopback or reserved",
            "OB8: secrets to the metadata service",
        ),
        (
            "host = \"a.example\"\nusername = \"u\"\n[route.upstream.oauth]\ngrant = \"refresh_token\"\nclient_id = \"c\"\nrefresh_token_file = \"s\"\ntoken_url = \"http://a.example/\"\n",
            "is no https:// address",
            "never in clear text",
        ),
        (
            "preset = \"microsoft365\"\nusername = \"u\"\n[route.upstream.oauth]\ngrant = \"client_credentials\"\nclient_id = \"c\"\nclient_secret_file = \"s\"\n",
            "needs directory",
            "whose tokens",
        ),
        ("host = \"mail.example\"\nport = 22\n", "22 is no port for mail", "OB8: another service"),
    ];
    for (rest, part, why) in rows {
        let what = load(&upstream(rest)).map(drop).unwrap_err();
        assert!(what.contains(part), "{why}: {what}");
    }
}

/// With this on standard input.
fn told(place: &Place, args: &[&str], input: &str) -> Output {
    let mut child = program_for(place)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn verbs_write_a_route_and_its_password_and_keep_comments() {
    let place = Place::init();
    place.text(&["tenant", "add", "acme"]);
    let file = place.tenants().join("acme.toml");
    std::fs::write(&file, format!("# mine\n{}", std::fs::read_to_string(&file).unwrap())).unwrap();
    let ses = ["tenant", "route", "acme", "--preset", "ses", "--region", "eu-west-1", "--username", "AKIA"];
    let done = told(&place, &ses, "secret one\n");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(place.text(&["tenant", "show", "acme"]).contains("email-smtp.eu-west-1.amazonaws.com:587"));
    let secret = place.tenants().join("acme.upstream");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret one\n");
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);

    let done = told(&place, &["tenant", "upstream-password", "acme"], "secret two\n");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret two\n");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("# mine\n"));

    let done = told(&place, &["tenant", "route", "acme", "--preset", "ses", "--username", "AKIA"], "x\n");
    assert_eq!(done.status.code(), Some(78), "what cannot be is not written: {done:?}");
    place.text(&["tenant", "route", "acme", "--mx"]);
    let none = told(&place, &["tenant", "upstream-password", "acme"], "secret\n");
    assert_eq!(none.status.code(), Some(4), "there is no upstream any more: {none:?}");
}

/// The names beside the tenants' files.
fn secrets(place: &Place) -> Vec<String> {
    let names = std::fs::read_dir(place.tenants()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> =
        names.map(|name| name.into_string().unwrap()).filter(|name| name.contains(".upstream")).collect();
    names.sort();
    names
}

#[test]
fn the_password_of_one_server_never_stands_where_the_route_to_another_looks() {
    let place = Place::init();
    place.text(&["tenant", "add", "acme"]);
    let route = |args: &[&str], input: &str| {
        told(&place, &[&["tenant", "route", "acme"], args].concat(), input).status.code()
    };
    let ses = ["--preset", "ses", "--region", "eu-west-1", "--username", "AKIA"];
    assert_eq!(route(&ses, "of ses\n"), Some(0));
    let first = place.tenants().join("acme.upstream");
    let inode = |path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let written = inode(&first);
    let unfit = ["--host", "localhost", "--username", "acme"];
    assert_eq!(route(&unfit, "of another\n"), Some(78), "refused with its password in place");
    assert_eq!(route(&ses, "\n"), Some(1), "no password");
    assert_eq!((inode(&first), secrets(&place).len()), (written, 1), "and the one in use was never touched");

    std::fs::set_permissions(&first, PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(route(&["--preset", "sendgrid"], "of sendgrid\n"), Some(0));
    let second = std::fs::metadata(place.tenants().join("acme.upstream.2")).unwrap();
    assert_eq!(second.permissions().mode() & 0o777, 0o640, "a daemon that reads by its group still can");
    assert_eq!(secrets(&place), ["acme.upstream.2"], "a file of its own; the one before is gone");
    let file = place.tenants().join("acme.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("password_file = \"acme.upstream.2\""), "{text}");

    std::fs::write(place.tenants().join("acme.toml"), format!("# was \"acme.upstream\"\n{text}")).unwrap();
    place.text(&["tenant", "add", "blue"]);
    let shared = place.tenants().join("blue.toml");
    let blue = std::fs::read_to_string(&shared).unwrap().replace(
        "via = \"mx\"  # mx | upstream\n",
        "via = \"upstream\"\n[route.upstream]\npreset = \"sendgrid\"\npassword_file = \"acme.upstream.2\"\n",
    );
    std::fs::write(&shared, blue).unwrap();
    assert_eq!(route(&ses, "of ses\n"), Some(0));
    assert_eq!(secrets(&place), ["acme.upstream.2", "acme.upstream.3"], "another tenant names the old one");
    place.text(&["tenant", "route", "acme", "--mx"]);
    assert_eq!(secrets(&place), ["acme.upstream.2"]);
}

#[test]
fn of_the_same_server_a_route_keeps_what_is_not_said_and_tls_fits_the_port() {
    let place = Place::init();
    place.text(&["tenant", "add", "acme"]);
    let file = place.tenants().join("acme.toml");
    let route = |args: &[&str]| {
        let done = told(&place, &[&["tenant", "route", "acme"], args].concat(), "secret\n");
        assert_eq!(done.status.code(), Some(0), "{args:?}: {done:?}");
        let text = std::fs::read_to_string(&file).unwrap();
        text.split_once("[route.upstream]\n").unwrap().1.to_owned()
    };
    let ca = place.tenants().join("ca.pem");
    std::fs::write(&ca, "").unwrap();
    let host = ["--host", "mail.example"];
    let said = route(&[&host[..], &["--tls", "implicit", "--username", "old"]].concat());
    assert!(said.contains("tls = \"implicit\""), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    let more = "[route.upstream]\nca_file = \"ca.pem\"\ncleartext_auth = true\n";
    std::fs::write(&file, text.replace("[route.upstream]\n", more)).unwrap();

    let said = route(&[&host[..], &["--port", "465", "--username", "new"]].concat());
    for kept in ["tls = \"implicit\"", "ca_file", "cleartext_auth", "port = 465", "username = \"new\""] {
        assert!(said.contains(kept), "{kept}: {said}");
    }
    let said = route(&[&host[..], &["--tls", "starttls"]].concat());
    assert!(said.contains("tls = \"starttls\"") && !said.contains("port"), "465 is no port of it: {said}");
    assert!(said.contains("username = \"new\"") && said.contains("password_file"), "{said}");
    let said = route(&[&host[..], &["--port", "465"]].concat());
    assert!(said.contains("tls = \"implicit\""), "by its port: {said}");
    let said = route(&[&host[..], &["--port", "587"]].concat());
    assert!(!said.contains("tls"), "nor is implicit TLS spoken at 587: {said}");
    let said = route(&[&host[..], &["--port", "2525"]].concat());
    assert!(route(&[&host[..], &["--tls", "starttls"]].concat()).contains("port = 2525"), "{said}");

    let said = route(&["--host", "other.example", "--port", "465", "--username", "new"]);
    assert!(said.contains("tls = \"implicit\"") && !said.contains("ca_file"), "another server: {said}");
}
