//! The config as a mounted file, and when it changed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{InvalidConfig, Policy};
use crate::file::{self, ReadError, Version};

/// A stat this often costs nothing that can be measured, and works on every kind of volume.
const POLL: Duration = Duration::from_millis(250);
/// A ConfigMap holds 1 MiB at most.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    #[error("cannot be read: {0}")]
    Missing(#[from] io::Error),
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
}

/// Looks at the file when asked to, and tells what is new about it.
pub struct Follower {
    path: PathBuf,
    seen: Option<Version>,
    missing: Option<io::ErrorKind>,
}

impl Follower {
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None, missing: None }
    }

    /// What the file says, if that was not told before. A file that cannot be read is tried again each time, a refused one when it changed.
    pub fn look(&mut self) -> Option<Result<Policy, ConfigFileError>> {
        match file::version(&self.path) {
            Ok(version) if self.seen == Some(version) => None,
            Ok(version) => {
                (self.seen, self.missing) = (Some(version), None);
                Some(load(&self.path))
            }
            Err(error) if self.missing == Some(error.kind()) => None,
            Err(error) => {
                (self.seen, self.missing) = (None, Some(error.kind()));
                Some(Err(error.into()))
            }
        }
    }

    /// Runs for as long as the process does.
    pub async fn follow(mut self, found: impl Fn(Result<Policy, ConfigFileError>)) {
        loop {
            tokio::time::sleep(POLL).await;
            if let Some(news) = self.look() {
                found(news);
            }
        }
    }
}

fn load(path: &Path) -> Result<Policy, ConfigFileError> {
    Ok(Policy::parse(&file::read(path, MAX_BYTES)?)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::tests::config;

    struct Volume(PathBuf);

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

    #[test]
    fn a_swapped_volume_is_noticed_and_a_missing_file_is_waited_for() {
        let volume = Volume::new("follow");
        let mut follower = Follower::new(volume.0.join("config.json"));
        let mut look = || follower.look().map(|found| found.map(|policy| policy.revision).ok());

        assert_eq!(look(), Some(None), "no file yet");
        assert_eq!(look(), None, "the same trouble is told once");
        let good = config("http://127.0.0.1:1").to_string();
        volume.swap("a", &good);
        assert_eq!(look(), Some(Some("r1".into())));
        assert_eq!(look(), None, "nothing changed");
        volume.swap("b", "{}");
        assert_eq!(look(), Some(None));
        assert_eq!(look(), None, "a refused config is not read again");
        volume.swap("c", &good.replace("\"r1\"", "\"r2\""));
        assert_eq!(look(), Some(Some("r2".into())));
        fs::write(volume.0.join("c/config.json"), good.replace("\"r1\"", "\"r33\"")).unwrap();
        assert_eq!(look(), Some(Some("r33".into())), "rewritten in place");
    }

    #[test]
    fn a_file_larger_than_any_config_is_not_read_whole() {
        let volume = Volume::new("large");
        volume.swap("a", &" ".repeat(2 << 20));
        assert!(matches!(load(&volume.0.join("config.json")), Err(ConfigFileError::Unreadable(ReadError::TooLong(_)))));
    }
}
