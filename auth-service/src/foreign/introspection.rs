//! Asking another issuer about a token (RFC 7662): rarely, a few at a time, and believing the answer for a bounded time.
//!
//! An answer is used for half the time that it may be believed; from then on it is asked for again with the next question, and serves for the
//! rest of its time only if there is no answer. So whoever is told may believe it for half the time at least, and asks ahead of its end.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cloakroom_protocol::policy_ref::PolicyRef;
use cloakroom_protocol::presented::ForeignToken;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::Deserialize;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::allowance::Allowances;
use super::object::Object;
use crate::clock::Clock;
use crate::config::IntrospectionEndpoint;
use crate::jwks::JwksError;
use crate::outgoing::Connections;

/// Questions under way about tokens that were good a moment ago, and as many about others: junk cannot take the places of the former.
const AT_ONCE: usize = 32;
/// Turn and answer: so that what was said last can serve before whoever asks has given up.
const WITHIN: Duration = Duration::from_millis(1200);
/// Bytes of an answer.
const MAX_ANSWER: usize = 64 << 10;
/// Bytes of all answers that are kept.
const KEPT: u64 = 32 << 20;
const KEPT_REFUSALS: usize = 16_384;
/// What is no token now hardly becomes one.
const REFUSED_FOR_MS: u64 = 5_000;

pub(super) struct Introspection {
    endpoint: Arc<Endpoint>,
    /// Milliseconds that an answer may be believed.
    believe: u64,
    good: Cache<Fingerprint, Good, ByBytes>,
    /// Until when, Unix milliseconds.
    refused: Cache<Fingerprint, u64>,
    allowances: Allowances,
    known_at_once: Semaphore,
    others_at_once: Semaphore,
    under_way: Mutex<HashMap<Fingerprint, Asking>>,
}

/// What the issuer said, and for how much longer it may be believed.
pub(super) struct Said {
    /// `None`: not active.
    pub(super) claims: Option<Arc<Object>>,
    pub(super) believe_ms: u64,
}

type Fingerprint = [u8; 32];
type Asking = Shared<BoxFuture<'static, Result<Answer, String>>>;

#[derive(Clone)]
struct Good {
    claims: Arc<Object>,
    /// When it was asked for, Unix milliseconds.
    asked: u64,
    bytes: usize,
}

#[derive(Clone)]
enum Answer {
    Active(Good),
    Inactive,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Fingerprint, Good> for ByBytes {
    fn weight(&self, _: &Fingerprint, good: &Good) -> u64 {
        // What JSON becomes in memory is about twice as large.
        256 + 2 * good.bytes as u64
    }
}

struct Endpoint {
    url: http::Uri,
    client_id: String,
    client_secret_file: PathBuf,
    connections: Connections,
}

impl Introspection {
    pub(super) fn new(config: &IntrospectionEndpoint, believe_seconds: u64, clock: &Clock) -> Result<Self, JwksError> {
        let url = config.url.parse().map_err(|error| JwksError::Source(format!("{}: {error}", config.url)))?;
        Ok(Self {
            endpoint: Arc::new(Endpoint {
                url,
                client_id: config.client_id.clone(),
                client_secret_file: config.client_secret_file.clone(),
                connections: Connections::new(config.ca_file.clone(), MAX_ANSWER, clock.clone()),
            }),
            believe: believe_seconds * 1000,
            good: Cache::with_weighter(4096, KEPT, ByBytes),
            refused: Cache::new(KEPT_REFUSALS),
            allowances: Allowances::default(),
            known_at_once: Semaphore::new(AT_ONCE),
            others_at_once: Semaphore::new(AT_ONCE),
            under_way: Mutex::default(),
        })
    }

    /// An error is an outage: theirs, or junk in such numbers that nobody is asked any more.
    pub(super) async fn ask(&self, token: &ForeignToken, policy: &PolicyRef, clock: &Clock) -> Result<Said, String> {
        let (fingerprint, now) = (token.fingerprint(), clock.millis());
        if self.refused.get(&fingerprint).is_some_and(|until| now < until) {
            return Ok(Said { claims: None, believe_ms: 0 });
        }
        let known = self.good.get(&fingerprint);
        if let Some(known) = known.as_ref().filter(|known| now < known.asked + self.believe / 2) {
            return Ok(self.said(known, now));
        }
        let answer = async {
            let _place = self.admit(known.is_some(), policy, now).await?;
            self.answer(token, fingerprint, clock).await
        };
        let answered = tokio::time::timeout(WITHIN, answer).await;
        let answered = answered.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let now = clock.millis();
        match (answered, known) {
            (Ok(Answer::Active(good)), _) => {
                self.good.insert(fingerprint, good.clone());
                Ok(self.said(&good, now))
            }
            (Ok(Answer::Inactive), known) => {
                if known.is_none() {
                    self.allowances.spend(policy, now);
                }
                self.good.remove(&fingerprint);
                self.refused.insert(fingerprint, now + REFUSED_FOR_MS);
                Ok(Said { claims: None, believe_ms: 0 })
            }
            (Err(why), Some(known)) if now < known.asked + self.believe => {
                tracing::warn!(error = why, "another issuer does not answer; what it said last holds for a moment");
                Ok(self.said(&known, now))
            }
            (Err(why), _) => Err(why),
        }
    }

