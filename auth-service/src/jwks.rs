//! An issuer's keys: from a URL, a file or the configuration; had again when a token names one that is not known.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::clock::Clock;
use crate::config::JwksSource;
use crate::fetched::Fetched;
use crate::outgoing;

/// Whoever comes when it is due waits for no longer: less than sidecars wait for us.
const REFRESH_WITHIN: Duration = Duration::from_secs(1);

/// Asymmetric ones only (RFC 8725 §3.1); `none` is not even known to the parser.
pub const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

pub struct Jwks {
    source: Source,
    keys: Fetched<Vec<VerificationKey>>,
}

enum Source {
    Url {
        url: http::Uri,
        ca_file: Option<PathBuf>,
        bearer_file: Option<PathBuf>,
    },
    /// Where the issuer's own metadata says.
    Discovered {
        issuer: String,
        ca_file: Option<PathBuf>,
    },
    File(PathBuf),
    Inline(serde_json::Value),
}

struct VerificationKey {
    kid: Option<String>,
    alg: Option<Algorithm>,
    family: Family,
    key: Arc<DecodingKey>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Rsa,
    Ec,
    Ed,
}

#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    #[error("no such key")]
    UnknownKey,
    #[error("{0}")]
    Source(String),
}

impl Jwks {
    pub fn new(source: &JwksSource, clock: Clock) -> Result<Self, JwksError> {
        let source = match source {
            JwksSource::Inline(value) => {
                parse(value.to_string().as_bytes())?;
                Source::Inline(value.clone())
            }
            JwksSource::File(path) => Source::File(path.clone()),
            JwksSource::Url { url, ca_file, bearer_file } => {
                let url = url.parse().map_err(|error| JwksError::Source(format!("{url}: {error}")))?;
                Source::Url { url, ca_file: ca_file.clone(), bearer_file: bearer_file.clone() }
            }
        };
        Ok(Self { source, keys: Fetched::nothing_yet(clock) })
    }

    /// Of an issuer that publishes metadata (OpenID Connect Discovery 1.0 §4).
    pub fn discovered(issuer: &str, ca_file: Option<PathBuf>, clock: Clock) -> Self {
        Self { source: Source::Discovered { issuer: issuer.to_owned(), ca_file }, keys: Fetched::nothing_yet(clock) }
    }

    pub async fn key(&self, kid: Option<&str>, alg: Algorithm) -> Result<Arc<DecodingKey>, JwksError> {
        if self.find(kid, alg).is_some() {
            self.refresh_if_old().await;
            // A key that the refresh has withdrawn is not used any more.
            return self.find(kid, alg).ok_or(JwksError::UnknownKey);
        }
        let outcome = self.keys.renew(self.fetch()).await;
        match self.find(kid, alg) {
            Some(key) => Ok(key),
            None if self.keys.is_current() => Err(JwksError::UnknownKey),
            // Nothing was ever had, or not lately: the token may well be good.
            None => Err(outcome.err().unwrap_or_else(|| JwksError::Source("not had yet".to_owned()))),
        }
    }

    async fn refresh_if_old(&self) {
        if self.keys.is_old() {
            // Old keys are better than none, and than waiting for who hangs.
            let asked = tokio::time::timeout(REFRESH_WITHIN, self.keys.renew(self.fetch())).await;
            let error = match asked {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(_) => JwksError::Source("no answer in time".to_owned()),
            };
            tracing::warn!(%error, "an issuer's keys cannot be refreshed; the known ones are used on");
        }
    }

    async fn fetch(&self) -> Result<Vec<VerificationKey>, JwksError> {
        match &self.source {
            Source::Inline(value) => parse(value.to_string().as_bytes()),
            Source::File(path) => {
                let json = tokio::fs::read(path)
                    .await
                    .map_err(|error| JwksError::Source(format!("{}: {error}", path.display())))?;
                parse(&json)
            }
            Source::Url { url, ca_file, bearer_file } => {
                parse(&fetch(url, ca_file.as_deref(), bearer_file.as_deref()).await?)
            }
            Source::Discovered { issuer, ca_file } => {
                let url = discover(issuer, ca_file.as_deref()).await?;
                parse(&fetch(&url, ca_file.as_deref(), None).await?)
            }
        }
    }

    fn find(&self, kid: Option<&str>, alg: Algorithm) -> Option<Arc<DecodingKey>> {
        find(&self.keys.known()?, kid, alg)
    }
}

/// A client's keys, which are kept with it.
pub struct KeySet(Vec<VerificationKey>);

impl KeySet {
    /// `None` unless it is a set of public keys that can be told apart, all of a kind that we know.
    pub fn of_client(set: &serde_json::Value) -> Option<Self> {
        let given = set.get("keys")?.as_array()?;
        let secret = |jwk: &serde_json::Value| ["d", "k"].iter().any(|part| jwk.get(part).is_some());
        if given.iter().any(secret) {
            return None;
        }
        let keys = parse(set.to_string().as_bytes()).ok()?;
        let clear = keys.len() == 1 || keys.iter().all(|key| key.kid.is_some());
        (!keys.is_empty() && keys.len() == given.len() && clear).then_some(Self(keys))
    }

