//! How many workers: as many as the CPU limit lets run at once, since more would only be throttled.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

/// Without a limit a sidecar does not take the whole node.
const MOST_WITHOUT_LIMIT: usize = 4;
const MOST: usize = 64;

pub fn by_cpu_limit() -> usize {
    let cpus = available_parallelism().map_or(1, usize::from);
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    match limit(Path::new("/sys/fs/cgroup"), &membership) {
        Some(limit) => limit.clamp(1, cpus.min(MOST)),
        None => cpus.min(MOST_WITHOUT_LIMIT),
    }
}

/// The tightest limit of this process's groups, in whole CPUs, rounded up; `None` without any.
fn limit(root: &Path, membership: &str) -> Option<usize> {
    let mut files = Vec::new();
    for line in membership.lines() {
        // `<hierarchy>:<controllers>:<path>` (cgroups(7)); version 2 has hierarchy 0 and no controllers.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            files.extend(ancestors(root, path).into_iter().map(|group| v2(&group)));
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            let roots = [root.join("cpu"), root.join(controllers)];
            files.extend(roots.iter().flat_map(|root| ancestors(root, path)).map(|group| v1(&group)));
        }
    }
    files.into_iter().flatten().min()
}

/// The group and those above it; inside a cgroup namespace the path may not exist, the root does.
fn ancestors(root: &Path, path: &str) -> Vec<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    path.ancestors().map(|group| root.join(group)).collect()
}

fn v2(group: &Path) -> Option<usize> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    whole(quota.parse().ok()?, period.parse().ok()?)
}

fn v1(group: &Path) -> Option<usize> {
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok();
    whole(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
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
        assert_eq!(limit(&tree.0, "0::/pod/a\n"), Some(3));
        assert_eq!(limit(&tree.0, "0::/\n"), None);
        let own = Tree::new("v2-namespace", &[("cpu.max", "50000 100000\n")]);
        assert_eq!(limit(&own.0, "0::/../../kubepods/x\n"), Some(1));
    }

    #[test]
    fn version_1_is_read_where_it_is_mounted() {
        let tree = Tree::new(
            "v1",
            &[("cpu,cpuacct/pod/cpu.cfs_quota_us", "150000\n"), ("cpu,cpuacct/pod/cpu.cfs_period_us", "100000\n")],
        );
        assert_eq!(limit(&tree.0, "5:memory:/x\n4:cpu,cpuacct:/pod\n"), Some(2));
        let none = Tree::new("v1-none", &[("cpu/cpu.cfs_quota_us", "-1\n"), ("cpu/cpu.cfs_period_us", "100000\n")]);
        assert_eq!(limit(&none.0, "4:cpu,cpuacct:/\n"), None);
    }

    #[test]
    fn there_is_always_one() {
        assert!(by_cpu_limit() >= 1);
        assert_eq!(limit(Path::new("/nowhere"), "garbage\n::\n"), None);
    }
}
