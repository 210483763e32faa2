//! The auth service, in this process: public and internal port on loopback, plain HTTP, store in memory or in a Redis.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
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
    /// Whether people sign in with passwords, too.
    pub(crate) passwords: bool,
    pub(crate) admin_token: String,
    pub(crate) admin: AdminApi,
    /// With a workload token, as the operator calls it.
    pub(crate) operator: AdminApi,
}

impl AuthService {
    pub(crate) async fn start(
        ports: &Ports,
        redis: Option<&str>,
        settings: Option<&Path>,
        issuer: &WorkloadIssuer,
        random: &Random,
        http: &reqwest::Client,
    ) -> Result<Self> {
        let admin_token = random.secret();
        let (namespace, service_account) = OPERATOR;
        let own = json!({
            "issuer": ports.issuer(),
            "public": { "listen": ports.auth },
            "internal": { "listen": ports.internal },
            "workload_issuers": [{ "issuer": ISSUER, "jwks": { "inline": issuer.jwks() } }],
            "operators": [format!("system:serviceaccount:{namespace}:{service_account}")],
            "admin": { "token": admin_token },
        });
        let mut config = further(settings, &own)?;
        if let Some(url) = redis {
            config["store"] = json!({ "redis": { "urls": [url] } });
            config["signing"] = json!({ "encryption_key_files": [encryption_key(random)?] });
        }
        let passwords = config["passwords"]["enabled"] != false;
        let running = run(config).await?;
        if tokio::time::timeout(STORE_WITHIN, running.ready()).await.is_err() {
            running.stop().await;
            anyhow::bail!("no answer from Redis within {STORE_WITHIN:?}: is the address of --redis right?");
        }
        let url = format!("http://{}", ports.internal);
        let operator = issuer.token(namespace, service_account, "operator", unix_now().as_secs())?;
        Ok(Self {
            running,
            passwords,
            admin: AdminApi::new(http.clone(), &url, &admin_token),
            operator: AdminApi::new(http.clone(), &url, &operator),
            admin_token,
        })
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

/// What the person wants of the auth service, with what is settled here.
fn further(settings: Option<&Path>, own: &Value) -> Result<Value> {
    let Some(path) = settings else { return Ok(own.clone()) };
    let place = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(place)?;
    let mut config: serde_json::Map<String, Value> = serde_norway::from_str(&text).with_context(place)?;
    for (name, value) in own.as_object().into_iter().flatten() {
        ensure!(!config.contains_key(name), "{}: {name} is settled by local mode", place());
        config.insert(name.clone(), value.clone());
    }
    for name in ["store", "signing"] {
        ensure!(!config.contains_key(name), "{}: {name} is settled by local mode (see --redis)", place());
    }
    Ok(Value::Object(config))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_local_mode_settles_cannot_be_set() {
        let own = json!({"issuer": "http://127.0.0.1:8001", "admin": {"token": "x"}});
        let read = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            further(Some(file.path()), &own)
        };
        let config = read("theme: {name: Mine}\n").unwrap();
        assert_eq!((&config["theme"]["name"], &config["admin"]["token"]), (&json!("Mine"), &json!("x")));
        for text in ["issuer: http://localhost", "store: memory", "admin: {}", "- no object", "a: ["] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(further(None, &own).unwrap(), own);
    }
}
