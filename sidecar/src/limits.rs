//! What the container's limits (cgroups) mean for us: as many workers as can run at once, since more would only be throttled, and a cache
//! that does not get the process killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread::available_parallelism;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::token_cache::Bounds;

const ROOT: &str = "/sys/fs/cgroup";

/// Without a limit a sidecar does not take the whole node.
const MOST_WITHOUT_LIMIT: usize = 4;
const MOST: usize = 64;

pub fn workers() -> usize {
    let cpus = available_parallelism().map_or(1, usize::from);
    match cpu_limit(Path::new(ROOT), &membership()) {
        Some(limit) => limit.clamp(1, cpus.min(MOST)),
        None => cpus.min(MOST_WITHOUT_LIMIT),
    }
}

/// Bytes that the process may take.
pub fn memory() -> usize {
    memory_limit(Path::new(ROOT), &membership()).unwrap_or(MEMORY_WITHOUT_LIMIT).clamp(LEAST_MEMORY, MOST_MEMORY)
}

/// A quarter of the memory is for what is cached; connections and bodies under way need the rest.
pub fn cache_bounds(memory: usize) -> Bounds {
    let bounds = Bounds::default();
    Bounds { bytes: bounds.bytes.min(memory / 4), ..bounds }
}

/// What a worker may hold: more connections are closed, more requests refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub connections: usize,
    /// Of buffers, whoever holds them.
    pub bytes: usize,
}

/// Beside the cache's quarter, three eighths of the memory are for what is under way and an eighth for connections that wait; the last
/// quarter is for the process itself and for what the allocator cannot use.
pub fn room(memory: usize, workers: usize, tls: bool) -> Room {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    share(memory, files, workers.max(1), if tls { TLS_CONNECTION } else { CONNECTION })
}

/// Takes as many open files as the process may: the soft limit is 1024 in many containers, for programs that use `select`, which this
/// one does not. Where it cannot be raised, [`room`] makes do with what there is.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn share(memory: usize, files: Option<usize>, workers: usize, connection: usize) -> Room {
    let by_memory = memory / 8 / connection;
    // Those that wait need no connection to the app; a third of the files is for those that do.
    let by_files = files.map_or(usize::MAX, |files| files.saturating_sub(OWN_FILES).max(2) / 3 * 2);
    Room { connections: (by_memory.min(by_files) / workers).max(1), bytes: memory / 8 * 3 / workers }
}

/// What a connection that waits costs, measured generously.
const CONNECTION: usize = 2 << 10;
/// The same with its keys.
const TLS_CONNECTION: usize = 8 << 10;
const OWN_FILES: usize = 64;
const MEMORY_WITHOUT_LIMIT: usize = 512 << 20;
/// Below this nothing could be served.
pub const LEAST_MEMORY: usize = 16 << 20;
const MOST_MEMORY: usize = 4 << 30;

fn membership() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// The tightest limit of this process's groups, in whole CPUs, rounded up; `None` without any.
fn cpu_limit(root: &Path, membership: &str) -> Option<usize> {
    tightest(root, membership, "cpu", cpu_v2, cpu_v1)
}

/// Bytes.
fn memory_limit(root: &Path, membership: &str) -> Option<usize> {
    tightest(
        root,
        membership,
        "memory",
        |group| number(group, "memory.max"),
        |group| number(group, "memory.limit_in_bytes"),
    )
}

fn tightest(
    root: &Path,
    membership: &str,
    controller: &str,
    v2: impl Fn(&Path) -> Option<usize>,
    v1: impl Fn(&Path) -> Option<usize>,
) -> Option<usize> {
    let mut limits = Vec::new();
    for line in membership.lines() {
        // `<hierarchy>:<controllers>:<path>` (cgroups(7)); version 2 has hierarchy 0 and no controllers.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            limits.extend(ancestors(root, path).iter().map(|group| v2(group)));
        } else if controllers.split(',').any(|name| name == controller) {
            let roots = [root.join(controller), root.join(controllers)];
            limits.extend(roots.iter().flat_map(|root| ancestors(root, path)).map(|group| v1(&group)));
        }
    }
    limits.into_iter().flatten().min()
}

