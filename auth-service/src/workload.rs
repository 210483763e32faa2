//! Who calls the internal port: workloads by their projected service-account token, verified offline; administrators by a bearer token.

mod access_review;

pub use access_review::Wish;

use std::sync::Arc;

use cloakroom_protocol::internal_api::WORKLOAD_AUDIENCE;
use jsonwebtoken::{Validation, decode, decode_header};
use quick_cache::sync::Cache;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::config::Config;
use crate::jwks::{ASYMMETRIC, Jwks, JwksError};
use access_review::AccessReview;

/// Audience of service-account tokens for the admin API.
pub const ADMIN_AUDIENCE: &str = "cloakroom-admin";

/// Clocks differ.
const LEEWAY: u64 = 30;
/// A verified token is not verified again for so long: a withdrawn key is noticed within it.
const REMEMBER: u64 = 60;
const REMEMBERED: usize = 10_000;
/// Longer ones are no service-account tokens.
const MAX_TOKEN: usize = 16 << 10;

/// A workload that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The cluster.
    pub issuer: String,
    pub subject: String,
    pub namespace: String,
    pub service_account: String,
    pub pod: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Caller {
    Workload(Arc<Workload>),
    /// A workload that may register policies and revoke, for every namespace; it reads no tokens of theirs.
    Operator(Arc<Workload>),
    Admin(Arc<str>),
}

impl Caller {
    /// For logs and the audit trail.
    pub fn name(&self) -> &str {
        match self {
            Self::Workload(workload) | Self::Operator(workload) => &workload.subject,
            Self::Admin(name) => name,
        }
    }

    /// Whether it may do for a policy of this namespace what its sidecars do.
    pub fn may_act_in(&self, namespace: &str) -> bool {
        match self {
            Self::Workload(workload) | Self::Operator(workload) => workload.namespace == namespace,
            Self::Admin(_) => true,
        }
    }

