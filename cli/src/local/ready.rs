//! What to try, for people and for programs, once everything answers.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::time::Instant;

const READY_WITHIN: Duration = Duration::from_secs(20);

/// The ready file.
#[derive(Serialize)]
pub(crate) struct Ready {
    pub(crate) app_url: String,
    pub(crate) auth_url: String,
    pub(crate) internal_url: String,
    pub(crate) admin_token: String,
    pub(crate) username: String,
    pub(crate) password: String,
    /// Where there are no passwords.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) passkey_link: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) api_key: String,
    /// `<namespace>/<name>`
    pub(crate) policy: String,
}

/// Waits until a URL answers with success.
pub(crate) async fn answers(http: &reqwest::Client, url: &str) -> Result<()> {
    let end = Instant::now() + READY_WITHIN;
    loop {
        let trouble = match http.get(url).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => answer.status().to_string(),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > end {
            bail!("{url} is not ready: {trouble}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + READY_WITHIN;
    while !holds() {
        if Instant::now() > end {
            bail!("{what} is not ready");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

pub(crate) fn forget(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| path.display().to_string()),
        _ => Ok(()),
    }
}

impl Ready {
    /// Whole or not at all, and for the owner only: it holds secrets.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Created with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| path.display().to_string())?;
        serde_json::to_writer_pretty(&mut file, self)?;
        writeln!(file)?;
        file.persist(path).with_context(|| path.display().to_string())?;
        Ok(())
    }

    pub(crate) fn print(&self, health_url: &str, upstream: Option<&str>) {
        let Self {
            app_url, auth_url, internal_url, username, password, client_id, client_secret, api_key, policy, ..
        } = self;
        let way_in = self
            .passkey_link
            .as_ref()
            .map_or_else(|| format!("Password        {password}"), |link| format!("Add a passkey   {link}"));
        // Of no authority that it knows, most likely.
        let curl = if app_url.starts_with("https:") { "curl -k" } else { "curl" };
        let app = upstream.map_or_else(|| "the sample app".to_owned(), |upstream| format!("http://{upstream}"));
        say!(
            "
Policy {policy} protects {app}.

  In a browser    {app_url}
  User            {username}
  {way_in}

  Auth service    {auth_url}
  Internal API    {internal_url}
  The sidecar     {health_url}

Without a token, refused:
  {curl} -si {app_url}/echo

With an access token of the demo client; what /echo shows is all that the app ever sees:
  token=$(curl -sf -u {client_id}:{client_secret} -d grant_type=client_credentials {auth_url}/oauth2/token | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')
  {curl} -s -H \"Authorization: Bearer $token\" {app_url}/echo

Revoked, and refused at once:
  curl -s -u {client_id}:{client_secret} -d token=$token {auth_url}/oauth2/revoke
  {curl} -si -H \"Authorization: Bearer $token\" {app_url}/echo

With the demo API key:
  {curl} -s -H \"Authorization: Bearer {api_key}\" {app_url}/echo

^C ends it."
        );
    }
}