    fn said(&self, good: &Good, now: u64) -> Said {
        let believe_ms = (good.asked + self.believe).saturating_sub(now);
        Said { claims: Some(Arc::clone(&good.claims)), believe_ms }
    }

    async fn admit(
        &self,
        known: bool,
        policy: &PolicyRef,
        now: u64,
    ) -> Result<tokio::sync::SemaphorePermit<'_>, String> {
        if !known && !self.allowances.has_any(policy, now) {
            return Err(format!("clients of policy {policy} have sent too many tokens that are none"));
        }
        let places = if known { &self.known_at_once } else { &self.others_at_once };
        places.acquire().await.map_err(|error| error.to_string())
    }

    /// One question for all who want to know at once; their own is not older than the answer's.
    async fn answer(&self, token: &ForeignToken, fingerprint: Fingerprint, clock: &Clock) -> Result<Answer, String> {
        let asking = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = || {
                let (endpoint, token, clock) = (Arc::clone(&self.endpoint), token.clone(), clock.clone());
                async move { endpoint.ask(&token, &clock).await }.boxed().shared()
            };
            under_way.entry(fingerprint).or_insert_with(begin).clone()
        };
        let forget = Forget { introspection: self, fingerprint };
        let answer = asking.await;
        drop(forget);
        answer
    }
}

/// Whoever goes away, answered or not, leaves nothing behind that others would wait for.
struct Forget<'a> {
    introspection: &'a Introspection,
    fingerprint: Fingerprint,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.introspection.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.fingerprint);
    }
}

impl Endpoint {
    async fn ask(&self, token: &ForeignToken, clock: &Clock) -> Result<Answer, String> {
        let asked = clock.millis();
        let request = self.request(token).await?;
        let answer = self.connections.send(request).await?;
        // Anything but a whole answer is an outage. A redirect is none: the token is for nobody else.
        if answer.status() != StatusCode::OK {
            return Err(format!("{}: {}", self.url, answer.status()));
        }
        read(answer.body(), asked).map_err(|error| format!("{}: {error}", self.url))
    }

    async fn request(&self, token: &ForeignToken) -> Result<Request<Full<Bytes>>, String> {
        let path = &self.client_secret_file;
        let secret = tokio::fs::read_to_string(path).await.map_err(|error| format!("{}: {error}", path.display()))?;
        let secret = Zeroizing::new(secret);
        // RFC 6749 §2.3.1
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = Zeroizing::new(format!("{}:{}", encode(&self.client_id), encode(secret.trim())));
        let mut authorization = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
            .map_err(|error| format!("client_id and client_secret_file: {error}"))?;
        authorization.set_sensitive(true);
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token.expose())
            .append_pair("token_type_hint", "access_token")
            .finish();
        Request::post(self.url.clone())
            .header(header::AUTHORIZATION, authorization)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(Full::from(form))
            .map_err(|error| error.to_string())
    }
}

/// RFC 7662 §2.2
fn read(body: &Bytes, asked: u64) -> Result<Answer, serde_json::Error> {
    #[derive(Deserialize)]
    struct Status {
        active: bool,
    }
    let claims: Object = serde_json::from_slice(body)?;
    let Status { active } = serde_json::from_slice(body)?;
    let good = Good { claims: Arc::new(claims), asked, bytes: body.len() };
    Ok(if active { Answer::Active(good) } else { Answer::Inactive })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_says_anything() {
        let read = |text: &'static str| read(&Bytes::from_static(text.as_bytes()), 1);
        assert!(matches!(read(r#"{"active":true,"sub":"ann"}"#), Ok(Answer::Active(_))));
        assert!(matches!(read(r#"{"active":false}"#), Ok(Answer::Inactive)));
        for broken in
            ["", "{}", "null", "true", r#"{"active":"true"}"#, r#"{"active":1}"#, r#"{"active":false,"active":true}"#]
        {
            assert!(read(broken).is_err(), "{broken}");
        }
    }
}
