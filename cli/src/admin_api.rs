//! The auth service's admin API, as the commands use it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cloakroom_protocol::internal_api::Problem;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where the auth service's internal port is, and what opens it
#[derive(clap::Args)]
pub(crate) struct Connection {
    /// Address of the auth service's internal port, e.g. of a `kubectl port-forward`
    #[arg(long, global = true, env = "CLOAKROOM_URL", default_value = "http://127.0.0.1:8002")]
    url: String,
    /// File with the administrator's token
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The administrator's token; other users of this machine may see arguments, so rather use the environment or a file
    #[arg(long, global = true, env = "CLOAKROOM_ADMIN_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// PEM file with the CA that signed the auth service's certificate
    #[arg(long, global = true, env = "CLOAKROOM_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

pub(crate) struct AdminApi {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Connection {
    pub(crate) fn open(&self) -> Result<AdminApi> {
        let token = match (&self.token_file, &self.token) {
            (Some(file), _) => std::fs::read_to_string(file).with_context(|| file.display().to_string())?,
            (None, Some(token)) => token.clone(),
            (None, None) => bail!("an administrator's token is needed: --token-file, or CLOAKROOM_ADMIN_TOKEN"),
        };
        let mut builder = reqwest::Client::builder();
        if let Some(file) = &self.ca_file {
            let pem = std::fs::read(file).with_context(|| file.display().to_string())?;
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        Ok(AdminApi::new(builder.build()?, &self.url, token.trim()))
    }
}

impl AdminApi {
    pub(crate) fn new(http: reqwest::Client, url: &str, token: &str) -> Self {
        Self { http, url: url.trim_end_matches('/').to_owned(), token: token.to_owned() }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        self.json(self.request(method, path).json(body)).await
    }

    /// `wait`: milliseconds to wait for a receipt.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str, wait: Option<u64>) -> Result<T> {
        self.json(self.request(Method::DELETE, path).query(&[("wait", wait.unwrap_or_default())])).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    async fn json<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T> {
        let answer = request.send().await.with_context(|| format!("the auth service at {}", self.url))?;
        let status = answer.status();
        let body = answer.bytes().await?;
        if status.is_success() {
            // 204 has nothing to say, which is JSON's null.
            let body = if body.is_empty() { b"null" } else { &body[..] };
            return serde_json::from_slice(body).context("the auth service's answer");
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(Problem { detail: Some(detail), .. }) => bail!("{detail}"),
            Ok(Problem { title, .. }) => bail!("{title}"),
            Err(_) => bail!("the auth service answered {status}"),
        }
    }
}
