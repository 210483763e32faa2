//! Access tokens of other issuers: verified by their keys, asked about at their introspection, and made an identity of ours.
//!
//! A JWT says whose it is (`iss`) and is judged by that issuer alone; an opaque token is shown to the one issuer that it can be from. Only
//! issuers that the policy names count, and of these only those whose own configuration lets the policy. What is refused is inactive; whoever
//! cannot be asked is an outage, and nothing is remembered of it.

mod allowance;
mod facts;
mod introspection;
mod jws;
mod object;

use std::time::Duration;

use cloakroom_protocol::policy_ref::PolicyRef;
use cloakroom_protocol::presented::ForeignToken;
use cloakroom_protocol::registration::PolicyRegistration;

use crate::clock::Clock;
use crate::config::TokenIssuer;
use crate::identity::Identity;
use crate::jwks::{Jwks, JwksError};
use crate::metrics::{IssuerOutcome, Metrics};
use facts::{Origin, Refused};
use introspection::Introspection;
use jws::Jws;

/// Less than a sidecar waits for us: one that hears nothing must take us to be down.
const WITHIN: Duration = Duration::from_millis(1500);
/// Issuers that one policy may name.
const MAX_ISSUERS: usize = 8;

pub struct Issuers {
    all: Vec<Issuer>,
    clock: Clock,
}

struct Issuer {
    config: TokenIssuer,
    keys: Option<Jwks>,
    introspection: Option<Introspection>,
}

/// What an issuer says of a token of its own.
pub struct Word {
    pub identity: Identity,
    /// For how long that may be believed. Absent: until it ends, since nobody was asked who could change their mind.
    pub believe_ms: Option<u64>,
}

/// Nobody can say: neither active nor inactive.
#[derive(Debug, thiserror::Error)]
#[error("token issuer {issuer:?}: {why}")]
pub struct Unavailable {
    issuer: String,
    why: String,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{0}")]
    Unavailable(String),
}

impl Issuers {
    pub fn new(configs: &[TokenIssuer], clock: &Clock) -> Result<Self, JwksError> {
        let all = configs.iter().map(|config| Issuer::new(config, clock)).collect::<Result<_, _>>()?;
        Ok(Self { all, clock: clock.clone() })
    }

    /// Whether a policy may be registered with the issuers that it names; else a sentence for whoever wrote it.
    pub fn judge(&self, policy: &PolicyRegistration) -> Result<(), String> {
        if policy.token_issuers.len() > MAX_ISSUERS {
            return Err(format!("token.issuers: {MAX_ISSUERS} at most"));
        }
        let mut prefixes: Vec<(&str, &str)> = Vec::new();
        for id in &policy.token_issuers {
            let Some(issuer) = self.all.iter().find(|issuer| issuer.config.id == *id) else {
                return Err(format!(
                    "token.issuers: the auth service knows no issuer {id:?} (token_issuers of its configuration)"
                ));
            };
            if !issuer.lets(&policy.policy) {
                return Err(format!(
                    "token.issuers: the auth service does not let policy {} take tokens of {id:?}",
                    policy.policy
                ));
            }
            if let Some(endpoint) = &issuer.config.introspection {
                let prefix = endpoint.token_prefix.as_str();
                let same = |other: &str| prefix.starts_with(other) || other.starts_with(prefix);
                if let Some((other, _)) = prefixes.iter().find(|(_, other)| same(other)) {
                    return Err(format!(
                        "token.issuers: opaque tokens of {other:?} and {id:?} cannot be told apart: their token_prefix must differ"
                    ));
                }
                prefixes.push((id, prefix));
            }
        }
        Ok(())
    }

