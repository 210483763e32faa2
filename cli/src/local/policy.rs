//! The policy in force: from a file or the built-in one, through the operator's parser and compiler.

use std::path::Path;

use anyhow::{Context, Result};
use cloakroom_crds::AuthPolicy;
use cloakroom_operator::policy::{Compiled, Settings, compile, read};
use cloakroom_protocol::sidecar_config::AuthService;

use super::ports::Ports;
use crate::policy_file;

const BUILT_IN: &str = include_str!("../../../examples/local.yaml");

/// The policy of a file, or the built-in one, as it is compiled for this process.
pub(crate) fn load(file: Option<&Path>, ports: &Ports) -> Result<Compiled> {
    let Some(file) = file else {
        let mut policy = read::read(BUILT_IN)?;
        policy.spec.origins = here(&policy, ports).to_vec();
        return Ok(compile(&policy, &settings(ports))?);
    };
    let mut policy = policy_file::load(file)?;
    let judged = compile(&policy, &settings(ports)).with_context(|| file.display().to_string())?;
    if used_by_people_elsewhere(&policy, ports) {
        let here = here(&policy, ports);
        policy.spec.origins.retain(|origin| !here.contains(origin));
        policy.spec.origins.extend(here);
        return compile(&policy, &settings(ports)).with_context(|| file.display().to_string());
    }
    Ok(judged)
}

/// Every scope that a rule asks for: those that the demo user, client and key have.
pub(crate) fn scopes(compiled: &Compiled) -> Vec<String> {
    let mut scopes: Vec<_> = compiled.config.rules.iter().flat_map(|rule| rule.require.scopes.clone()).collect();
    scopes.sort();
    scopes.dedup();
    scopes
}

/// A policy with origins is for people, and here they come to this machine.
fn used_by_people_elsewhere(policy: &AuthPolicy, ports: &Ports) -> bool {
    let origins = &policy.spec.origins;
    !origins.is_empty() && here(policy, ports).iter().any(|origin| !origins.contains(origin))
}

fn here(policy: &AuthPolicy, ports: &Ports) -> [String; 2] {
    let scheme = if policy.spec.tls.is_some() { "https" } else { "http" };
    let port = ports.app.port();
    ["127.0.0.1", "localhost"].map(|host| format!("{scheme}://{host}:{port}"))
}

fn settings(ports: &Ports) -> Settings {
    Settings {
        auth_service: AuthService {
            internal_url: format!("http://{}", ports.internal),
            addresses: Vec::new(),
            ca: None,
            issuer: ports.issuer(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Ports {
        Ports::numbered(1234)
    }

    fn load_text(spec: &str) -> Result<Compiled> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("policy.yaml");
        let head = "apiVersion: cloakroom.dev/v1alpha1\nkind: AuthPolicy\nmetadata: {name: a, namespace: b}\n";
        std::fs::write(&file, format!("{head}spec: {{selector: {{matchLabels: {{a: b}}}}, {spec}}}\n"))?;
        load(Some(&file), &ports())
    }

    #[test]
    fn the_built_in_policy_is_for_the_port_that_is_really_used() {
        let compiled = load(None, &ports()).unwrap();
        assert_eq!(compiled.config.origins, ["http://127.0.0.1:1234", "http://localhost:1234"]);
        assert_eq!(scopes(&compiled), ["orders"]);
    }

    #[test]
    fn a_policy_for_people_is_for_this_machine_too_and_one_for_programs_stays_so() {
        let web = load_text("origins: ['https://shop.example.com']").unwrap();
        assert_eq!(web.config.origins, ["https://shop.example.com", "http://127.0.0.1:1234", "http://localhost:1234"]);
        assert_eq!(web.config.origins, web.registration.origins);
        assert!(load_text("unauthenticated: Deny").unwrap().config.origins.is_empty());
        let own = load_text("origins: ['http://localhost:1234', 'http://127.0.0.1:1234']").unwrap();
        assert_eq!(own.config.origins.len(), 2);
    }

    #[test]
    fn under_tls_people_come_by_https() {
        let web = load_text("origins: ['https://shop.example.com'], tls: {secretName: shop-tls}").unwrap();
        assert_eq!(web.config.origins[1..], ["https://127.0.0.1:1234", "https://localhost:1234"]);
    }

    #[test]
    fn a_policy_that_would_be_refused_is_refused_as_it_stands() {
        let refused = load_text("unauthenticated: Redirect").unwrap_err();
        assert!(format!("{refused:#}").contains("origins"), "{refused:#}");
    }
}
