//! The commands themselves: what they print, refuse and leave behind.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::local::{Local, binary};
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

async fn cloakroom(arguments: &[&str]) -> Result<Output> {
    let command = Command::new(binary()?).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    Ok(tokio::time::timeout(Duration::from_secs(20), command).await.context("still running")??)
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn signal(local: &Local, name: &str) -> Result<()> {
    let pid = local.pid()?.to_string();
    anyhow::ensure!(Command::new("kill").args(["-s", name, &pid]).status().await?.success());
    Ok(())
}

#[tokio::test]
async fn interrupt_and_terminate_end_it_cleanly_whatever_is_open() -> Result<()> {
    for name in ["INT", "TERM"] {
        let mut local = Local::start().await?;
        let token = local.access_token(None).await?;
        let mut stream = local.http.get(local.app("/sse")).bearer_auth(&token).send().await?;
        stream.chunk().await?;
        signal(&local, name).await?;
        assert_eq!(local.ended(Duration::from_secs(5)).await?, Some(0), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn it_prints_where_to_look_and_commands_that_work() -> Result<()> {
    let local = Local::start().await?;
    let log = local.log()?;
    for shown in [&local.ready.app_url, &local.ready.auth_url, &local.ready.username, &local.ready.password] {
        assert!(log.contains(shown.as_str()), "{shown} in {log}");
    }
    // The commands, pasted one after the other into one shell.
    let commands: Vec<_> =
        log.lines().map(str::trim).filter(|line| line.starts_with("curl ") || line.starts_with("token=")).collect();
    assert!(commands.len() >= 3, "{log}");
    let ran = Command::new("bash").args(["-euo", "pipefail", "-c", &commands.join("\n")]).output().await?;
    assert!(ran.status.success(), "{commands:#?}: {}", error(&ran));
    assert!(String::from_utf8_lossy(&ran.stdout).contains("\"method\""), "{ran:?}");
    Ok(())
}

#[tokio::test]
async fn nobody_reading_its_output_does_not_end_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ready = folder.path().join("ready.json");
    std::fs::write(&ready, "{} of an earlier run")?;
    let mut command = Command::new(binary()?);
    command.args(["local", "--app-port", "0", "--auth-port", "0", "--internal-port", "0", "--ready-file"]).arg(&ready);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    drop((child.stdout.take(), child.stderr.take()));
    let start = Instant::now();
    let ready: cloakroom_tests::local::Ready = loop {
        if let Some(ready) = std::fs::read(&ready).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
            break ready;
        }
        anyhow::ensure!(child.try_wait()?.is_none() && start.elapsed() < Duration::from_secs(20), "it never got ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let answer = cloakroom_tests::local::client()?.get(format!("{}/echo", ready.app_url)).send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(child.try_wait()?.is_none());
    Ok(())
}

#[tokio::test]
async fn nothing_secret_is_in_the_log_but_what_is_there_to_be_tried() -> Result<()> {
    let local = Local::start().await?;
    let token = local.access_token(None).await?;
    let echo = local.echo(&token).await?;
    Browser::new()?.sign_in(&local, "/").await?;
    let log = local.log()?;
    assert!(!log.contains(&token) && !log.contains(echo.jwt()?) && !log.contains("cs_"), "{log}");
    assert!(!log.contains(&local.ready.admin_token), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_busy_port_is_named() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    for flag in ["--app-port", "--auth-port", "--internal-port"] {
        let mut arguments = vec!["local", flag, &port];
        for other in ["--app-port", "--auth-port", "--internal-port"] {
            if other != flag {
                arguments.extend([other, "0"]);
            }
        }
        let output = cloakroom(&arguments).await?;
        assert!(!output.status.success());
        assert!(error(&output).contains(&port) && error(&output).contains(flag), "{}", error(&output));
    }
    Ok(())
}

async fn refusal(command: &[&str], policy: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, policy)?;
    let file = file.to_str().context("path")?;
    let output = cloakroom(&[command, &["-f", file]].concat()).await?;
    assert_eq!(output.status.code(), Some(1), "{}", error(&output));
    let text = error(&output);
    assert!(text.contains(file) && !text.contains("panicked"), "{text}");
    Ok(text)
}

#[tokio::test]
async fn a_wrong_policy_is_refused_with_its_place_and_a_sentence() -> Result<()> {
    let head = "apiVersion: cloakroom.dev/v1alpha1\nkind: AuthPolicy\nmetadata: {name: a, namespace: b}\n";
    let ports = ["local", "--app-port", "0", "--auth-port", "0", "--internal-port", "0"];
    for command in [&["check"][..], &ports[..]] {
        let unreadable = refusal(command, &format!("{head}spec:\n  selector: [\n")).await?;
        assert!(unreadable.contains("line "), "{unreadable}");
        let empty = refusal(command, &format!("{head}spec: {{selector: {{}}}}\n")).await?;
        assert!(empty.contains("an empty selector would select every pod"), "{empty}");
        let rule = "spec: {selector: {matchLabels: {a: b}}, rules: [{match: [{path: admin}]}]}";
        let pattern = refusal(command, &format!("{head}{rule}\n")).await?;
        assert!(pattern.contains("rules[0]"), "{pattern}");
    }
    let missing = cloakroom(&["check", "-f", "/nowhere/policy.yaml"]).await?;
    assert!(error(&missing).contains("/nowhere/policy.yaml"), "{}", error(&missing));
    Ok(())
}

#[tokio::test]
async fn check_shows_what_a_policy_comes_to() -> Result<()> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/web-shop.yaml");
    let output = cloakroom(&["check", "-f", example.to_str().context("path")?]).await?;
    let shown = String::from_utf8(output.stdout)?;
    for part in ["shop/shop", "https://shop.example.com", "/admin/**", "mfa"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    Ok(())
}

#[tokio::test]
async fn users_and_sessions_are_managed_from_the_command_line() -> Result<()> {
    let local = Local::start().await?;
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, &local.ready.admin_token)?;
    let run = async |arguments: &[&str], input: &str| -> Result<Output> {
        let mut command = Command::new(binary()?);
        command.args(arguments).env("CLOAKROOM_URL", &local.ready.internal_url);
        command.arg("--token-file").arg(&token).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("stdin")?.write_all(input.as_bytes()).await?;
        let output = child.wait_with_output().await?;
        anyhow::ensure!(output.status.success(), "{arguments:?}: {}", error(&output));
        Ok(output)
    };
    run(&["users", "create", "grace", "--role", "admin"], "a fine long password\n").await?;
    let list = run(&["users", "list"], "").await?;
    assert!(String::from_utf8_lossy(&list.stdout).contains("grace"), "{list:?}");

    let mut browser = Browser::new()?;
    let page = browser.open(&local.app("/admin/desk")).await?;
    let page = browser.fill_in(&page, "grace", "a fine long password").await?;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");

    let sessions = run(&["sessions", "list", "grace"], "").await?;
    assert!(!sessions.stdout.is_empty());
    let receipt = run(&["sessions", "revoke", "grace", "--everywhere", "--wait", "2000"], "").await?;
    assert!(!receipt.stdout.is_empty());
    let page = browser.open(&local.app("/admin/desk")).await?;
    assert!(page.url.as_str().starts_with(&local.ready.auth_url), "signed out: {}", page.url);

    run(&["users", "set-password", "grace"], "another fine password\n").await?;
    let page = browser.fill_in(&page, "grace", "another fine password").await?;
    assert_eq!(page.status, StatusCode::OK);
    run(&["users", "delete", "grace"], "").await?;
    let start = Instant::now();
    while browser.open(&local.app("/admin/desk")).await?.url.as_str().starts_with(&local.ready.app_url) {
        anyhow::ensure!(
            start.elapsed() < Duration::from_secs(1),
            "a deleted user's session is honoured after a second"
        );
    }
    Ok(())
}
