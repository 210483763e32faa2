//! The config as a mounted file, and when it changed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::{InvalidConfig, Policy};

/// A stat this often costs nothing that can be measured, and works on every kind of volume.
const POLL: Duration = Duration::from_millis(250);
/// A ConfigMap holds 1 MiB at most.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
}

/// Calls `found` with what the file says: once at the start, and whenever it changed since. A file that cannot be read is tried
/// again at every tick, a refused one when it changes.
pub async fn follow(path: &Path, mut found: impl FnMut(Result<Policy, ConfigFileError>)) {
    let mut seen = None;
    let mut failed = None;
    loop {
        match version(path) {
            Ok(version) => {
                if seen != Some(version) {
                    seen = Some(version);
                    failed = None;
                    found(load(path));
                }
            }
            Err(error) => {
                seen = None;
                if failed != Some(error.kind()) {
                    failed = Some(error.kind());
                    found(Err(error.into()));
                }
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

pub fn load(path: &Path) -> Result<Policy, ConfigFileError> {
    let mut json = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut json)?;
    if json.len() as u64 > MAX_BYTES {
        return Err(ConfigFileError::TooLong);
    }
    Ok(Policy::parse(&json)?)
}

/// Identifies one content: kubelet swaps a symlink (`..data`) to a new directory, others rename or rewrite.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

fn version(path: &Path) -> io::Result<Version> {
    let meta = fs::metadata(path)?;
    Ok(Version {
        device: meta.dev(),
        inode: meta.ino(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        size: meta.size(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;

    use super::*;
    use crate::config::tests::config;

    struct Volume(std::path::PathBuf);

    /// A directory as kubelet makes it: `config.json` → `..data/config.json`, `..data` → a directory per content.
    impl Volume {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("cloakroom-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(&root).unwrap();
            symlink("..data/config.json", root.join("config.json")).unwrap();
            Self(root)
        }

        fn swap(&self, generation: &str, text: &str) {
            let target = self.0.join(generation);
            fs::create_dir(&target).unwrap();
            fs::write(target.join("config.json"), text).unwrap();
            symlink(generation, self.0.join("..data_tmp")).unwrap();
            fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
        }
    }

    impl Drop for Volume {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_swapped_volume_is_noticed_and_a_missing_file_is_waited_for() {
        let volume = Volume::new("follow");
        let path = volume.0.join("config.json");
        let (send, receive) = mpsc::channel();
        let task = tokio::spawn(async move {
            follow(&path, |found| send.send(found.map(|policy| policy.revision)).unwrap()).await;
        });
        let tick = || tokio::time::sleep(Duration::from_millis(300));

        tick().await;
        assert!(receive.try_recv().unwrap().is_err(), "no file yet");
        tick().await;
        assert!(receive.try_recv().is_err(), "the same trouble is told once");

        volume.swap("a", &config("http://127.0.0.1:1").to_string());
        tick().await;
        assert_eq!(receive.try_recv().unwrap().unwrap(), "r1");

        volume.swap("b", "{}");
        tick().await;
        assert!(receive.try_recv().unwrap().is_err());

        volume.swap("c", &config("http://127.0.0.1:1").to_string().replace("\"r1\"", "\"r2\""));
        tick().await;
        assert_eq!(receive.try_recv().unwrap().unwrap(), "r2");
        tick().await;
        assert!(receive.try_recv().is_err(), "nothing changed");
        task.abort();
    }

    #[test]
    fn a_file_larger_than_any_config_is_not_read_whole() {
        let volume = Volume::new("large");
        volume.swap("a", &" ".repeat(2 << 20));
        assert!(matches!(load(&volume.0.join("config.json")), Err(ConfigFileError::TooLong)));
    }
}
