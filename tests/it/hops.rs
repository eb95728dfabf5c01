//! Debian's Exim, OpenSMTPD and Sendmail, unpacked below target/strangers, each run from a directory of its own on a loopback port as a
//! next hop that passes everything on. They insist on users, paths and a host name that their packages would have made; they get
//! these in namespaces of their own, so that nothing of the machine is changed.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::strangers;

/// Which of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Software {
    Exim,
    OpenSmtpd,
    /// It keeps DELIVERBY.
    Sendmail,
}

/// A running one; it ends when this is dropped.
pub struct Hop {
    dir: PathBuf,
    child: Child,
    pub address: SocketAddr,
}

/// Users of Debian's packages under the numbers of users that every Debian has and that run nothing.
const USERS: &str = "Debian-exim:x:34:34::/:/usr/sbin/nologin\n\
                     opensmtpd:x:34:34::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n\
                     opensmtpq:x:41:41::/:/usr/sbin/nologin\n";
const GROUPS: &str = "Debian-exim:x:34:\nopensmtpd:x:34:\nopensmtpq:x:41:\n";

impl Hop {
    /// Starts it at `address`; all it takes goes on to `onward`.
    pub fn start(software: Software, dir: &Path, address: SocketAddr, onward: SocketAddr) -> Self {
        let dir = dir.join("hop");
        std::fs::create_dir_all(dir.join("spool")).unwrap();
        for above in dir.ancestors().take(2) {
            let _ = std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755));
        }
        let with = |file: &str, more: &str| std::fs::read_to_string(file).unwrap() + more;
        std::fs::write(dir.join("passwd"), with("/etc/passwd", USERS)).unwrap();
        std::fs::write(dir.join("group"), with("/etc/group", GROUPS)).unwrap();
        let program = match software {
            Software::Exim => exim(&dir, address, onward),
            Software::OpenSmtpd => opensmtpd(&dir, address, onward),
            Software::Sendmail => sendmail(&dir, address, onward),
        };
        let users = "mount --bind passwd /etc/passwd && mount --bind group /etc/group";
        let out = std::fs::File::create(dir.join("out")).unwrap();
        let child = Command::new("unshare")
            .args(["-mu", "sh", "-c", &format!("{users} && {program}")])
            .current_dir(&dir)
            .env("LD_LIBRARY_PATH", strangers::library_path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let hop = Self { dir, child, address };
        hop.wait_until_it_listens();
        hop
    }

    /// What it said so far, for a failed test's words.
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        read("out") + &read("main") + &read("panic") + &read("wire")
    }

    fn wait_until_it_listens(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < deadline, "it does not listen:\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        // The whole group: all have children.
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

fn exim(dir: &Path, address: SocketAddr, onward: SocketAddr) -> String {
    let program = strangers::program("exim4");
    let here = dir.display();
    let configuration = format!(
        "exim_user = Debian-exim\nexim_group = Debian-exim\nnever_users =\nexim_path = {exim}\nspool_directory = {here}/spool\n\
         log_file_path = {here}/%s\npid_file_path = {here}/spool/pid\nprimary_hostname = next.test\n\
         daemon_smtp_ports = {port}\nlocal_interfaces = {ip}\nkeep_environment = LD_LIBRARY_PATH\ntls_advertise_hosts =\n\
         chunking_advertise_hosts = *\ndsn_advertise_hosts = *\nsmtputf8_advertise_hosts = *\nacl_smtp_rcpt = all\n\
         smtp_accept_max = 200\nsmtp_accept_queue_per_connection = 0\nqueue_run_max = 2\nmessage_logs = false\n\
         begin acl\nall:\n  accept\n\
         begin routers\nonward:\n  driver = manualroute\n  domains = *\n  transport = out\n  route_list = * {to}\n  self = send\n\
         begin transports\nout:\n  driver = smtp\n  port = {to_port}\n  hosts_avoid_tls = *\n\
         begin retry\n* * F,2h,1s\n",
        exim = program.display(),
        port = address.port(),
        ip = address.ip(),
        to = onward.ip(),
        to_port = onward.port(),
    );
    std::fs::write(dir.join("exim.conf"), configuration).unwrap();
    for name in ["main", "panic", "reject"] {
        std::fs::write(dir.join(name), "").unwrap();
    }
    format!(
        "chown -R Debian-exim spool main panic reject && exec {} -C {here}/exim.conf -bdf -q2s",
        program.display()
    )
}

fn opensmtpd(dir: &Path, address: SocketAddr, onward: SocketAddr) -> String {
    let configuration = format!(
        "listen on {} port {}\naction \"onward\" relay host smtp://{onward}\nmatch from any for any action \"onward\"\n",
        address.ip(),
        address.port()
    );
    let path = dir.join("smtpd.conf");
    std::fs::write(&path, configuration).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Its spool, its socket and its empty room are where the package has them.
    let rooms = "for room in /var/spool /run /var/lib; do mount -t tmpfs tmpfs $room || exit; done";
    format!(
        "{rooms}; mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd; chmod 711 /var/lib/opensmtpd/empty \
         /var/spool/smtpd; exec {} -d -f smtpd.conf",
        strangers::program("smtpd").display()
    )
}

/// DELIVERBY with a minimum of a minute. Every line of its conversations goes to `wire`.
fn sendmail(dir: &Path, address: SocketAddr, onward: SocketAddr) -> String {
    let here = dir.display();
    let configuration = format!(
        "V10/Berkeley\nO QueueDirectory={here}/spool\nO PidFile={here}/pid\nO DeliverByMin=60\nO DeliveryMode=background\n\
         O DaemonPortOptions=Name=MTA, Family=inet, Addr={ip}, Port={port}\nO ServiceSwitchFile={here}/switch\nO Timeout.ident=0\n\
         O DontProbeInterfaces=true\nO RunAsUser=root:root\nO DefaultUser=root:root\nO QueueLA=1000\nO RefuseLA=1000\n\
         Djnext.test\nDnMAILER-DAEMON\nDo.:%@!^/[]+\nHReceived: by $j; $b\n\
         Mlocal, P=/bin/false, F=lsDFM, A=false\nMprog, P=/bin/false, F=lsDFM, A=false\n\
         Monward, P=[IPC], F=mDFMXa8, E=\\r\\n, T=DNS/RFC822/SMTP, A=TCP $h {to_port}\n\
         Scanonify=3\nR$* < > $*\t<@>\nR$* < $+ > $*\t$2\nSparse=0\nR$*\t$#onward $@ [{to}] $: $1\n",
        ip = address.ip(),
        port = address.port(),
        to = onward.ip(),
        to_port = onward.port(),
    );
    std::fs::write(dir.join("sendmail.cf"), configuration).unwrap();
    std::fs::write(dir.join("switch"), "hosts\tfiles\naliases\tfiles\n").unwrap();
    std::fs::write(dir.join("hosts"), "127.0.0.1\tnext.test localhost\n").unwrap();
    std::fs::set_permissions(dir.join("spool"), std::fs::Permissions::from_mode(0o700)).unwrap();
    // Without a host name that has a dot it rests for a minute.
    format!(
        "hostname next.test && mount --bind hosts /etc/hosts && exec {} -bD -C {here}/sendmail.cf -X {here}/wire",
        strangers::root().join("root/usr/libexec/sendmail/sendmail").display()
    )
}
