//! Certificate and key as mounted files, and when they changed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::pair::{InvalidPair, Pair};
use crate::file::{self, ReadError, Version};

/// As often as the config is looked at.
const POLL: Duration = Duration::from_millis(250);
/// A Secret holds 1 MiB at most.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    #[error("certificate and key cannot be read: {0}")]
    Missing(#[from] io::Error),
    #[error("{file}: {error}")]
    Unreadable { file: &'static str, error: ReadError },
    #[error(transparent)]
    Invalid(#[from] InvalidPair),
}

/// Looks at the files when asked to, and tells what is new about them.
pub struct Follower {
    files: TlsFiles,
    seen: Option<[Version; 2]>,
    missing: Option<io::ErrorKind>,
}

impl Follower {
    pub fn new(files: TlsFiles) -> Self {
        Self { files, seen: None, missing: None }
    }

    /// What the files say, if that was not told before.
    pub fn look(&mut self) -> Option<Result<Pair, TlsFileError>> {
        match self.versions() {
            Ok(versions) if self.seen == Some(versions) => None,
            Ok(versions) => {
                let loaded = self.load();
                // The volume was swapped between one file and the other: both are looked at again.
                if self.versions().ok() != Some(versions) {
                    return None;
                }
                (self.seen, self.missing) = (Some(versions), None);
                Some(loaded)
            }
            Err(error) if self.missing == Some(error.kind()) => None,
            Err(error) => {
                (self.seen, self.missing) = (None, Some(error.kind()));
                Some(Err(error.into()))
            }
        }
    }

    /// Runs for as long as the process does.
    pub async fn follow(mut self, found: impl Fn(Result<Pair, TlsFileError>)) {
        loop {
            tokio::time::sleep(POLL).await;
            if let Some(news) = self.look() {
                found(news);
            }
        }
    }

    fn versions(&self) -> io::Result<[Version; 2]> {
        Ok([file::version(&self.files.certificate)?, file::version(&self.files.key)?])
    }

    fn load(&self) -> Result<Pair, TlsFileError> {
        let read = |file, path| file::read(path, MAX_BYTES).map_err(|error| TlsFileError::Unreadable { file, error });
        let certificate = read("the certificate", &self.files.certificate)?;
        let key = read("the key", &self.files.key)?;
        Ok(Pair::parse(&certificate, &key)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::tls::pair::tests::localhost;

    struct Volume(PathBuf);

    /// As kubelet makes it.
    impl Volume {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("cloakroom-tls-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(&root).unwrap();
            for file in ["tls.crt", "tls.key"] {
                symlink(format!("..data/{file}"), root.join(file)).unwrap();
            }
            Self(root)
        }

        fn swap(&self, generation: &str, (certificate, key): (&str, &str)) {
            let target = self.0.join(generation);
            fs::create_dir(&target).unwrap();
            fs::write(target.join("tls.crt"), certificate).unwrap();
            fs::write(target.join("tls.key"), key).unwrap();
            symlink(generation, self.0.join("..data_tmp")).unwrap();
            fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
        }

        fn follower(&self) -> Follower {
            Follower::new(TlsFiles { certificate: self.0.join("tls.crt"), key: self.0.join("tls.key") })
        }
    }

    impl Drop for Volume {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_swapped_pair_is_noticed_and_a_missing_one_is_waited_for() {
        let volume = Volume::new("follow");
        let mut follower = volume.follower();
        let mut look = || follower.look().map(|found| found.map(|_| ()).map_err(|error| error.to_string()));
        assert!(look().is_some_and(|found| found.is_err()), "no Secret yet");
        assert_eq!(look(), None, "the same trouble is told once");
        let (one, two) = (localhost(), localhost());
        volume.swap("a", (&one.0, &one.1));
        assert_eq!(look(), Some(Ok(())));
        assert_eq!(look(), None);
        volume.swap("b", (&one.0, &two.1));
        assert!(look().is_some_and(|found| found.is_err()), "the key of another");
        assert_eq!(look(), None, "it is not read again");
        volume.swap("c", (&two.0, &two.1));
        assert_eq!(look(), Some(Ok(())));
        fs::remove_file(volume.0.join("..data")).unwrap();
        assert!(look().is_some_and(|found| found.is_err()), "the Secret is gone");
        volume.swap("d", (&one.0, &one.1));
        assert_eq!(look(), Some(Ok(())));
    }

    #[test]
    fn files_larger_than_a_secret_are_not_read_whole() {
        let volume = Volume::new("large");
        volume.swap("a", (&" ".repeat(2 << 20), ""));
        let refused = volume.follower().look().unwrap().err().unwrap();
        assert_eq!(refused.to_string(), "the certificate: is longer than 1048576 bytes");
    }
}