    /// `None`: not active here, whatever the reason.
    pub async fn identify(
        &self,
        token: &ForeignToken,
        policy: &PolicyRegistration,
        metrics: &Metrics,
    ) -> Result<Option<Word>, Unavailable> {
        let among = |issuer: &&Issuer| policy.token_issuers.contains(&issuer.config.id) && issuer.lets(&policy.policy);
        let named: Vec<&Issuer> = self.all.iter().filter(among).collect();
        let (issuer, jws) = match jws::parse(token.expose()) {
            Some(Ok(jws)) => {
                let by_name = named.iter().find(|issuer| jws.claims.text("iss") == Some(&issuer.config.issuer));
                let Some(issuer) = by_name else { return Ok(None) };
                (*issuer, Some(jws))
            }
            Some(Err(refused)) => {
                tracing::debug!(token = %token.id(), %refused, "a token of another issuer's was refused");
                return Ok(None);
            }
            None => {
                let mut possible = named.iter().filter(|issuer| issuer.may_have_made(token.expose()));
                let (Some(issuer), None) = (possible.next(), possible.next()) else { return Ok(None) };
                (*issuer, None)
            }
        };
        let word = tokio::time::timeout(WITHIN, issuer.word(token, jws.as_ref(), policy, &self.clock)).await;
        let word = word.unwrap_or_else(|_| Err(Failure::Unavailable("no answer in time".to_owned())));
        let count = |outcome| {
            let labels = IssuerOutcome { issuer: issuer.config.id.clone(), outcome };
            metrics.foreign_tokens.get_or_create(&labels).inc();
        };
        match word {
            Ok(word) => {
                count("active");
                Ok(Some(word))
            }
            Err(Failure::Refused(refused)) => {
                count("inactive");
                tracing::debug!(token = %token.id(), issuer = issuer.config.id, %refused, "a token of another issuer's was refused");
                Ok(None)
            }
            Err(Failure::Unavailable(why)) => {
                count("unavailable");
                Err(Unavailable { issuer: issuer.config.id.clone(), why })
            }
        }
    }
}

impl Issuer {
    fn new(config: &TokenIssuer, clock: &Clock) -> Result<Self, JwksError> {
        let keys = match &config.jwks {
            None => None,
            Some(keys) => Some(match &keys.url {
                Some(url) => {
                    let (url, ca_file) = (url.clone(), keys.ca_file.clone());
                    Jwks::new(&crate::config::JwksSource::Url { url, ca_file, bearer_file: None }, clock.clone())?
                }
                None => Jwks::discovered(&config.issuer, keys.ca_file.clone(), clock.clone()),
            }),
        };
        let introspection = config.introspection.as_ref();
        let introspection = introspection.map(|endpoint| Introspection::new(endpoint, config.cache_seconds, clock));
        Ok(Self { config: config.clone(), keys, introspection: introspection.transpose()? })
    }

    fn lets(&self, policy: &PolicyRef) -> bool {
        let fits = |pattern: &str, text: &str| pattern == "*" || pattern == text;
        self.config.policies.iter().any(|pattern| {
            let (namespace, name) = pattern.split_once('/').unwrap_or_default();
            fits(namespace, policy.namespace()) && fits(name, policy.name())
        })
    }

    /// Of an opaque token.
    fn may_have_made(&self, token: &str) -> bool {
        self.config.introspection.as_ref().is_some_and(|endpoint| token.starts_with(&endpoint.token_prefix))
    }

    fn asks_about_jwts(&self) -> bool {
        self.config.introspection.as_ref().is_some_and(|endpoint| endpoint.jwts)
    }

    /// What a signature can refuse is refused before anybody is asked.
    async fn word(
        &self,
        token: &ForeignToken,
        jws: Option<&Jws<'_>>,
        policy: &PolicyRegistration,
        clock: &Clock,
    ) -> Result<Word, Failure> {
        let read =
            |claims, origin| facts::read(&self.config, claims, origin, token.id(), &policy.audience, clock.seconds());
        let mut verified = None;
        if let Some(jws) = jws {
            match &self.keys {
                Some(keys) => {
                    let typed = jws.verify(keys, &self.config).await?;
                    verified = Some(read(&jws.claims, Origin::Jwt { typed })?);
                }
                // Its issuer would say the same, and need not be troubled.
                None => facts::is_alive(&jws.claims, clock.seconds())?,
            }
        }
        let Some(introspection) = self.introspection.as_ref().filter(|_| jws.is_none() || self.asks_about_jwts())
        else {
            let identity = verified.ok_or(Refused::NotAsked)?;
            return Ok(Word { identity, believe_ms: None });
        };
        let said = introspection.ask(token, &policy.policy, clock).await.map_err(Failure::Unavailable)?;
        let claims = said.claims.as_deref().ok_or(Refused::Inactive)?;
        let asked = read(claims, Origin::Introspection)?;
        // Both are about the same token; what is signed says who.
        Ok(Word { identity: verified.unwrap_or(asked), believe_ms: Some(said.believe_ms) })
    }
}

impl From<JwksError> for Failure {
    fn from(error: JwksError) -> Self {
        match error {
            JwksError::UnknownKey => Self::Refused(Refused::Key),
            JwksError::Source(why) => Self::Unavailable(why),
        }
    }
}
