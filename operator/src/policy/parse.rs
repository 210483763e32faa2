//! An AuthPolicy → a policy whose every value is known to mean something, or the sentence that says why not. Whatever can fail fails
//! here; also what the CRD's rules refuse, since the API server that let an object in may have had an older definition.

mod identity;
mod selector;
pub(crate) mod value;

use std::collections::{BTreeMap, BTreeSet};

use cloakroom_crds as crd;
use cloakroom_crds::auth_policy::AuthPolicySpec;
use cloakroom_protocol::injected;
use cloakroom_protocol::path_pattern::PathPattern;
use cloakroom_protocol::policy_ref::PolicyRef;
use cloakroom_protocol::registration::SessionTerms;
use cloakroom_protocol::sidecar_config::{
    Access, AppProtocol, Limits, Match, Mode, Outage, Preflight, Require, Rule, TokenSource, Unauthenticated,
};
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Most ports that one pod's sidecar can protect: its listening ports end where its admin port is.
pub const MAX_PORTS: usize = (injected::ADMIN_PORT - injected::FIRST_LISTEN_PORT) as usize;

/// A policy in which every value is valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub reference: PolicyRef,
    pub selector: LabelSelector,
    /// Empty: every declared TCP port.
    pub ports: Vec<Port>,
    pub interception: crd::Interception,
    pub app_environment: BTreeMap<String, String>,
    pub rollout: crd::Rollout,
    pub mode: Mode,
    pub origins: Vec<String>,
    pub trusted_proxies: Vec<IpNet>,
    pub token_sources: Vec<TokenSource>,
    /// The Secret with the certificate of the protected ports; absent: they speak plain HTTP.
    pub tls: Option<String>,
    pub token_issuers: BTreeSet<String>,
    pub unauthenticated: Unauthenticated,
    pub app_protocol: AppProtocol,
    pub preflight: Preflight,
    pub session: SessionTerms,
    pub writable: BTreeSet<String>,
    pub jwt_header: String,
    pub audience: String,
    /// Seconds.
    pub jwt_lifetime: u64,
    pub claims: Vec<String>,
    pub claim_headers: BTreeMap<String, String>,
    pub outage: Outage,
    pub rules: Vec<Rule>,
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    Name(String),
    Number(u16),
}

/// Which field is wrong, and a sentence that says how to put it right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {sentence}")]
pub struct Rejected {
    pub field: String,
    pub sentence: String,
}

impl Rejected {
    pub(crate) fn new(field: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { field: field.into(), sentence: sentence.into() }
    }
}

pub fn parse(policy: &crd::AuthPolicy) -> Result<Policy, Rejected> {
    let reference = reference(policy)?;
    let spec = &policy.spec;
    let parsed = Policy {
        selector: selector::parse(&spec.selector)?,
        ports: ports(&spec.ports)?,
        interception: spec.interception,
        app_environment: app_environment(spec)?,
        rollout: spec.rollout,
        mode: match spec.mode {
            crd::Mode::Enforce => Mode::Enforce,
            crd::Mode::Shadow => Mode::Shadow,
        },
        origins: origins(&spec.origins)?,
        trusted_proxies: trusted_proxies(&spec.trusted_proxies)?,
        token_sources: identity::token_sources(&spec.token.sources)?,
        tls: spec.tls.as_ref().map(tls).transpose()?,
        token_issuers: identity::token_issuers(&spec.token)?,
        unauthenticated: unauthenticated(spec.unauthenticated),
        app_protocol: match spec.app_protocol {
            crd::AppProtocol::Http => AppProtocol::Http,
            crd::AppProtocol::H2c => AppProtocol::H2c,
        },
        preflight: match spec.preflight {
            crd::Preflight::AsRules => Preflight::AsRules,
            crd::Preflight::Pass => Preflight::Pass,
        },
        session: session(&spec.session)?,
        writable: names("spec.session.writable", &spec.session.writable)?.into_iter().collect(),
        jwt_header: identity::jwt_header(&spec.jwt.header)?,
        audience: audience(spec, &reference)?,
        jwt_lifetime: value::seconds("spec.jwt.lifetime", &spec.jwt.lifetime, 10, JWT_AT_MOST)?,
        claims: names("spec.jwt.claims", &spec.jwt.claims)?,
        claim_headers: identity::claim_headers(&spec.jwt, &spec.token.sources)?,
        outage: outage("spec.outage", &spec.outage)?,
        rules: spec
            .rules
            .iter()
            .enumerate()
            .map(|(i, r)| rule(&format!("spec.rules[{i}]"), r))
            .collect::<Result<_, _>>()?,
        limits: limits(&spec.limits)?,
        reference,
    };
    redirects_lead_somewhere(&parsed)?;
    outages_are_bridged_with_jwts(&parsed)?;
    Ok(parsed)
}

