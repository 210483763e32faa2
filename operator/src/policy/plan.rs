//! A parsed policy → what the sidecar and the auth service are told. Pure and infallible.

use cloakroom_protocol::registration::{JwtTerms, PolicyRegistration};
use cloakroom_protocol::sidecar_config::{FORMAT, Jwt, SidecarConfig};

use super::{Policy, Settings};
use crate::names;

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
        token_issuers: policy.token_issuers.iter().cloned().collect(),
        unauthenticated: policy.unauthenticated,
        app_protocol: policy.app_protocol,
        preflight: policy.preflight,
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
    // Over everything else: the revision itself is still empty.
    config.revision = names::digest(&config);
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
        token_issuers: policy.token_issuers.clone(),
    };
    registration.revision = names::digest(&registration);
    registration
}
