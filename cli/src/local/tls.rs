//! The certificate of the protected port. In a cluster it is in the Secret that the policy names; here it is in two files.

use std::path::PathBuf;

use anyhow::{Result, bail};
use cloakroom_operator::policy::Compiled;
use cloakroom_sidecar::tls::files::{Follower, TlsFiles};

#[derive(clap::Args)]
pub(crate) struct TlsArguments {
    /// Certificate in PEM for a policy with `tls`, instead of the policy's Secret; followed while this runs
    #[arg(long, env = "CLOAKROOM_TLS_CERTIFICATE", requires = "tls_key", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its key, in PEM without a password
    #[arg(long, env = "CLOAKROOM_TLS_KEY", requires = "tls_certificate", value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

impl TlsArguments {
    /// What the policy asks for, read once, so that a file which is none is noticed before anything is started.
    pub(crate) fn settle(&self, compiled: &Compiled) -> Result<Option<TlsFiles>> {
        let files = self.tls_certificate.clone().zip(self.tls_key.clone());
        match (&compiled.policy.tls, files) {
            (None, None) => Ok(None),
            (None, Some(_)) => bail!("there is a certificate, but the policy has no `tls` that asks for it"),
            (Some(secret), None) => bail!(
                "the policy has `tls`, and its Secret {secret} is a cluster's: name a certificate and its key with --tls-certificate and --tls-key"
            ),
            (Some(_), Some((certificate, key))) => {
                let files = TlsFiles { certificate, key };
                match Follower::new(files.clone()).look() {
                    Some(Err(error)) => bail!("--tls-certificate and --tls-key: {error}"),
                    _ => Ok(Some(files)),
                }
            }
        }
    }
}