fn reference(policy: &crd::AuthPolicy) -> Result<PolicyRef, Rejected> {
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
    if name.len() > 63 {
        let sentence = "the name is part of the OAuth client's id and of labels: use at most 63 characters";
        return Err(Rejected::new("metadata.name", sentence));
    }
    PolicyRef::new(namespace, name).map_err(|why| Rejected::new("metadata", why.to_string()))
}

fn ports(ports: &[IntOrString]) -> Result<Vec<Port>, Rejected> {
    if ports.len() > MAX_PORTS {
        return Err(Rejected::new("spec.ports", format!("at most {MAX_PORTS} ports can be protected")));
    }
    let mut parsed = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        let port = match port {
            IntOrString::Int(number) => Port::Number(port_number(&field, *number)?),
            IntOrString::String(name) if is_port_name(name) => Port::Name(name.clone()),
            IntOrString::String(_) => {
                let sentence =
                    "a port name has at most 15 lower-case letters, digits and dashes, at least one of them a letter";
                return Err(Rejected::new(field, sentence));
            }
        };
        if parsed.contains(&port) {
            return Err(Rejected::new(field, "this port is there twice"));
        }
        parsed.push(port);
    }
    Ok(parsed)
}

fn port_number(field: &str, number: i32) -> Result<u16, Rejected> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| Rejected::new(field, "a port number is between 1 and 65535"))?;
    if (injected::FIRST_LISTEN_PORT..=injected::ADMIN_PORT).contains(&port) {
        return Err(Rejected::new(field, "ports 15006 to 15020 are the sidecar's own"));
    }
    Ok(port)
}

/// RFC 6335 §5.1, as Kubernetes asks of container ports.
fn is_port_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.bytes().any(|b| b.is_ascii_lowercase())
}

fn app_environment(spec: &AuthPolicySpec) -> Result<BTreeMap<String, String>, Rejected> {
    let field = "spec.appEnvironment";
    if !spec.app_environment.is_empty() && spec.interception != crd::Interception::Loopback {
        let sentence = "it is there to make an app listen on 127.0.0.1: it needs `interception: Loopback`";
        return Err(Rejected::new(field, sentence));
    }
    for (name, text) in &spec.app_environment {
        let valid = name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty();
        if !valid {
            return Err(Rejected::new(field, format!("{name:?} cannot be the name of a variable")));
        }
        if name.starts_with("CLOAKROOM_") {
            return Err(Rejected::new(field, "variables that start with CLOAKROOM_ are set by the injection"));
        }
        if text.len() > 256 || text.contains('\0') {
            return Err(Rejected::new(field, format!("the value of {name} is longer than 256 bytes or has a NUL")));
        }
    }
    Ok(spec.app_environment.clone())
}

fn origins(origins: &[String]) -> Result<Vec<String>, Rejected> {
    for (index, origin) in origins.iter().enumerate() {
        value::origin(&format!("spec.origins[{index}]"), origin)?;
    }
    Ok(origins.to_vec())
}

fn trusted_proxies(networks: &[String]) -> Result<Vec<IpNet>, Rejected> {
    let network = |(index, text): (usize, &String)| {
        let field = format!("spec.trustedProxies[{index}]");
        let network: IpNet =
            text.parse().map_err(|_| Rejected::new(&field, format!("{text:?} is not a network such as 10.0.0.0/8")))?;
        if network.trunc() != network {
            return Err(Rejected::new(
                field,
                format!("{text} has bits beyond its prefix: did you mean {}?", network.trunc()),
            ));
        }
        Ok(network)
    };
    networks.iter().enumerate().map(network).collect()
}

