//! What a policy comes to, without a cluster.

use std::path::PathBuf;

use anyhow::{Context, Result};
use cloakroom_operator::policy::{Settings, compile};
use cloakroom_protocol::sidecar_config::AuthService;
use serde_json::{Value, json};

use crate::policy_file;

/// Which policy to look at.
#[derive(clap::Args)]
pub(crate) struct Check {
    /// The policy's YAML file; - is standard input
    #[arg(short, long = "filename", value_name = "FILE")]
    file: PathBuf,
}

impl Check {
    pub(crate) fn run(self) -> Result<()> {
        let policy = policy_file::load(&self.file)?;
        let compiled = compile(&policy, &nowhere()).with_context(|| self.file.display().to_string())?;
        let mut sidecar = serde_json::to_value(&compiled.config)?;
        if let Value::Object(fields) = &mut sidecar {
            // The installation's, and what depends on it.
            for field in ["auth_service", "revision", "format"] {
                fields.remove(field);
            }
        }
        let mut registration = serde_json::to_value(&compiled.registration)?;
        if let Value::Object(fields) = &mut registration {
            fields.remove("revision");
        }
        say!("# {} would be accepted. What its sidecars and the auth service are told:", compiled.config.policy);
        let document = serde_norway::to_string(&json!({ "sidecar": sidecar, "auth_service": registration }))?;
        say!("{}", document.trim_end());
        Ok(())
    }
}

/// A policy means the same wherever the auth service is.
fn nowhere() -> Settings {
    Settings {
        auth_service: AuthService {
            internal_url: String::new(),
            addresses: Vec::new(),
            ca: None,
            issuer: String::new(),
        },
    }
}
