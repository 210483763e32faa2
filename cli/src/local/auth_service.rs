//! The auth service, in this process: public and internal port on loopback, plain HTTP, store in memory or in a Redis.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use cloakroom_auth_service::random::Random;
use cloakroom_auth_service::{Config, Running};
use cloakroom_sidecar::clock::unix_now;
use serde_json::{Value, json};

use super::ports::Ports;
use super::workload_issuer::{ISSUER, WorkloadIssuer};
use crate::admin_api::AdminApi;

const OPERATOR: (&str, &str) = ("cloakroom-system", "cloakroom-operator");
const STORE_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct AuthService {
    running: Running,
    pub(crate) admin_token: String,
    pub(crate) admin: AdminApi,
    /// With a workload token, as the operator calls it.
    pub(crate) operator: AdminApi,
}

impl AuthService {
    pub(crate) async fn start(
        ports: &Ports,
        redis: Option<&str>,
        issuer: &WorkloadIssuer,
        random: &Random,
        http: &reqwest::Client,
    ) -> Result<Self> {
        let admin_token = random.secret();
        let (namespace, service_account) = OPERATOR;
        let mut config = json!({
            "issuer": format!("http://{}", ports.auth),
            "public": { "listen": ports.auth },
            "internal": { "listen": ports.internal },
            "workload_issuers": [{ "issuer": ISSUER, "jwks": { "inline": issuer.jwks() } }],
            "operators": [format!("system:serviceaccount:{namespace}:{service_account}")],
            "admin": { "token": admin_token },
        });
        if let Some(url) = redis {
            config["store"] = json!({ "redis": { "urls": [url] } });
            config["signing"] = json!({ "encryption_key_files": [encryption_key(random)?] });
        }
        let running = run(config).await?;
        if tokio::time::timeout(STORE_WITHIN, running.ready()).await.is_err() {
            running.stop().await;
            anyhow::bail!("no answer from Redis within {STORE_WITHIN:?}: is the address of --redis right?");
        }
        let url = format!("http://{}", ports.internal);
        let operator = issuer.token(namespace, service_account, "operator", unix_now().as_secs())?;
        Ok(Self {
            running,
            admin: AdminApi::new(http.clone(), &url, &admin_token),
            operator: AdminApi::new(http.clone(), &url, &operator),
            admin_token,
        })
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

async fn run(config: Value) -> Result<Running> {
    let config: Config = serde_json::from_value(config)?;
    cloakroom_auth_service::start(config).await.context("the auth service")
}

/// Encrypts the signing keys in Redis. Kept between runs, since whoever starts again on the same Redis wants to read them.
fn encryption_key(random: &Random) -> Result<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")));
    let folder =
        state.context("neither HOME nor XDG_STATE_HOME says where to keep the encryption key")?.join("cloakroom");
    let path = folder.join("encryption-key");
    if !path.exists() {
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        file.write_all(&random.bytes::<32>())?;
        // Another process may have been faster: its key is as good.
        if let Err(error) = file.persist_noclobber(&path)
            && !path.exists()
        {
            return Err(error.error).with_context(|| path.display().to_string());
        }
    }
    Ok(path)
}
