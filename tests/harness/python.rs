//! Python with the libraries of `local/requirements.txt`: opinions independent of our own.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Runs a script of the `local` folder; its standard output.
pub async fn run(script: &str, arguments: &[&str]) -> Result<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = Command::new(tests.join("lib/python")).arg(tests.join("local/requirements.txt")).output().await?;
    ensure!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let python = String::from_utf8(python.stdout)?;
    let mut command = Command::new(python.lines().last().context("no path to Python")?);
    let ran = command.arg(tests.join("local").join(script)).args(arguments).stdin(Stdio::null()).output().await?;
    ensure!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    Ok(String::from_utf8(ran.stdout)?)
}