    pub fn is_privileged(&self) -> bool {
        matches!(self, Self::Operator(_) | Self::Admin(_))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    #[error("no bearer token")]
    Missing,
    #[error("token refused: {0}")]
    Refused(String),
    #[error("{0:?} may not do this")]
    Forbidden(String),
    /// Not the caller's fault: 503, so that nobody takes it for a refusal.
    #[error("the issuer's keys cannot be had: {0}")]
    Unavailable(String),
}

pub struct Authenticator {
    issuers: Vec<(String, Jwks)>,
    operators: Vec<String>,
    admin_token: Option<Zeroizing<String>>,
    admin_subjects: Vec<String>,
    access_review: Option<AccessReview>,
    clock: Clock,
    /// SHA-256 of the token → who, for which audience, and until when.
    known: Cache<[u8; 32], (Arc<Workload>, &'static str, u64)>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
    #[serde(default)]
    pod: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Authenticator {
    pub fn new(config: &Config, admin_token: Option<Zeroizing<String>>, clock: Clock) -> Result<Self, JwksError> {
        let issuers = config
            .workload_issuers
            .iter()
            .map(|issuer| Ok((issuer.issuer.clone(), Jwks::new(&issuer.jwks, clock.clone())?)))
            .collect::<Result<_, JwksError>>()?;
        Ok(Self {
            issuers,
            operators: config.operators.clone(),
            admin_token,
            admin_subjects: config.admin.subjects.clone(),
            access_review: match &config.admin.kubernetes_rbac {
                Some(rbac) => Some(AccessReview::new(rbac, clock.clone())?),
                None => None,
            },
            clock,
            known: Cache::new(REMEMBERED),
        })
    }

    /// For the internal endpoints.
    pub async fn caller(&self, authorization: Option<&[u8]>) -> Result<Caller, AuthenticationError> {
        let token = bearer(authorization)?;
        if self.is_admin_token(token) {
            return Ok(Caller::Admin("admin token".into()));
        }
        let workload = self.verify(token, WORKLOAD_AUDIENCE).await?;
        let operator = self.operators.contains(&workload.subject);
        Ok(if operator { Caller::Operator(workload) } else { Caller::Workload(workload) })
    }

    /// For the admin API: whoever has its token, the subjects that the configuration names, and whom the cluster's roles let do it.
    pub async fn admin(&self, authorization: Option<&[u8]>, wish: &Wish) -> Result<Caller, AuthenticationError> {
        let token = bearer(authorization)?;
        if self.is_admin_token(token) {
            return Ok(Caller::Admin("admin token".into()));
        }
        let workload = self.verify(token, ADMIN_AUDIENCE).await?;
        let allowed = self.admin_subjects.contains(&workload.subject)
            || match &self.access_review {
                Some(review) => review.allows(&workload, wish).await?,
                None => false,
            };
        if allowed {
            Ok(Caller::Admin(workload.subject.as_str().into()))
        } else {
            Err(AuthenticationError::Forbidden(workload.subject.clone()))
        }
    }

    fn is_admin_token(&self, token: &str) -> bool {
        let hash = |text: &str| Sha256::digest(text);
        self.admin_token.as_ref().is_some_and(|admin| hash(admin).ct_eq(&hash(token)).into())
    }

    async fn verify(&self, token: &str, audience: &'static str) -> Result<Arc<Workload>, AuthenticationError> {
        let now = self.clock.seconds();
        let fingerprint: [u8; 32] = Sha256::digest(token).into();
        if let Some((workload, for_audience, until)) = self.known.get(&fingerprint)
            && for_audience == audience
            && now < until
        {
            return Ok(workload);
        }
        let (workload, exp) = self.verify_afresh(token, audience, now).await?;
        let workload = Arc::new(workload);
        self.known.insert(fingerprint, (Arc::clone(&workload), audience, exp.min(now + REMEMBER)));
        Ok(workload)
    }

    async fn verify_afresh(
        &self,
        token: &str,
        audience: &str,
        now: u64,
    ) -> Result<(Workload, u64), AuthenticationError> {
        let refused = |why: &dyn std::fmt::Display| AuthenticationError::Refused(why.to_string());
        if token.len() > MAX_TOKEN {
            return Err(refused(&"too long"));
        }
        let header = decode_header(token).map_err(|error| refused(&error))?;
        if !ASYMMETRIC.contains(&header.alg) {
            return Err(refused(&"algorithm not allowed"));
        }
        let issuer = unverified_issuer(token).ok_or_else(|| refused(&"no issuer"))?;
        let jwks = self.issuers.iter().find(|(name, _)| *name == issuer).map(|(_, jwks)| jwks);
        let jwks = jwks.ok_or_else(|| refused(&"unknown issuer"))?;
        let key = jwks.key(header.kid.as_deref(), header.alg).await.map_err(|error| match error {
            JwksError::UnknownKey => refused(&"unknown key"),
            JwksError::Source(why) => AuthenticationError::Unavailable(why),
        })?;

        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are judged below, by our own clock.
        validation.validate_exp = false;
        let claims = decode::<Claims>(token, &key, &validation).map_err(|error| refused(&error))?.claims;
        if now >= claims.exp.saturating_add(LEEWAY) {
            return Err(refused(&"expired"));
        }
        if now.saturating_add(LEEWAY) < claims.nbf {
            return Err(refused(&"not valid yet"));
        }
        let Kubernetes { namespace, serviceaccount, pod } = claims.kubernetes;
        if claims.sub != format!("system:serviceaccount:{namespace}:{}", serviceaccount.name) {
            return Err(refused(&"subject and kubernetes.io claims disagree"));
        }
        let pod = pod.map(|pod| pod.name);
        let workload = Workload { issuer, subject: claims.sub, namespace, service_account: serviceaccount.name, pod };
        Ok((workload, claims.exp.saturating_add(LEEWAY)))
    }
}

/// RFC 6750 §2.1; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(authorization: Option<&[u8]>) -> Result<&str, AuthenticationError> {
    let value = authorization.ok_or(AuthenticationError::Missing)?;
    let text = std::str::from_utf8(value).map_err(|_| AuthenticationError::Missing)?;
    let (scheme, token) = text.split_once(' ').ok_or(AuthenticationError::Missing)?;
    let token = token.trim_matches(' ');
    let fits = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty();
    if fits { Ok(token) } else { Err(AuthenticationError::Missing) }
}

/// Only to choose the keys; verified with them afterwards.
fn unverified_issuer(token: &str) -> Option<String> {
    use base64::Engine as _;
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let payload = token.split('.').nth(1)?;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice::<Issuer>(&json).ok().map(|claims| claims.iss)
}
