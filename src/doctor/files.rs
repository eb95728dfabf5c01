//! What stands on the disk: who may read the secrets, whether there is room, whether there are roots to trust. And the memory
//! that mail may take.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Scope;
use crate::config::Config;
use crate::fsx::{self, Disk, LocalDisk};
use crate::memory;
use crate::seal::judge::Finding;

const FILES: &str = "files";
const DISK: &str = "disk";
const MEMORY: &str = "memory";
/// Room that the journal wants beyond the reserve: two segments (docs/queue.md).
const SEGMENTS: u64 = 128 * 1024 * 1024;
/// Permission bits of everybody but the owner.
const NOT_OWNER: u32 = 0o077;

pub(super) fn look(scope: &Scope) -> Vec<Finding> {
    let config = &scope.config;
    let mut findings = vec![secrets(config), state(config)];
    findings.extend(disk(&config.state, config.queue.disk_reserve));
    findings.push(memory(config, memory::given()));
    findings.push(roots());
    findings
}

/// Everything that nobody but the relay may read.
fn secrets(config: &Config) -> Finding {
    let mut files: Vec<PathBuf> = config
        .tls
        .iter()
        .flat_map(|tls| std::iter::once(&tls.key).chain(tls.more.iter().map(|(_, key)| key)))
        .cloned()
        .collect();
    for domain in listed(&config.keys) {
        files.extend(listed(&domain).into_iter().filter(|file| has_ending(file, "pem")));
    }
    files.extend(listed(&config.tenants).into_iter().filter(|file| has_ending(file, "toml")));
    let wrong: Vec<String> = files
        .iter()
        .filter_map(|file| fsx::check_secret_mode(file).err())
        .map(|error| error.to_string())
        .collect();
    if wrong.is_empty() {
        let says = format!("{} files with secrets, none that others may read or change", files.len());
        return Finding::ok(FILES, says);
    }
    Finding::error(FILES, wrong.join("; "), "chmod 0600 each of them, and chown it to the relay's user")
}

fn has_ending(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|is| is == ending)
}

