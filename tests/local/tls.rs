//! A policy with `tls`: the protected port speaks it, with a certificate from files.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cloakroom_tests::local::{Local, Options, binary};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::process::Command;

const POLICY: &str = "
apiVersion: cloakroom.dev/v1alpha1
kind: AuthPolicy
metadata: {name: demo, namespace: local}
spec:
  selector: {matchLabels: {app: demo}}
  origins: ['https://shop.example.com']
";

fn with_tls() -> String {
    format!("{POLICY}  tls: {{secretName: shop-tls}}\n")
}

struct Files {
    _folder: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let files = Self { _folder: folder, certificate, key };
        files.renew("localhost")?;
        Ok(files)
    }

    fn renew(&self, name: &str) -> Result<()> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned(), name.to_owned()])?;
        std::fs::write(&self.key, signing_key.serialize_pem())?;
        std::fs::write(&self.certificate, cert.pem())?;
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        vec!["--tls-certificate".into(), path(&self.certificate), "--tls-key".into(), path(&self.key)]
    }
}

async fn curl(arguments: &[&str]) -> Result<(bool, String)> {
    let done = Command::new("curl").args(["--noproxy", "*", "-sS", "-m", "20"]).args(arguments).output().await?;
    let said = [done.stdout, done.stderr].concat();
    Ok((done.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[tokio::test]
async fn the_printed_commands_work_over_tls_and_a_renewed_certificate_is_picked_up() -> Result<()> {
    let files = Files::new()?;
    let policy = with_tls();
    let local = Local::start_with(Options { policy: Some(&policy), arguments: files.arguments() }).await?;
    ensure!(local.ready.app_url.starts_with("https://"), "{}", local.ready.app_url);
    let log = local.log()?;
    let commands: Vec<_> =
        log.lines().map(str::trim).filter(|line| line.starts_with("curl ") || line.starts_with("token=")).collect();
    let ran = Command::new("bash").args(["-euo", "pipefail", "-c", &commands.join("\n")]).output().await?;
    let said = String::from_utf8_lossy(&ran.stdout);
    ensure!(ran.status.success() && said.contains("HTTP/2 401"), "{commands:#?}: {ran:?}");
    ensure!(said.contains("x-forwarded-proto") && said.contains("https"), "{said}");

    let url = local.app("/echo");
    let trusting = |path: &Path| path.display().to_string();
    let (good, said) = curl(&["--cacert", &trusting(&files.certificate), "-o", "/dev/null", &url]).await?;
    ensure!(good, "{said}");
    files.renew("renewed.example")?;
    let end = Instant::now() + Duration::from_secs(20);
    while !curl(&["--cacert", &trusting(&files.certificate), "-o", "/dev/null", &url]).await?.0 {
        ensure!(Instant::now() < end, "the old certificate is still presented");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let (_, said) = curl(&["-i", &url.replace("https://", "http://")]).await?;
    ensure!(said.starts_with("HTTP/1.1 400") && said.contains("use https://"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_policy_and_the_files_belong_together() -> Result<()> {
    let (files, other) = (Files::new()?, Files::new()?);
    let mixed = Files { certificate: other.certificate.clone(), ..files };
    let files = Files::new()?;
    for (policy, arguments, sentence) in [
        (with_tls(), vec![], "--tls-certificate"),
        (POLICY.to_owned(), files.arguments(), "has no `tls`"),
        (with_tls(), mixed.arguments(), "certificate and key"),
        (with_tls(), files.arguments()[..2].to_vec(), "--tls-key"),
    ] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("policy.yaml");
        std::fs::write(&file, &policy)?;
        let mut command = Command::new(binary()?);
        command.args(["local", "--app-port", "0", "--auth-port", "0", "--internal-port", "0", "-f"]).arg(&file);
        let output = command.args(&arguments).kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(20), output).await.context("still running")??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(sentence), "{sentence}: {said}");
    }
    Ok(())
}
