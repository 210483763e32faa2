//! Starts `cloakroom local` and knows what its ready file says.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::{Child, Command};

const READY_WITHIN: Duration = Duration::from_secs(30);

/// The ready file, as design and README promise it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    pub app_url: String,
    pub auth_url: String,
    pub internal_url: String,
    pub admin_token: String,
    pub username: String,
    pub password: String,
    pub client_id: String,
    pub client_secret: String,
    pub api_key: String,
    /// `<namespace>/<name>`
    pub policy: String,
}

/// A running `cloakroom local`, killed when it is dropped.
pub struct Local {
    pub ready: Ready,
    pub http: reqwest::Client,
    folder: tempfile::TempDir,
    child: Child,
}

/// What a test wants otherwise than the default.
#[derive(Default)]
pub struct Options<'a> {
    /// Text of the policy file.
    pub policy: Option<&'a str>,
    pub arguments: Vec<String>,
}

impl Local {
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// With a policy of the test's own.
    pub async fn start_under(policy: &str) -> Result<Self> {
        Self::start_with(Options { policy: Some(policy), ..Options::default() }).await
    }

    pub async fn start_with(options: Options<'_>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ready_file = folder.path().join("ready.json");
        let mut command = Command::new(binary()?);
        command.arg("local").args(["--app-port", "0", "--auth-port", "0", "--internal-port", "0"]);
        command.arg("--ready-file").arg(&ready_file).args(&options.arguments);
        if let Some(policy) = options.policy {
            let file = folder.path().join("policy.yaml");
            std::fs::write(&file, policy)?;
            command.arg("-f").arg(file);
        }
        let log = std::fs::File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let mut child = command.spawn()?;
        let ready = await_ready(&mut child, &ready_file)
            .await
            .with_context(|| std::fs::read_to_string(folder.path().join("log")).unwrap_or_default())?;
        Ok(Self { ready, http: client()?, folder, child })
    }

    /// URL of a path of the protected app.
    pub fn app(&self, path: &str) -> String {
        format!("{}{path}", self.ready.app_url)
    }

    pub fn auth(&self, path: &str) -> String {
        format!("{}{path}", self.ready.auth_url)
    }

    pub fn policy_file(&self) -> PathBuf {
        self.folder.path().join("policy.yaml")
    }

    /// Everything that the process has written so far.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("log"))?)
    }

    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the process has ended")
    }

    /// Waits for the end; the exit status' code.
    pub async fn ended(&mut self, within: Duration) -> Result<Option<i32>> {
        Ok(tokio::time::timeout(within, self.child.wait()).await.context("still running")??.code())
    }

    /// What the OpenID configuration says.
    pub async fn discovery(&self) -> Result<Value> {
        let answer = self.http.get(self.auth("/.well-known/openid-configuration")).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// The token endpoint's answer to the demo client.
    pub async fn token_request(&self, form: &[(&str, &str)]) -> Result<reqwest::Response> {
        let endpoint = self.endpoint("token_endpoint").await?;
        let request = self.http.post(endpoint).basic_auth(&self.ready.client_id, Some(&self.ready.client_secret));
        Ok(request.form(form).send().await?)
    }

    /// An access token by client credentials.
    pub async fn access_token(&self, scope: Option<&str>) -> Result<String> {
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(scope.map(|scope| ("scope", scope)));
        let answer = self.token_request(&form).await?;
        let (status, body) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{status}: {body}");
        let answer: Value = serde_json::from_str(&body)?;
        Ok(answer["access_token"].as_str().context("no access_token")?.to_owned())
    }

    /// RFC 7009, by the demo client.
    pub async fn revoke(&self, token: &str) -> Result<()> {
        let endpoint = self.endpoint("revocation_endpoint").await?;
        let request = self.http.post(endpoint).basic_auth(&self.ready.client_id, Some(&self.ready.client_secret));
        request.form(&[("token", token)]).send().await?.error_for_status()?;
        Ok(())
    }

    async fn endpoint(&self, name: &str) -> Result<String> {
        let discovery = self.discovery().await?;
        Ok(discovery[name].as_str().with_context(|| format!("discovery names no {name}"))?.to_owned())
    }

    /// What the sample app saw of a request with this token.
    pub async fn echo(&self, token: &str) -> Result<Echo> {
        let answer = self.http.get(self.app("/echo")).bearer_auth(token).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }
}

/// What the sample app's `/echo` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Echo {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body_length: u64,
}

impl Echo {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The JWT of the Authorization header.
    pub fn jwt(&self) -> Result<&str> {
        let value = self.header("authorization").context("the app got no Authorization header")?;
        value.strip_prefix("Bearer ").context("not a bearer token")
    }

    /// The JWT's claims, unverified.
    pub fn claims(&self) -> Result<Value> {
        claims(self.jwt()?)
    }
}

/// A JWT's claims, unverified.
pub fn claims(jwt: &str) -> Result<Value> {
    use base64::Engine;
    let payload = jwt.split('.').nth(1).context("not a JWT")?;
    Ok(serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload)?)?)
}

/// A client that follows no redirect and keeps no cookie.
pub fn client() -> Result<reqwest::Client> {
    // Built with the whole workspace, reqwest speaks TLS and wants to know by whose hand, though nothing here uses it. A second
    // call finds it installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    Ok(builder.timeout(Duration::from_secs(30)).build()?)
}

/// `CLOAKROOM_BIN`, or the binary that was built beside this test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CLOAKROOM_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    // target/<profile>/deps/<test>
    let path = test.parent().and_then(Path::parent).context("no target folder")?.join("cloakroom");
    ensure!(path.exists(), "{} is missing: cargo build --workspace", path.display());
    Ok(path)
}

async fn await_ready(child: &mut Child, file: &Path) -> Result<Ready> {
    let end = Instant::now() + READY_WITHIN;
    loop {
        if let Ok(text) = tokio::fs::read_to_string(file).await {
            // Written atomically: a half file would be an error worth seeing.
            return serde_json::from_str(&text).with_context(|| format!("the ready file: {text}"));
        }
        if let Some(status) = child.try_wait()? {
            bail!("cloakroom local ended with {status}");
        }
        ensure!(Instant::now() < end, "no ready file after {READY_WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
