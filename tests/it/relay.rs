//! The real binary in a directory of its own, configured by hand from the documented names, started and killed at will.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A DKIM key for `bench.test`, so that a start costs no key generation.
const KEY: &str = include_str!("data/rsa2048.pem");

/// What a relay is configured with; `Layout::upstream` is the plainest.
pub struct Layout {
    /// Each listener's `tls`: `none`, `starttls` or `implicit`.
    pub listeners: &'static [&'static str],
    /// Lines of the top level and of tables of their own, such as `[dns]`.
    pub tables: String,
    /// Lines of `[delivery]`.
    pub delivery: String,
    /// The tenant's `[route]`.
    pub route: String,
}

impl Layout {
    /// One clear-text listener; everything leaves through this server.
    pub fn upstream(server: SocketAddr) -> Self {
        let route = format!(
            "[route]\nvia = \"upstream\"\n[route.upstream]\nhost = \"{}\"\nport = {}\ntls = \"none\"\n",
            server.ip(),
            server.port()
        );
        Self { listeners: &["none"], tables: String::new(), delivery: String::new(), route }
    }
}

/// The login every layout has, for those who do not come from 127.0.0.1.
pub const LOGIN: (&str, &str) = ("acme", "correct horse battery staple");

/// The table of listeners that serve TLS.
const CERTIFICATE: &str = "[tls]\ncertificate = \"../certs/relay.pem\"\nkey = \"../certs/relay.key\"\n";

/// One relay: a tenant by network and by login, one domain with its key.
pub struct Relay {
    pub dir: PathBuf,
    /// Where each listener of the layout accepts.
    pub addresses: Vec<SocketAddr>,
    /// The certificate that TLS listeners serve, for `localhost` and their addresses.
    pub certificate: PathBuf,
}

/// A running daemon. It ends with its test, also where that panics.
pub struct Running(Child);

impl Running {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // The process has not been waited for: its id is still its own.
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for it to end by itself, for a minute.
    pub fn end(mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the relay does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Relay {
    /// Lays out the files below `dir`.
    pub fn lay_out(dir: &Path, layout: &Layout) -> Self {
        let config = dir.join("config");
        for name in
            ["config/tenants", "config/keys/bench.test", "config/keys/relay.bench.test", "certs", "data"]
        {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        for domain in ["bench.test", "relay.bench.test"] {
            secret(&config.join("keys").join(domain).join("s1.pem"), KEY);
        }
        let addresses: Vec<_> = layout.listeners.iter().map(|_| free_address()).collect();
        let certificate = dir.join("certs/relay.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let ips = addresses.iter().map(|address| address.ip().to_string());
        let names: Vec<_> =
            ["relay.bench.test".to_owned(), "localhost".to_owned()].into_iter().chain(ips).collect();
        let signed = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        std::fs::write(&certificate, signed.pem()).unwrap();
        secret(&dir.join("certs/relay.key"), &key.serialize_pem());

        let mut text = format!(
            "hostname = \"relay.bench.test\"\nstate = \"../data\"\ntenants = \"tenants\"\nkeys = \"keys\"\n{}\n{}\
             [delivery]\nallow_private_destinations = true\n{}\n\
             [log]\npath = \"../data/mail.jsonl\"\n[admin]\nsocket = \"../data/admin.sock\"\n",
            layout.tables,
            // Without a certificate nobody is waited for to show a ClientHello.
            if layout.listeners.iter().all(|tls| *tls == "none") { "" } else { CERTIFICATE },
            layout.delivery
        );
        for (address, tls) in addresses.iter().zip(layout.listeners) {
            text += &format!("[[listener]]\naddress = \"{address}\"\ntls = \"{tls}\"\n");
        }
        std::fs::write(config.join("waxseal.toml"), text).unwrap();
        let tenant = format!(
            "name = \"bench\"\nnetworks = [\"127.0.0.1/32\"]\n[[login]]\nusername = \"{}\"\npassword = \"{}\"\n\
             [[domain]]\nname = \"bench.test\"\non_fail = \"off\"\n{}",
            LOGIN.0,
            hash(LOGIN.1),
            layout.route
        );
        secret(&config.join("tenants/bench.toml"), &tenant);
        Self { dir: dir.to_owned(), addresses, certificate }
    }

    /// The first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waxseal"));
        command.arg("--config").arg(self.dir.join("config/waxseal.toml"));
        command
    }

    /// Starts the daemon and answers when it has said READY. Its stderr is kept in `serve.log`.
    pub fn start(&self) -> Running {
        self.start_under(self.command())
    }

    /// The same as a service of systemd's, which listens on this socket.
    pub fn start_as_service(&self, notify: &Path) -> Running {
        let mut command = self.command();
        command.env("NOTIFY_SOCKET", notify);
        self.start_under(command)
    }

    /// The same with a program in front, such as strace.
    pub fn start_with(&self, program: &Path, args: &[&str]) -> Running {
        let plain = self.command();
        let mut command = Command::new(program);
        command.args(args).arg(plain.get_program()).args(plain.get_args());
        self.start_under(command)
    }

    /// Starts the daemon so that it dies at this failpoint. `None`: it did so before READY.
    pub fn start_to_die(&self, failpoint: &str) -> Option<Running> {
        let mut command = self.command();
        command.env(waxseal::failpoint::VARIABLE, failpoint);
        let dead = |said: &String| assert!(said.starts_with("signal: 9"), "{failpoint}: {said}");
        self.start_if_it_lives(command).inspect_err(dead).ok()
    }

    fn start_under(&self, command: Command) -> Running {
        let ended = |said| panic!("the relay ended before READY:\n{said}");
        self.start_if_it_lives(command).unwrap_or_else(ended)
    }

    /// What it said, where it ends before READY.
    fn start_if_it_lives(&self, mut command: Command) -> Result<Running, String> {
        let child = command
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Running(child);
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let before = said.len();
            let n = lines.read_line(&mut said).unwrap();
            if n == 0 {
                return Err(format!("{}\n{said}", child.wait().unwrap()));
            }
            if said.get(before..).unwrap_or("").contains("READY") {
                break;
            }
        }
        let mut log =
            std::fs::File::options().create(true).append(true).open(self.dir.join("serve.log")).unwrap();
        log.write_all(said.as_bytes()).unwrap();
        std::thread::spawn(move || std::io::copy(&mut lines, &mut { log }));
        Ok(child)
    }

    /// The value of this counter of the running daemon's.
    pub async fn counted(&self, name: &str) -> u64 {
        let admin = waxseal::control::Client::new(&self.dir.join("data/admin.sock"));
        let text = String::from_utf8(admin.bytes("/metrics").await.unwrap().to_vec()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Runs a command of the same configuration to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).stdin(Stdio::null()).output().unwrap()
    }
}

/// A loopback address of this process's own in such a block, so that tests side by side do not take each other's ports.
pub fn own_ip(block: u8) -> Ipv4Addr {
    let pid = std::process::id();
    // Never 0 or 255 at the end, which are no host's.
    Ipv4Addr::new(127, block, (pid / 254) as u8, (pid % 254) as u8 + 1)
}

/// An address that nothing listens on now, and that no other process listens on later.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((own_ip(77), 0)).unwrap().local_addr().unwrap()
}

/// Writes a file that only its owner may read.
pub fn secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// As `tenant login add` makes it, but cheap.
fn hash(password: &str) -> String {
    use argon2::password_hash::{PasswordHasher, SaltString};
    let cheap = argon2::Params::new(64, 1, 1, None).unwrap();
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, cheap);
    argon
        .hash_password(password.as_bytes(), &SaltString::from_b64("c29tZSBzYWx0").unwrap())
        .unwrap()
        .to_string()
}

