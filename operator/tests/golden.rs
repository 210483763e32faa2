//! Policy in → what the sidecar and the auth service are told, and what the API server is given to inject. `UPDATE_GOLDEN=1` rewrites
//! the expected files.

#![expect(clippy::unwrap_used, reason = "a test whose input cannot be read fails")]

use std::fs;
use std::path::{Path, PathBuf};

use cloakroom_operator::injection::{self, Sidecar};
use cloakroom_operator::policy::{self, Compiled, Settings};
use cloakroom_protocol::sidecar_config::AuthService;
use serde::Serialize;

#[test]
fn every_policy_compiles_to_its_golden_files() {
    let policies = policies();
    assert!(policies.len() >= 5, "the golden policies are gone");
    for input in policies {
        let compiled = compile(&input);
        check(&input, "sidecar.json", &json(&compiled.config));
        check(&input, "registration.json", &json(&compiled.registration));
        check(&input, "injection.yaml", &injection(&compiled));
    }
}

fn policies() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/policies");
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.retain(|file| !file.file_stem().unwrap().to_str().unwrap().contains('.'));
    files.sort();
    files
}

fn compile(input: &Path) -> Compiled {
    let policy = policy::read::read(&fs::read_to_string(input).unwrap()).unwrap();
    let settings = Settings {
        auth_service: AuthService {
            internal_url: "https://cloakroom-auth.cloakroom-system.svc:9443".into(),
            addresses: vec!["10.96.7.7:9443".parse().unwrap()],
            ca: Some("-----BEGIN CERTIFICATE-----\n".into()),
            issuer: "https://auth.example.com".into(),
        },
    };
    policy::compile(&policy, &settings).unwrap()
}

fn injection(compiled: &Compiled) -> String {
    let sidecar = Sidecar {
        image: "registry.example.com/cloakroom-sidecar:1".into(),
        pull_policy: "IfNotPresent".into(),
        resources: serde_json::from_str(
            r#"{"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}}"#,
        )
        .unwrap(),
        issuer: "https://auth.example.com".into(),
        operator: "system:serviceaccount:cloakroom-system:cloakroom-operator".into(),
    };
    let older = serde_norway::from_str(
        "{matchLabels: {app: older}, matchExpressions: [{key: a, operator: NotIn, values: [b]}]}",
    );
    let injection = injection::plan(&compiled.policy, &[older.unwrap()], &sidecar);
    let documents = [
        serde_norway::to_string(&injection.mutating).unwrap(),
        serde_norway::to_string(&injection.mutating_binding).unwrap(),
        serde_norway::to_string(&injection.validating).unwrap(),
        serde_norway::to_string(&injection.validating_binding).unwrap(),
    ];
    documents.join("---\n")
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

fn check(input: &Path, extension: &str, actual: &str) {
    let golden = input.with_extension(extension);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, actual).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert!(expected == actual, "{} differs; UPDATE_GOLDEN=1 rewrites it. Now:\n{actual}", golden.display());
}