/// What a directory holds; nothing, if it cannot be read: what reads it for its work says so.
fn listed(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

/// The queue holds mail: nobody else has business there.
fn state(config: &Config) -> Finding {
    let dir = config.state.display();
    match std::fs::metadata(&config.state) {
        Ok(found) if found.mode() & NOT_OWNER != 0 => {
            let says =
                format!("{dir} has mode {:04o}: it holds mail that others could read", found.mode() & 0o777);
            Finding::warning(FILES, says, format!("chmod 0700 {dir}"))
        }
        Ok(_) => Finding::ok(FILES, format!("{dir} is the relay's alone")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::ok(FILES, format!("{dir} is not there yet; the first start makes it"))
        }
        Err(error) => Finding::error(
            FILES,
            format!("{dir} cannot be looked at: {error}"),
            "run this as the relay's user, or mend the directory's owner",
        ),
    }
}

/// Free room against the reserve below which MAIL is answered with 452.
fn disk(state: &Path, reserve: u64) -> Option<Finding> {
    let there = state.ancestors().find(|dir| dir.is_dir())?;
    let shown = there.display();
    let free = match LocalDisk.free(there) {
        Ok(free) => free,
        Err(error) => {
            let says = format!("the free room of {shown} is not known: {error}");
            return Some(Finding::warning(DISK, says, "look at the file system"));
        }
    };
    let (free_mib, reserve_mib) = (free >> 20, reserve >> 20);
    let says = format!("{free_mib} MiB free at {shown}, of which {reserve_mib} MiB are reserved");
    if free < reserve {
        let says = format!("{says}: mail is answered with 452");
        return Some(Finding::error(DISK, says, "make room, or lower queue.disk_reserve"));
    }
    if free < reserve.saturating_add(SEGMENTS) {
        let says = format!("{says}: the queue's journal has no room to grow and be compacted");
        return Some(Finding::warning(DISK, says, "make room: 128 MiB beyond the reserve at least"));
    }
    Some(Finding::ok(DISK, says))
}

/// Memory for mail, against the largest message and against what there is.
fn memory(config: &Config, given: Option<u64>) -> Finding {
    let (bodies, message) = (config.limits.body_memory, config.limits.message_size);
    let queue = &config.queue;
    let caches = queue.body_cache.saturating_add(queue.index_cache).saturating_add(queue.read_memory);
    let (bodies_mib, caches_mib, message_mib) = (bodies >> 20, caches >> 20, message >> 20);
    let says = format!("{bodies_mib} MiB for messages on their way in, and {caches_mib} MiB for the queue");
    if bodies < message.saturating_add(memory::READING) {
        let says = format!("{says}: a message of limits.message_size ({message_mib} MiB) never gets in");
        return Finding::error(MEMORY, says, "raise limits.body_memory, or lower limits.message_size");
    }
    if bodies < message.saturating_mul(2) {
        let says = format!(
            "{says}: a message of limits.message_size ({message_mib} MiB) gets in only when no other is"
        );
        return Finding::warning(MEMORY, says, "raise limits.body_memory, or lower limits.message_size");
    }
    match given {
        Some(given) if bodies.saturating_add(caches) > given / 4 * 3 => {
            let says = format!("{says}, of {} MiB that there are: little is left for all else", given >> 20);
            Finding::warning(
                MEMORY,
                says,
                "lower limits.body_memory, queue.read_memory, queue.body_cache and queue.index_cache",
            )
        }
        Some(_) | None => Finding::ok(MEMORY, says),
    }
}

/// Upstreams' certificates are verified against them.
fn roots() -> Finding {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Finding::error(
            "roots",
            "the system has no root certificates: no upstream with TLS can be verified",
            "install ca-certificates",
        );
    }
    Finding::ok("roots", format!("{} root certificates of the system", found.certs.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::judge::Level;
    use std::os::unix::fs::PermissionsExt;

    fn config(dir: &Path) -> Config {
        Config::new("relay.acme.com".parse().unwrap(), dir)
    }

    #[test]
    fn a_key_that_others_may_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let key = config.keys.join("acme.com/wx1.pem");
        std::fs::create_dir_all(key.parent().unwrap()).unwrap();
        fsx::write_atomically(&key, b"x", 0o600).unwrap();
        assert_eq!(secrets(&config).level, Level::Ok);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let found = secrets(&config);
        assert_eq!(found.level, Level::Error);
        assert!(found.says.contains("wx1.pem has mode 0644"), "{}", found.says);
    }

    #[test]
    fn memory_for_mail_holds_the_largest_message_and_fits_into_what_there_is() {
        let mib = |count: u64| count << 20;
        let mut config = config(Path::new("/nonexistent"));
        config.queue.read_memory = mib(128);
        for (bodies, given, level, says) in [
            (
                mib(256),
                Some(mib(1024)),
                Level::Ok,
                "256 MiB for messages on their way in, and 192 MiB for the queue",
            ),
            (mib(256), None, Level::Ok, ""),
            (mib(256), Some(mib(512)), Level::Warning, "of 512 MiB that there are"),
            (mib(32), Some(mib(1024)), Level::Warning, "gets in only when no other is"),
            (mib(25), Some(mib(1024)), Level::Error, "(25 MiB) never gets in"),
        ] {
            config.limits.body_memory = bodies;
            let found = memory(&config, given);
            assert_eq!((found.level, found.says.contains(says)), (level, true), "{}", found.says);
        }
    }

    #[test]
    fn the_state_directory_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, level) in [(0o700, Level::Ok), (0o755, Level::Warning), (0o770, Level::Warning)] {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(state(&config(dir.path())).level, level, "{mode:o}");
        }
        assert_eq!(state(&config(&dir.path().join("none"))).level, Level::Ok, "the first start makes it");
    }

    #[test]
    fn room_is_compared_with_the_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("not/there/yet");
        let free = LocalDisk.free(dir.path()).unwrap();
        let rows = [
            (0, Level::Ok, "no reserve, and room"),
            (u64::MAX, Level::Error, "never enough"),
            (free.saturating_sub(SEGMENTS / 2), Level::Warning, "no room for the journal's segments"),
        ];
        for (reserve, level, why) in rows {
            assert_eq!(disk(&state, reserve).unwrap().level, level, "{why}");
        }
    }
}