/// A platform's side of the wire, blocking and plain.
pub mod smtp {
    use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    /// A connection from 127.0.0.1, by which the tenant is known; the relay may listen on another loopback address.
    pub fn dial(relay: SocketAddr) -> Result<TcpStream> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        socket.connect(&relay.into())?;
        let stream: TcpStream = socket.into();
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    }

    /// One session from 127.0.0.1, past EHLO.
    pub struct Session {
        lines: BufReader<TcpStream>,
        out: TcpStream,
    }

    impl Session {
        /// Connects, reads the banner, says EHLO.
        pub fn open(relay: SocketAddr) -> Result<Self> {
            let out = dial(relay)?;
            let mut session = Self { lines: BufReader::new(out.try_clone()?), out };
            session.reply()?;
            session.say("EHLO platform.test")?;
            Ok(session)
        }

        /// Sends a command; answers the last line of its reply.
        pub fn say(&mut self, line: &str) -> Result<String> {
            self.out.write_all(format!("{line}\r\n").as_bytes())?;
            self.reply()
        }

        /// One transaction; answers the reply to the final dot.
        pub fn send(&mut self, from: &str, to: &[&str], message: &[u8]) -> Result<String> {
            self.say(&format!("MAIL FROM:<{from}>"))?;
            for rcpt in to {
                self.say(&format!("RCPT TO:<{rcpt}>"))?;
            }
            let go = self.say("DATA")?;
            if !go.starts_with("354") {
                return Err(Error::new(ErrorKind::InvalidData, go));
            }
            self.out.write_all(message)?;
            self.out.write_all(b".\r\n")?;
            self.reply()
        }

        fn reply(&mut self) -> Result<String> {
            loop {
                let mut line = String::new();
                if self.lines.read_line(&mut line)? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                if line.as_bytes().get(3) != Some(&b'-') {
                    return Ok(line.trim_end().to_owned());
                }
            }
        }
    }
}
