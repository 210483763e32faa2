//! Mounted files: which content they have now, and as much of it as makes sense.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is longer than {0} bytes")]
    TooLong(u64),
}

pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(ReadError::TooLong(most)) } else { Ok(bytes) }
}

/// Identifies one content: kubelet swaps a symlink (`..data`) to a new directory, others rename or rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

pub fn version(path: &Path) -> io::Result<Version> {
    let meta = fs::metadata(path)?;
    Ok(Version {
        device: meta.dev(),
        inode: meta.ino(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        size: meta.size(),
    })
}
