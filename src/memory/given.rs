//! How much memory this process has been given: the machine's, or less where a control group says so.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Linux shows control groups: the second version's, then the first's.
const UNIFIED: &str = "/sys/fs/cgroup";
const FIRST: &str = "/sys/fs/cgroup/memory";

/// Octets of memory that the process may use in all; `None` where the system does not say.
#[must_use]
pub fn given() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = limits(&groups).into_iter().filter_map(|file| octets(&fs::read_to_string(file).ok()?));
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    of_groups.chain(machine).min()
}

/// The files with the limits of the process's groups and of those above them: each of them holds. In a container the names may be
/// those of the host, and only the last file of each list is there.
fn limits(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => (UNIFIED, "memory.max"),
            named if named.split(',').any(|one| one == "memory") => (FIRST, "memory.limit_in_bytes"),
            _ => continue,
        };
        let above = Path::new(path.trim_start_matches('/')).ancestors();
        files.extend(above.map(|group| Path::new(root).join(group).join(name)));
    }
    files
}

/// What such a file says; `max` is no limit.
fn octets(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The machine's memory, as /proc/meminfo has it in KiB.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_all_groups_above_are_looked_at() {
        let found = limits("4:cpu,memory:/pod/one\n1:cpu:/other\n0::/system.slice/waxseal.service\n");
        let shown: Vec<_> = found.iter().map(|file| file.display().to_string()).collect();
        assert_eq!(
            shown,
            [
                "/sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/pod/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/system.slice/waxseal.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
    }

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!(octets("134217728\n"), Some(128 << 20));
        assert_eq!(octets("max\n"), None);
        assert_eq!(total("MemTotal:        1014656 kB\nMemFree: 1 kB\n"), Some(1_014_656 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn a_linux_machine_says_how_much_it_has() {
        assert!(given().is_some_and(|octets| octets > 1 << 20));
    }
}