fn tls(tls: &crd::Tls) -> Result<String, Rejected> {
    // A DNS subdomain, as Kubernetes asks of names (RFC 1123 §2.1).
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = &tls.secret_name;
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(Rejected::new("spec.tls.secretName", format!("{name:?} cannot be the name of a Secret")));
    }
    if name.starts_with("cloakroom.") {
        let sentence = "Secrets whose names begin with cloakroom. are the operator's own";
        return Err(Rejected::new("spec.tls.secretName", sentence));
    }
    Ok(name.clone())
}

fn unauthenticated(unauthenticated: crd::Unauthenticated) -> Unauthenticated {
    match unauthenticated {
        crd::Unauthenticated::Auto => Unauthenticated::Auto,
        crd::Unauthenticated::Redirect => Unauthenticated::Redirect,
        crd::Unauthenticated::Deny => Unauthenticated::Deny,
    }
}

fn session(session: &crd::Session) -> Result<SessionTerms, Rejected> {
    let year = 8760 * 60 * 60;
    let idle_seconds = value::seconds("spec.session.idle", &session.idle, 60, year)?;
    let absolute_seconds = value::seconds("spec.session.absolute", &session.absolute, 60, year)?;
    if idle_seconds > absolute_seconds {
        return Err(Rejected::new(
            "spec.session.idle",
            "it must not be longer than absolute: the session would end before",
        ));
    }
    Ok(SessionTerms { idle_seconds, absolute_seconds })
}

/// Claims and session keys: they become names in JSON.
fn names(field: &str, names: &[String]) -> Result<Vec<String>, Rejected> {
    let valid = |name: &String| (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    match names.iter().find(|name| !valid(name)) {
        Some(name) => Err(Rejected::new(field, format!("{name:?}: a name has 1 to 64 visible ASCII characters"))),
        None => Ok(names.to_vec()),
    }
}

fn audience(spec: &AuthPolicySpec, reference: &PolicyRef) -> Result<String, Rejected> {
    let Some(audience) = &spec.jwt.audience else { return Ok(reference.to_string()) };
    if !(1..=256).contains(&audience.len()) || !audience.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Rejected::new("spec.jwt.audience", "an audience has 1 to 256 visible ASCII characters"));
    }
    Ok(audience.clone())
}

/// Seconds.
const JWT_AT_MOST: u64 = 15 * 60;

fn outage(field: &str, outage: &crd::Outage) -> Result<Outage, Rejected> {
    match (outage.mode, &outage.lease_for) {
        (crd::OutageMode::Deny, None) => Ok(Outage::Deny),
        (crd::OutageMode::Lease, Some(time)) => {
            Ok(Outage::Lease { seconds: value::seconds(&format!("{field}.for"), time, 1, JWT_AT_MOST)? })
        }
        _ => Err(Rejected::new(field, "`for` belongs to mode Lease, and Lease needs it")),
    }
}

fn rule(field: &str, rule: &crd::AccessRule) -> Result<Rule, Rejected> {
    let access = match rule.access {
        crd::Access::Anonymous => Access::Anonymous,
        crd::Access::Optional => Access::Optional,
        crd::Access::Authenticated => Access::Authenticated,
        crd::Access::Deny => Access::Deny,
    };
    let authenticates = access == Access::Authenticated;
    if rule.matches.is_empty() {
        return Err(Rejected::new(format!("{field}.match"), "a rule without a match is never used"));
    }
    if rule.require.is_some() && !authenticates {
        return Err(Rejected::new(field, "require needs access: Authenticated"));
    }
    if rule.unauthenticated.is_some() && !authenticates {
        return Err(Rejected::new(field, "unauthenticated needs access: Authenticated"));
    }
    if rule.outage.is_some() && !authenticates && access != Access::Optional {
        return Err(Rejected::new(field, "outage needs access: Authenticated or Optional"));
    }
    let matches = rule.matches.iter().enumerate().map(|(i, m)| request_match(&format!("{field}.match[{i}]"), m));
    Ok(Rule {
        matches: matches.collect::<Result<_, _>>()?,
        access,
        require: rule
            .require
            .as_ref()
            .map_or_else(|| Ok(Require::default()), |r| require(&format!("{field}.require"), r))?,
        unauthenticated: rule.unauthenticated.map(unauthenticated),
        outage: rule.outage.as_ref().map(|o| outage(&format!("{field}.outage"), o)).transpose()?,
    })
}

