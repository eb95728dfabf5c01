//! The real binary in a directory of its own, configured by hand from the documented names, started and killed at will.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A DKIM key for `bench.test`, so that a start costs no key generation.
const KEY: &str = include_str!("data/rsa2048.pem");

/// One relay: a tenant by network, one domain with its key, an upstream.
pub struct Relay {
    pub dir: PathBuf,
    pub address: SocketAddr,
}

impl Relay {
    /// Lays out the files below `dir`. `delivery` goes into the `[delivery]` table as it is.
    pub fn lay_out(dir: &Path, upstream: SocketAddr, delivery: &str) -> Self {
        let address = free_address();
        let config = dir.join("config");
        std::fs::create_dir_all(config.join("tenants")).unwrap();
        std::fs::create_dir_all(config.join("keys/bench.test")).unwrap();
        std::fs::create_dir_all(dir.join("data")).unwrap();
        let key = config.join("keys/bench.test/s1.pem");
        std::fs::write(&key, KEY).unwrap();
        restrict(&key);
        std::fs::write(
            config.join("waxseal.toml"),
            format!(
                "hostname = \"relay.bench.test\"\nstate = \"../data\"\ntenants = \"tenants\"\nkeys = \"keys\"\n\
                 [[listener]]\naddress = \"{address}\"\ntls = \"none\"\n\
                 [delivery]\nallow_private_destinations = true\n{delivery}\n\
                 [log]\npath = \"../data/mail.jsonl\"\n[admin]\nsocket = \"../data/admin.sock\"\n"
            ),
        )
        .unwrap();
        std::fs::write(
            config.join("tenants/bench.toml"),
            format!(
                "name = \"bench\"\nnetworks = [\"127.0.0.1/32\"]\n[[domain]]\nname = \"bench.test\"\n\
                 on_fail = \"off\"\n[route]\nvia = \"upstream\"\n[route.upstream]\nhost = \"{}\"\nport = {}\n\
                 tls = \"none\"\n",
                upstream.ip(),
                upstream.port()
            ),
        )
        .unwrap();
        Self { dir: dir.to_owned(), address }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waxseal"));
        command.arg("--config").arg(self.dir.join("config/waxseal.toml"));
        command
    }

    /// Starts the daemon and answers when it has said READY. Its stderr is kept in `serve.log`.
    pub fn start(&self) -> Child {
        self.start_under(self.command())
    }

    /// The same with a program in front, such as strace.
    pub fn start_with(&self, program: &Path, args: &[&str]) -> Child {
        let plain = self.command();
        let mut command = Command::new(program);
        command.args(args).arg(plain.get_program()).args(plain.get_args());
        self.start_under(command)
    }

    fn start_under(&self, mut command: Command) -> Child {
        let mut child = command
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let before = said.len();
            let n = lines.read_line(&mut said).unwrap();
            assert!(n > 0, "the relay ended before READY:\n{said}");
            if said.get(before..).unwrap_or("").contains("READY") {
                break;
            }
        }
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("serve.log")).unwrap();
        std::thread::spawn(move || std::io::copy(&mut lines, &mut { log }));
        child
    }

    /// Runs a command of the same configuration to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).stdin(Stdio::null()).output().unwrap()
    }
}

/// An address that nothing listens on now. Each test process has a loopback address of its own, so that tests that run
/// side by side do not take each other's.
fn free_address() -> SocketAddr {
    let pid = std::process::id();
    let ip = std::net::Ipv4Addr::new(127, 77, (pid >> 8) as u8, (pid as u8).max(1));
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A platform's side of the wire, blocking and plain.
pub mod smtp {
    use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    /// One session from 127.0.0.1, past EHLO.
    pub struct Session {
        lines: BufReader<TcpStream>,
        out: TcpStream,
    }

    impl Session {
        /// Connects, reads the banner, says EHLO.
        pub fn open(relay: SocketAddr) -> Result<Self> {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            // The tenant is known by 127.0.0.1; the relay may listen on another loopback address.
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
            socket.connect(&relay.into())?;
            let out: TcpStream = socket.into();
            out.set_nodelay(true)?;
            out.set_read_timeout(Some(Duration::from_secs(30)))?;
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
