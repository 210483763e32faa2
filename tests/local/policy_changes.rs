//! The policy file is followed while `cloakroom local` runs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cloakroom_tests::local::Local;
use reqwest::StatusCode;

const POLICY: &str = include_str!("../../examples/local.yaml");

async fn becomes(local: &Local, path: &str, status: StatusCode) -> Result<Duration> {
    let start = Instant::now();
    while local.http.get(local.app(path)).send().await?.status() != status {
        ensure!(
            start.elapsed() < Duration::from_secs(3),
            "{path} is not {status} after three seconds: {}",
            local.log()?
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(start.elapsed())
}

#[tokio::test]
async fn an_edit_is_in_force_within_three_seconds_and_a_broken_one_changes_nothing() -> Result<()> {
    let local = Local::start_under(POLICY).await?;
    becomes(&local, "/open", StatusCode::UNAUTHORIZED).await?;
    std::fs::write(local.policy_file(), POLICY.replace("path: /healthz", "path: /open"))?;
    println!("in force after {:?}", becomes(&local, "/open", StatusCode::OK).await?);
    becomes(&local, "/healthz", StatusCode::UNAUTHORIZED).await?;

    std::fs::write(local.policy_file(), POLICY.replace("access: Anonymous", "access: Everyone"))?;
    let start = Instant::now();
    while !local.log()?.contains("Everyone") {
        ensure!(start.elapsed() < Duration::from_secs(3), "the mistake is not named: {}", local.log()?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    becomes(&local, "/open", StatusCode::OK).await?;
    Ok(())
}
