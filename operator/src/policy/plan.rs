//! A parsed policy → what the sidecar and the auth service are told. Pure and infallible.

use cloakroom_protocol::registration::{JwtTerms, PolicyRegistration};
use cloakroom_protocol::sidecar_config::{FORMAT, Jwt, SidecarConfig};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Policy, Settings};

/// A policy that can be put into force.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    pub policy: Policy,
    pub config: SidecarConfig,
    pub registration: PolicyRegistration,
}

pub fn plan(policy: Policy, settings: &Settings) -> Compiled {
    let config = sidecar_config(&policy, settings);
    let registration = registration(&policy);
    Compiled { policy, config, registration }
}

fn sidecar_config(policy: &Policy, settings: &Settings) -> SidecarConfig {
    let mut config = SidecarConfig {
        format: FORMAT,
        revision: String::new(),
        policy: policy.reference.clone(),
        auth_service: settings.auth_service.clone(),
        mode: policy.mode,
        origins: policy.origins.clone(),
        trusted_proxies: policy.trusted_proxies.clone(),
        token_sources: policy.token_sources.clone(),
        unauthenticated: policy.unauthenticated,
        writable: policy.writable.iter().cloned().collect(),
        jwt: Jwt {
            header: policy.jwt_header.clone(),
            audience: policy.audience.clone(),
            claim_headers: policy.claim_headers.clone(),
        },
        outage: policy.outage,
        rules: policy.rules.clone(),
        limits: policy.limits,
    };
    config.revision = revision(&config);
    config
}

fn registration(policy: &Policy) -> PolicyRegistration {
    let mut registration = PolicyRegistration {
        policy: policy.reference.clone(),
        revision: String::new(),
        audience: policy.audience.clone(),
        origins: policy.origins.clone(),
        session: policy.session,
        jwt: JwtTerms { lifetime_seconds: policy.jwt_lifetime, claims: policy.claims.clone() },
        writable: policy.writable.clone(),
    };
    registration.revision = revision(&registration);
    registration
}

/// The first 64 bits of SHA-256 over the JSON, in which the revision itself is still empty. Field order is declaration order and maps
/// are sorted, so equal contents have equal revisions.
fn revision(content: &impl Serialize) -> String {
    // Structs of strings, numbers and maps with string keys: nothing in them can fail to serialise.
    let json = serde_json::to_vec(content).unwrap_or_default();
    Sha256::digest(json).iter().take(8).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