    pub fn find(&self, kid: Option<&str>, alg: Algorithm) -> Option<Arc<DecodingKey>> {
        find(&self.0, kid, alg)
    }
}

fn find(keys: &[VerificationKey], kid: Option<&str>, alg: Algorithm) -> Option<Arc<DecodingKey>> {
    let fits = |key: &&VerificationKey| key.family == family_of(alg) && key.alg.is_none_or(|only| only == alg);
    let found = match kid {
        Some(kid) => keys.iter().filter(fits).find(|key| key.kid.as_deref() == Some(kid)),
        // Without a key id only a set of one key is clear.
        None => keys.first().filter(|key| keys.len() == 1 && fits(key)),
    };
    found.map(|key| Arc::clone(&key.key))
}

/// Where an issuer says that its keys are. The metadata must be about that issuer (RFC 8414 §3.3).
async fn discover(issuer: &str, ca_file: Option<&Path>) -> Result<http::Uri, JwksError> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        issuer: String,
        jwks_uri: String,
    }
    let failed = |what: &dyn std::fmt::Display| JwksError::Source(format!("{issuer}: {what}"));
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let url: http::Uri = url.parse().map_err(|error| failed(&error))?;
    let metadata: Metadata =
        serde_json::from_slice(&fetch(&url, ca_file, None).await?).map_err(|error| failed(&error))?;
    if metadata.issuer != issuer {
        return Err(failed(&format_args!("its metadata are those of {:?}", metadata.issuer)));
    }
    if !crate::config::is_confidential(&metadata.jwks_uri) {
        return Err(failed(&"jwks_uri: https, or http on this machine"));
    }
    metadata.jwks_uri.parse().map_err(|error| failed(&error))
}

async fn fetch(url: &http::Uri, ca_file: Option<&Path>, bearer_file: Option<&Path>) -> Result<Bytes, JwksError> {
    let mut request = http::Request::get(url.clone()).header("accept", "application/jwk-set+json, application/json");
    if let Some(path) = bearer_file {
        request = request.header("authorization", outgoing::bearer_of(path).await.map_err(JwksError::Source)?);
    }
    let request = request.body(Full::default()).map_err(|error| JwksError::Source(format!("{url}: {error}")))?;
    let answer = outgoing::send(request, ca_file).await.map_err(JwksError::Source)?;
    // A redirect is no answer: the keys are where the configuration says or nowhere.
    if answer.status() != http::StatusCode::OK {
        return Err(JwksError::Source(format!("{url}: {}", answer.status())));
    }
    Ok(answer.into_body())
}

/// Keys of a kind we do not know are passed over; symmetric ones too (RFC 8725 §2.1).
fn parse(json: &[u8]) -> Result<Vec<VerificationKey>, JwksError> {
    let set: JwkSet =
        serde_json::from_slice(json).map_err(|error| JwksError::Source(format!("not a JWK set: {error}")))?;
    let keys = set.keys.iter().filter_map(|jwk| {
        let family = match jwk.algorithm {
            AlgorithmParameters::RSA(_) => Family::Rsa,
            AlgorithmParameters::EllipticCurve(_) => Family::Ec,
            AlgorithmParameters::OctetKeyPair(_) => Family::Ed,
            _ => return None,
        };
        let alg = jwk.common.key_algorithm.map(algorithm_of);
        if jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
            return None;
        }
        // An algorithm that is named but not one of ours excludes the key.
        if alg == Some(None) {
            return None;
        }
        let key = Arc::new(DecodingKey::from_jwk(jwk).ok()?);
        Some(VerificationKey { kid: jwk.common.key_id.clone(), alg: alg.flatten(), family, key })
    });
    Ok(keys.collect())
}

fn algorithm_of(alg: KeyAlgorithm) -> Option<Algorithm> {
    Some(match alg {
        KeyAlgorithm::RS256 => Algorithm::RS256,
        KeyAlgorithm::RS384 => Algorithm::RS384,
        KeyAlgorithm::RS512 => Algorithm::RS512,
        KeyAlgorithm::PS256 => Algorithm::PS256,
        KeyAlgorithm::PS384 => Algorithm::PS384,
        KeyAlgorithm::PS512 => Algorithm::PS512,
        KeyAlgorithm::ES256 => Algorithm::ES256,
        KeyAlgorithm::ES384 => Algorithm::ES384,
        KeyAlgorithm::EdDSA => Algorithm::EdDSA,
        _ => return None,
    })
}

fn family_of(alg: Algorithm) -> Family {
    match alg {
        Algorithm::ES256 | Algorithm::ES384 => Family::Ec,
        Algorithm::EdDSA => Family::Ed,
        _ => Family::Rsa,
    }
}
