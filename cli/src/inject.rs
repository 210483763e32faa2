//! The admission policies by which the API server injects the sidecar, as the operator would apply them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cloakroom_operator::injection::{self, Resources, Sidecar};
use cloakroom_operator::policy::parse;
use serde::Serialize;

use crate::policy_file;

/// Which policy, and which sidecar it injects.
#[derive(clap::Args)]
pub(crate) struct Inject {
    /// The policy's YAML file; - is standard input
    #[arg(short, long = "filename", value_name = "FILE")]
    file: PathBuf,
    /// Image of the sidecar
    #[arg(long, default_value = concat!("cloakroom-sidecar:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// Public URL of the auth service
    #[arg(long, default_value = "https://auth.example.com")]
    issuer: String,
}

impl Inject {
    pub(crate) fn run(self) -> Result<()> {
        let policy = policy_file::load(&self.file)?;
        let policy = parse::parse(&policy).with_context(|| self.file.display().to_string())?;
        let quantity = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let sidecar = Sidecar {
            image: self.image,
            pull_policy: "IfNotPresent".to_owned(),
            resources: Resources {
                requests: BTreeMap::from([quantity("cpu", "10m"), quantity("memory", "16Mi")]),
                limits: BTreeMap::new(),
            },
            issuer: self.issuer,
            operator: "system:serviceaccount:cloakroom-system:cloakroom-operator".to_owned(),
        };
        let injection = injection::plan(&policy, &[], &sidecar);
        print_document(&injection.mutating)?;
        print_document(&injection.mutating_binding)?;
        print_document(&injection.validating)?;
        print_document(&injection.validating_binding)
    }
}

fn print_document(object: &impl Serialize) -> Result<()> {
    say!("---\n{}", serde_norway::to_string(object)?.trim_end());
    Ok(())
}
