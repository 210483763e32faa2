//! An AuthPolicy in a file, or on standard input.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use cloakroom_crds::AuthPolicy;
use cloakroom_operator::policy::read;

/// Reads and judges one policy; every error starts with the file's name.
pub(crate) fn load(path: &Path) -> Result<AuthPolicy> {
    let text = text(path).with_context(|| path.display().to_string())?;
    read::read(&text).with_context(|| path.display().to_string())
}

fn text(path: &Path) -> std::io::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path)
}