fn request_match(field: &str, given: &crd::RuleMatch) -> Result<Match, Rejected> {
    if given.path.is_none() && given.methods.is_empty() {
        return Err(Rejected::new(field, "say which path or methods; /** is every path"));
    }
    let path = given.path.as_ref().map(|path| path.parse::<PathPattern>()).transpose();
    let path = path.map_err(|why| Rejected::new(format!("{field}.path"), why.to_string()))?;
    // RFC 9110 §9.1: methods are case-sensitive, and every registered one is in capitals.
    let valid = |m: &String| (1..=32).contains(&m.len()) && m.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    if let Some(method) = given.methods.iter().find(|method| !valid(method)) {
        return Err(Rejected::new(format!("{field}.methods"), format!("{method:?} is not a method in capitals")));
    }
    Ok(Match { path, methods: given.methods.clone() })
}

fn require(field: &str, require: &crd::Require) -> Result<Require, Rejected> {
    // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
    let is_scope = |s: &String| !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    if let Some(scope) = require.scopes.iter().find(|scope| !is_scope(scope)) {
        return Err(Rejected::new(
            format!("{field}.scopes"),
            format!("{scope:?} is not a scope (RFC 6749 section 3.3)"),
        ));
    }
    if require.roles.iter().any(String::is_empty) {
        return Err(Rejected::new(format!("{field}.roles"), "a role has a name"));
    }
    if let Some(acr) = &require.acr
        && (acr.is_empty() || !acr.bytes().all(|b| b.is_ascii_graphic()))
    {
        return Err(Rejected::new(format!("{field}.acr"), "an acr has visible ASCII characters only"));
    }
    let max_age = require.max_age.as_ref().map(|age| value::seconds(&format!("{field}.maxAge"), age, 1, u64::MAX));
    let parsed = Require {
        scopes: require.scopes.clone(),
        roles: require.roles.clone(),
        acr: require.acr.clone(),
        max_age: max_age.transpose()?,
    };
    if parsed.is_empty() {
        return Err(Rejected::new(field, "an empty require requires nothing: leave it out"));
    }
    Ok(parsed)
}

const DAY: u64 = 24 * 60 * 60;

fn limits(limits: &crd::Limits) -> Result<Limits, Rejected> {
    Ok(Limits {
        request_headers: value::bytes("spec.limits.requestHeaders", &limits.request_headers, 1 << 10, 1 << 20)?,
        request_body: value::bytes("spec.limits.requestBody", &limits.request_body, 1, 1 << 40)?,
        idle_timeout: value::seconds("spec.limits.idleTimeout", &limits.idle_timeout, 1, DAY)?,
        stream_idle_timeout: value::seconds("spec.limits.streamIdleTimeout", &limits.stream_idle_timeout, 1, DAY)?,
    })
}

/// Sign-in returns only to an origin of the policy; without one, a redirect would end in an error page.
fn redirects_lead_somewhere(policy: &Policy) -> Result<(), Rejected> {
    let redirects = policy.unauthenticated == Unauthenticated::Redirect
        || policy.rules.iter().any(|rule| rule.unauthenticated == Some(Unauthenticated::Redirect));
    if redirects && policy.origins.is_empty() {
        let sentence =
            "unauthenticated: Redirect sends people to sign in, so `origins` must say where they come back to";
        return Err(Rejected::new("spec.origins", sentence));
    }
    Ok(())
}

/// No app is given a JWT that has expired. What the policy promises takes the sidecar's lease and what of a JWT is not handed out on top,
/// ten seconds together; the rest keeps it from being renewed with every request.
fn outages_are_bridged_with_jwts(policy: &Policy) -> Result<(), Rejected> {
    const BESIDES: u64 = 25;
    let of_rules =
        policy.rules.iter().enumerate().map(|(at, rule)| (format!("spec.rules[{at}].outage.for"), rule.outage));
    let all = std::iter::once(("spec.outage.for".to_owned(), Some(policy.outage))).chain(of_rules);
    for (field, outage) in all {
        if let Some(Outage::Lease { seconds }) = outage
            && seconds + BESIDES > policy.jwt_lifetime
        {
            let sentence = "an outage is bridged with the JWTs that are there: `for` must be at least 25s shorter than jwt.lifetime";
            return Err(Rejected::new(field, sentence));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
