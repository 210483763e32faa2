//! Flags and environment. The chart sets the environment; nobody types these.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::injection::Resources;

/// Reconciles `AuthPolicies`: configuration, injection, registration, rollout, proof, status.
#[derive(Parser, Clone, Debug)]
#[command(name = "cloakroom-operator", version)]
pub struct Args {
    /// Our own pod.
    #[arg(long, env = "POD_NAME", default_value = "cloakroom-operator")]
    pub pod_name: String,

    /// Our own namespace: the auth service's, the leader's lease, the internal CA. No policies are accepted in it.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,

    /// Our own service account.
    #[arg(long, env = "POD_SERVICE_ACCOUNT", default_value = "cloakroom-operator")]
    pub service_account: String,

    /// Public URL of the auth service, `iss` of every JWT.
    #[arg(long, env = "CLOAKROOM_ISSUER")]
    pub issuer: String,

    /// Service of the auth service's internal port, in our namespace; its certificate names `<service>.<namespace>.svc`.
    #[arg(long, env = "CLOAKROOM_INTERNAL_SERVICE")]
    pub internal_service: String,

    /// Secret with the auth service's internal certificate (`tls.crt`, `tls.key`, `ca.crt`).
    #[arg(long, env = "CLOAKROOM_INTERNAL_TLS_SECRET")]
    pub internal_tls_secret: String,

    /// Secret with the internal CA, made where it is missing.
    #[arg(long, env = "CLOAKROOM_INTERNAL_CA_SECRET", default_value = "cloakroom-internal-ca")]
    pub internal_ca_secret: String,

    /// Who issues the internal certificate: `operator`, or `external` (cert-manager; the CA is `ca.crt` of the Secret).
    #[arg(long, env = "CLOAKROOM_INTERNAL_CERTIFICATES", default_value = "operator")]
    pub internal_certificates: Certificates,

    /// Projected service-account token with which we authenticate to the auth service.
    #[arg(long, env = "CLOAKROOM_TOKEN_FILE", default_value = "/var/run/secrets/cloakroom/token")]
    pub token_file: PathBuf,

    /// Image of the sidecars.
    #[arg(long, env = "CLOAKROOM_SIDECAR_IMAGE")]
    pub sidecar_image: String,

    /// `IfNotPresent`, `Always` or `Never`.
    #[arg(long, env = "CLOAKROOM_SIDECAR_PULL_POLICY", default_value = "IfNotPresent")]
    pub sidecar_pull_policy: String,

    /// Resources of the sidecars, as JSON.
    #[arg(
        long,
        env = "CLOAKROOM_SIDECAR_RESOURCES",
        default_value = r#"{"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}}"#,
        value_parser = resources
    )]
    pub sidecar_resources: Resources,

    /// The lease that the leader holds.
    #[arg(long, env = "CLOAKROOM_LEASE", default_value = "cloakroom-operator")]
    pub lease: String,

    /// Health and metrics.
    #[arg(long, env = "CLOAKROOM_LISTEN", default_value = "[::]:9090")]
    pub listen: SocketAddr,

    /// What to log: `info`, `debug`, or per module.
    #[arg(long, env = "CLOAKROOM_LOG", default_value = "info")]
    pub log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Certificates {
    Operator,
    External,
}

impl Args {
    /// The name that the internal certificate bears.
    pub fn internal_host(&self) -> String {
        format!("{}.{}.svc", self.internal_service, self.namespace)
    }
}

fn resources(json: &str) -> Result<Resources, String> {
    let resources: Resources = serde_json::from_str(json).map_err(|error| error.to_string())?;
    for name in ["cpu", "memory"] {
        if !resources.requests.contains_key(name) {
            return Err(format!("requests need {name}: without it, autoscalers that look at utilisation stop working"));
        }
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_always_have_requests() {
        assert!(resources(r#"{"requests": {"cpu": "1m", "memory": "1Mi"}}"#).is_ok());
        assert!(resources(r#"{"requests": {"cpu": "1m"}}"#).unwrap_err().contains("memory"));
        assert!(resources(r#"{"limits": {}}"#).is_err());
    }
}
