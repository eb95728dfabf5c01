//! Debian's Postfix, unpacked below target/strangers and run from a directory of its own on a loopback port: as the next hop
//! that an MX record names, and as a tenant's upstream with SASL over STARTTLS. What it takes it hands on to an exchanger that
//! verifies every signature, so its word and the receiver's are both heard.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::strangers;

/// Users that every Debian has, that run nothing, and that are not each other.
const OWNER: &str = "backup";
const SETGID: &str = "staff";

/// The master.cf services that taking and passing on need.
const SERVICES: &[&str] = &[
    "postlog unix-dgram n - n - 1 postlogd",
    "cleanup unix n - n - 0 cleanup",
    "qmgr unix n - n 300 1 qmgr",
    "tlsmgr unix - - n 1000? 1 tlsmgr",
    "rewrite unix - - n - - trivial-rewrite",
    "bounce unix - - n - 0 bounce",
    "defer unix - - n - 0 bounce",
    "trace unix - - n - 0 bounce",
    "verify unix - - n - 1 verify",
    "flush unix n - n 1000? 0 flush",
    "proxymap unix - - n - - proxymap",
    "smtp unix - - n - - smtp",
    "relay unix - - n - - smtp",
    "error unix - - n - - error",
    "retry unix - - n - - error",
    "discard unix - - n - - discard",
    "anvil unix - - n - 1 anvil",
    "scache unix - - n - 1 scache",
];

/// A running Postfix; it ends when this is dropped.
pub struct Postfix {
    dir: PathBuf,
    master: Child,
    pub address: SocketAddr,
    /// The certificate it serves, for who must trust it.
    pub certificate: PathBuf,
}

/// Who may relay through it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// Mail for dest.test from anybody, as an exchanger does.
    Exchanger,
    /// Mail of who logs in as acme with the password `secret`, after STARTTLS only, as a provider does.
    Submission,
}

impl Postfix {
    /// Starts it at `address`; all it takes goes on to `onward`.
    pub fn start(dir: &Path, address: SocketAddr, taking: Taking, onward: SocketAddr) -> Self {
        let dir = dir.join("postfix");
        let certificate = lay_out(&dir, address, taking, onward);
        let master =
            command(&strangers::program("postconf").with_file_name("../lib/postfix/sbin/master"), &dir)
                .args(["-c", dir.join("etc").to_str().unwrap(), "-d"])
                // master ends its children by their process group.
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(dir.join("stderr")).unwrap())
                .spawn()
                .unwrap();
        let postfix = Self { dir, master, address, certificate };
        postfix.wait_until_it_listens();
        postfix
    }

    /// What it logged so far, for a failed test's words.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
            + &std::fs::read_to_string(self.dir.join("stderr")).unwrap_or_default()
    }

    fn wait_until_it_listens(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while std::net::TcpStream::connect(self.address).is_err() {
            assert!(std::time::Instant::now() < deadline, "Postfix does not listen:\n{}", self.log());
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // SIGTERM, not SIGKILL: master ends its children.
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.master.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.master.wait();
    }
}

fn command(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("MAIL_CONFIG", dir.join("etc"))
        .env("LD_LIBRARY_PATH", strangers::library_path())
        .env("SASL_PATH", strangers::root().join("root/usr/lib/x86_64-linux-gnu/sasl2"));
    command
}

fn lay_out(dir: &Path, address: SocketAddr, taking: Taking, onward: SocketAddr) -> PathBuf {
    let owner = id_of(OWNER);
    for name in ["etc/sasl", "data", "spool"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    // Children run as the owner and must reach the directories through those above.
    for above in dir.ancestors().take(2).chain([&*dir.join("etc"), &*dir.join("spool")]) {
        let _ = std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755));
    }
    chown(dir.join("data"), Some(owner), None).unwrap();
    for name in
        "active bounce corrupt defer deferred flush hold incoming private saved trace public maildrop pid"
            .split(' ')
    {
        let path = dir.join("spool").join(name);
        std::fs::create_dir_all(&path).unwrap();
        if name != "pid" {
            chown(&path, Some(owner), None).unwrap();
        }
    }
    std::fs::write(dir.join("etc/main.cf"), main_cf(dir, taking, onward)).unwrap();
    std::fs::write(
        dir.join("etc/master.cf"),
        format!("{address} inet n - n - - smtpd\n{}\n", SERVICES.join("\n")),
    )
    .unwrap();
    if taking == Taking::Submission {
        sasl(dir);
    }
    certificate(dir, address)
}

fn main_cf(dir: &Path, taking: Taking, onward: SocketAddr) -> String {
    let dir = dir.display();
    let root = strangers::root().join("root");
    let root = root.display();
    let mut text = format!(
        "compatibility_level = 3.6\nqueue_directory = {dir}/spool\ndata_directory = {dir}/data\n\
         command_directory = {root}/usr/sbin\ndaemon_directory = {root}/usr/lib/postfix/sbin\n\
         shlib_directory = {root}/usr/lib/postfix\nmeta_directory = {dir}/etc\n\
         mail_owner = {OWNER}\nsetgid_group = {SETGID}\n\
         import_environment = MAIL_CONFIG TZ LANG=C LD_LIBRARY_PATH SASL_PATH POSTLOG_SERVICE POSTLOG_HOSTNAME\n\
         maillog_file = {dir}/log\nmaillog_file_prefixes = {dir}\nmyhostname = next.test\nmydestination =\n\
         inet_interfaces = all\ninet_protocols = ipv4\nsmtpd_peername_lookup = no\nsmtp_host_lookup = native\n\
         smtp_dns_support_level = disabled\nrelayhost = [{}]:{}\nrelay_domains = dest.test\n\
         alias_maps =\nalias_database =\nsmtp_tls_security_level = none\n\
         smtpd_tls_cert_file = {dir}/cert.pem\nsmtpd_tls_key_file = {dir}/key.pem\nsmtpd_tls_security_level = may\n",
        onward.ip(),
        onward.port()
    );
    let policy = match taking {
        Taking::Exchanger => "mynetworks =\nsmtpd_relay_restrictions = permit_auth_destination, reject\n",
        Taking::Submission => {
            "mynetworks =\nsmtpd_sasl_auth_enable = yes\nsmtpd_sasl_local_domain = next.test\nsmtpd_tls_auth_only = yes\n\
             smtpd_relay_restrictions = permit_sasl_authenticated, reject\n"
        }
    };
    text.write_str(policy).unwrap();
    text
}

/// A password database for one login, and where smtpd finds it: in the configuration directory (Debian's patch).
fn sasl(dir: &Path) {
    let database = dir.join("sasldb");
    let text = format!(
        "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {}\nmech_list: PLAIN LOGIN\n",
        database.display()
    );
    std::fs::write(dir.join("etc/sasl/smtpd.conf"), text).unwrap();
    let mut child = command(&strangers::program("saslpasswd2"), dir)
        .args(["-p", "-c", "-u", "next.test", "-f", database.to_str().unwrap(), "acme"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"secret").unwrap();
    assert!(child.wait().unwrap().success());
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o644)).unwrap();
}

fn certificate(dir: &Path, address: SocketAddr) -> PathBuf {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["next.test".into(), address.ip().to_string(), "localhost".into()];
    let params = rcgen::CertificateParams::new(names).unwrap();
    let path = dir.join("cert.pem");
    std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    path
}

fn id_of(user: &str) -> u32 {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user)).unwrap();
    line.split(':').nth(2).unwrap().parse().unwrap()
}