/// The group and those above it; inside a cgroup namespace the path may not exist, the root does.
fn ancestors(root: &Path, path: &str) -> Vec<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    path.ancestors().map(|group| root.join(group)).collect()
}

fn cpu_v2(group: &Path) -> Option<usize> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    whole(quota.parse().ok()?, period.parse().ok()?)
}

fn cpu_v1(group: &Path) -> Option<usize> {
    whole(number(group, "cpu.cfs_quota_us")?, number(group, "cpu.cfs_period_us")?)
}

/// `max` and `-1` are no limit.
fn number<T: FromStr>(group: &Path, file: &str) -> Option<T> {
    fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()
}

fn whole(quota: i64, period: i64) -> Option<usize> {
    if quota <= 0 || period <= 0 {
        return None;
    }
    usize::try_from(quota.unsigned_abs().div_ceil(period.unsigned_abs())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("cloakroom-cgroup-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            for (file, text) in files {
                let file = root.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn version_2_limits_are_rounded_up_and_the_tightest_counts() {
        let tree = Tree::new(
            "v2",
            &[("cpu.max", "max 100000\n"), ("pod/cpu.max", "250000 100000\n"), ("pod/a/cpu.max", "max 100000\n")],
        );
        assert_eq!(cpu_limit(&tree.0, "0::/pod/a\n"), Some(3));
        assert_eq!(cpu_limit(&tree.0, "0::/\n"), None);
        let own = Tree::new("v2-namespace", &[("cpu.max", "50000 100000\n")]);
        assert_eq!(cpu_limit(&own.0, "0::/../../kubepods/x\n"), Some(1));
    }

    #[test]
    fn version_1_is_read_where_it_is_mounted() {
        let tree = Tree::new(
            "v1",
            &[("cpu,cpuacct/pod/cpu.cfs_quota_us", "150000\n"), ("cpu,cpuacct/pod/cpu.cfs_period_us", "100000\n")],
        );
        assert_eq!(cpu_limit(&tree.0, "5:memory:/x\n4:cpu,cpuacct:/pod\n"), Some(2));
        let none = Tree::new("v1-none", &[("cpu/cpu.cfs_quota_us", "-1\n"), ("cpu/cpu.cfs_period_us", "100000\n")]);
        assert_eq!(cpu_limit(&none.0, "4:cpu,cpuacct:/\n"), None);
    }

    #[test]
    fn there_is_always_one() {
        assert!(workers() >= 1);
        assert_eq!(cpu_limit(Path::new("/nowhere"), "garbage\n::\n"), None);
    }

    #[test]
    fn the_cache_stays_within_the_memory_that_there_is() {
        let tree = Tree::new("memory", &[("memory.max", "max\n"), ("pod/memory.max", "67108864\n")]);
        assert_eq!(memory_limit(&tree.0, "0::/pod\n"), Some(64 << 20));
        assert_eq!(memory_limit(&tree.0, "0::/\n"), None);
        let v1 = Tree::new("memory-v1", &[("memory/pod/memory.limit_in_bytes", "33554432\n")]);
        assert_eq!(memory_limit(&v1.0, "9:memory:/pod\n"), Some(32 << 20));
        assert_eq!(cache_bounds(8 << 20).bytes, 2 << 20);
        assert_eq!(cache_bounds(MOST_MEMORY).bytes, Bounds::default().bytes);
    }

    #[test]
    fn what_may_be_held_fits_beside_the_cache() {
        let memory = 128 << 20;
        let room = share(memory, None, 2, CONNECTION);
        assert!(2 * (room.connections * CONNECTION + room.bytes) + cache_bounds(memory).bytes <= memory / 4 * 3);
        assert_eq!((room.connections, room.bytes), (4096, 24 << 20));
        assert_eq!(share(memory, Some(1064), 2, CONNECTION).connections, 333);
        assert!(share(LEAST_MEMORY, Some(0), 64, TLS_CONNECTION).connections > 0);
    }
}
